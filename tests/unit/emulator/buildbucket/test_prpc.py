"""The pRPC transport: headers, bodies and replies."""

import base64
import gzip
import json
import random
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from emulator.buildbucket import prpc

JSON = "application/json"


def call(body: Any = b"{}", method: str = "POST", **headers: str | None) -> prpc.Call:
    """Parse a request; a header of None is not sent."""
    sent = {"Accept": JSON, "Content-Type": JSON}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**sent, **named}.items() if value is not None}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return prpc.parse(Request(EnvironBuilder(method=method, data=data, headers=sent).get_environ()), "s", "m")


def refusal(*arguments: Any, **headers: str | None) -> prpc.RpcError:
    """Return the error of a request."""
    with pytest.raises(prpc.RpcError) as caught:
        call(*arguments, **headers)
    return caught.value


def test_a_request() -> None:
    parsed = call({"id": "1"}, X_Prpc_Grpc_Timeout="5S", X_Prpc_Max_Response_Size="100")
    assert parsed == prpc.Call("s", "m", {"id": "1"}, 5 * 10**9, 100)
    assert call() == prpc.Call("s", "m", {}, None, None)


@pytest.mark.parametrize(
    ("text", "timeout"),
    [("1H", 3_600 * 10**9), ("2M", 120 * 10**9), ("3S", 3 * 10**9), ("4m", 4_000_000), ("5u", 5_000), ("6n", 6)],
)
def test_the_units_of_a_timeout(text: str, timeout: int) -> None:
    assert call(X_Prpc_Grpc_Timeout=text).timeout == timeout


@pytest.mark.parametrize("text", ["", "5", "5s", "S", "-1S", "1.5S", "5SS"])
def test_a_bad_timeout(text: str) -> None:
    error = refusal(X_Prpc_Grpc_Timeout=text)
    assert (error.code, error.message) == (3, f'invalid X-Prpc-Grpc-Timeout header "{text}"')


@pytest.mark.parametrize("text", ["", "0", "-1", "x"])
def test_a_bad_response_limit(text: str) -> None:
    assert refusal(X_Prpc_Max_Response_Size=text).message == f'invalid X-Prpc-Max-Response-Size header "{text}"'


@pytest.mark.parametrize(
    "accept", [JSON, "application/prpc; encoding=json", "text/html, application/json", "application/json;q=0.5"]
)
def test_json_is_accepted(accept: str) -> None:
    assert call(Accept=accept).message == {}


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "application/prpc; encoding=binary",
        "*/*",
        "text/html",
        "application/json;q=0",
        "application/grpc, application/json;q=0.5",
    ],
)
def test_a_client_that_does_not_accept_json_gets_406(accept: str | None) -> None:
    assert refusal(Accept=accept).status == 406


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (None, "the request is binary; this server speaks JSON only"),
        ("application/prpc", "the request is binary; this server speaks JSON only"),
        ("text/plain", 'bad Content-Type header: unexpected media type "text/plain"'),
    ],
)
def test_another_content_type_is_refused_with_415(content_type: str | None, text: str) -> None:
    error = refusal(Content_Type=content_type)
    assert (error.status, error.message) == (415, text)


def test_only_post_is_served() -> None:
    error = refusal(b"", "GET")
    assert (error.status, error.code, error.own_text) == (405, 12, True)


@pytest.mark.parametrize("body", [b"", b"{", b"nul", b"\xff", b'{"a": NaN}', b"[Infinity]"])
def test_a_body_that_is_not_json(body: bytes) -> None:
    error = refusal(body)
    assert (error.code, error.status) == (3, 400)
    assert error.message.startswith("could not decode body: ")


def test_a_compressed_body() -> None:
    assert call(gzip.compress(b'{"a": 1}'), Content_Encoding="gzip").message == {"a": 1}
    assert refusal(b"{}", Content_Encoding="gzip").message.startswith("could not decompress the request: ")


def test_a_body_has_a_limit_before_and_after_decompression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prpc, "MAX_REQUEST", 10)
    assert refusal(b" " * 11).message == "the request is too large"
    bomb = gzip.compress(b" " * 1_000)
    monkeypatch.setattr(prpc, "MAX_REQUEST", len(bomb))
    error = refusal(bomb, Content_Encoding="gzip")
    assert (error.message, error.code) == ("the decompressed request is too large", 14)


def test_binary_metadata_is_base64() -> None:
    call(X_Some_Bin=base64.b64encode(b"x").decode())
    assert refusal(X_Some_Bin="!").message.startswith('invalid "X-Some-Bin" header: ')


class TestReplies:
    """Replies and their headers."""

    def success(self, message: Any, limit: int | None = None) -> Any:
        """Return a successful reply."""
        return prpc.success(prpc.Call("s", "m", {}, None, limit), message, random.Random(1))  # noqa: S311

    def test_a_success_has_a_guard_and_code_0(self) -> None:
        response = self.success({"a": "ü"})
        assert response.get_data().startswith(b")]}'\n")
        assert json.loads(response.get_data()[5:]) == {"a": "ü"}
        assert (response.status_code, response.headers["X-Prpc-Grpc-Code"], response.mimetype) == (200, "0", JSON)
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_a_reply_above_the_clients_limit_is_an_error_with_details(self) -> None:
        response = self.success({"a": "x" * 100}, limit=50)
        assert (response.status_code, response.headers["X-Prpc-Grpc-Code"]) == (503, "14")
        detail = json.loads(base64.b64decode(response.headers["X-Prpc-Status-Details-Bin"]))
        assert detail["responseTooBig"]["responseSizeLimit"] == "50"
        assert b"exceeds the client limit 50" in response.get_data()

    @pytest.mark.parametrize(
        ("code", "status", "text"),
        [
            (1, 499, "said"), (3, 400, "said"), (5, 404, "said"), (6, 409, "said"), (7, 403, "said"), (8, 429, "said"),
            (16, 401, "said"), (2, 500, "Unknown server error"), (4, 504, "Request deadline exceeded"),
            (12, 501, "API method not implemented by the server"), (13, 500, "Internal server error"),
            (14, 503, "Service unavailable"), (15, 500, "Unrecoverable data loss or data corruption"),
        ],
    )  # fmt: skip
    def test_the_status_and_text_of_a_code(self, code: int, status: int, text: str) -> None:
        """From 500 on the service replaces the text."""
        response = prpc.failure(prpc.RpcError(code, "said"))
        assert (response.status_code, response.get_data(as_text=True)) == (status, f"{text}\n")
        assert response.headers["X-Prpc-Grpc-Code"] == str(code)

    def test_an_error_may_keep_its_text(self) -> None:
        assert prpc.failure(prpc.RpcError(13, "said", own_text=True)).get_data() == b"said\n"
