"""The control endpoint: paths, bodies, errors, and the handlers that all servers have."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from emulator.serving.control import ControlEndpoint, Handler, state_handlers
from emulator.serving.emulated_server import ServerState
from emulator.serving.faults import Faults

JSON = "application/json"


@dataclass(slots=True)
class Fault:
    """A fault with a number only."""

    times: int | None = 1


def call(endpoint: ControlEndpoint, method: str, path: str, body: Any = None, content_type: str = JSON) -> Response:
    """Send a request to an endpoint."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return endpoint(Request(EnvironBuilder(method=method, data=data, content_type=content_type).get_environ()), path)


@pytest.fixture
def endpoint() -> ControlEndpoint:
    """An endpoint that returns bodies, reads a field of them, or fails as a body says."""

    def fail(body: Any) -> None:
        raise {"key": KeyError, "type": TypeError, "value": ValueError}[body["kind"]]("reason")

    handlers: dict[tuple[str, str], Handler] = {
        ("POST", "echo"): lambda body: body,
        ("POST", "none"): lambda _body: None,
        ("POST", "fail"): fail,
        ("GET", "text"): lambda _body: ["text"],
        ("GET", "bytes"): lambda _body: {"value": b"x"},
    }
    return ControlEndpoint(lambda method, path: handlers.get((method, path)))


def test_a_result_is_returned_as_json(endpoint: ControlEndpoint) -> None:
    response = call(endpoint, "GET", "text")
    assert (response.status_code, response.mimetype, response.get_json()) == (200, JSON, ["text"])


def test_a_handler_without_a_result_returns_an_empty_object(endpoint: ControlEndpoint) -> None:
    assert call(endpoint, "POST", "none", {}).get_json() == {}


def test_a_missing_body_is_an_empty_object(endpoint: ControlEndpoint) -> None:
    assert call(endpoint, "POST", "echo", content_type="").get_json() == {}


def test_a_value_that_json_lacks_is_returned_as_text(endpoint: ControlEndpoint) -> None:
    assert call(endpoint, "GET", "bytes").get_json() == {"value": "b'x'"}


@pytest.mark.parametrize(("method", "path"), [("GET", "echo"), ("POST", "nothing")])
def test_an_unknown_path_or_method_is_404(endpoint: ControlEndpoint, method: str, path: str) -> None:
    response = call(endpoint, method, path)
    assert (response.status_code, response.get_json()) == (404, {"error": f"no {method} /control/{path}"})


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_not_declared_as_json_gets_415(endpoint: ControlEndpoint, content_type: str) -> None:
    """A page of another site can send such a body without asking the server first."""
    response = call(endpoint, "POST", "echo", {}, content_type)
    assert (response.status_code, response.get_json()) == (415, {"error": "the body must be application/json"})


@pytest.mark.parametrize("body", [b"{", b"\xff", b"nonsense", pytest.param(b"[" * 100_000, id="deep")])
def test_a_body_that_is_not_json_gets_400(endpoint: ControlEndpoint, body: bytes) -> None:
    assert call(endpoint, "POST", "echo", body).status_code == 400


@pytest.mark.parametrize("body", [[], "text", 1, None])
def test_a_body_that_is_not_an_object_gets_400(endpoint: ControlEndpoint, body: Any) -> None:
    response = call(endpoint, "POST", "echo", json.dumps(body).encode())
    assert (response.status_code, response.get_json()) == (400, {"error": "the body must be a JSON object"})


@pytest.mark.parametrize(
    ("kind", "text"),
    [("key", "KeyError: 'reason'"), ("type", "TypeError: reason"), ("value", "ValueError: reason")],
)
def test_an_unreadable_field_is_400_with_the_error(endpoint: ControlEndpoint, kind: str, text: str) -> None:
    response = call(endpoint, "POST", "fail", {"kind": kind})
    assert (response.status_code, response.get_json()) == (400, {"error": text})


def test_every_server_shows_and_clears_its_faults_and_requests() -> None:
    state: ServerState[Faults[Fault], Fault] = ServerState(Faults())
    endpoint = ControlEndpoint(lambda method, path: state_handlers(state).get((method, path)))
    state.faults.add(Fault(times=3))
    state.log.add(Fault(times=7))
    assert call(endpoint, "GET", "faults").get_json() == [{"times": 3}]
    assert call(endpoint, "GET", "requests").get_json() == [{"times": 7}]
    assert call(endpoint, "DELETE", "faults").get_json() == {}
    assert (state.faults.active(), len(state.log.all())) == ([], 1)
    assert call(endpoint, "DELETE", "requests").get_json() == {}
    assert state.log.all() == []
