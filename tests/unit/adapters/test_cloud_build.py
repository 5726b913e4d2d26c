"""The client of Cloud Build: limits of time, redirects, foreign answers, and failures before a request is sent."""

from __future__ import annotations

import json

import google.auth.exceptions
import pytest
import requests

from emulator.clock import SteppedClock
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.untrusted import MAX_VALUES
from luci_scheduler.ports import CloudBuildError
from tests.answering import Answer, answering
from tests.unit.adapters.dripping import HALF_A_HEAD, HEAD, dripping

NOW = Instant(100 * SECOND)
BUILDS = "/v1/projects/p/locations/l/builds"


def _client(url: str) -> CloudBuildClient:
    return CloudBuildClient(url, sessions(authenticated=False), SteppedClock(NOW))


def _error(status: int, code: str, **more: object) -> Answer:
    return Answer(status, json.dumps({"error": {"code": status, "status": code, "message": "words", **more}}).encode())


@pytest.mark.parametrize("beginning", [HEAD, HALF_A_HEAD])
@pytest.mark.parametrize("limits", [{"seconds": 0.25}, {"seconds": 600, "until": Instant(NOW + SECOND // 4)}])
def test_a_call_ends_at_its_deadline(beginning: bytes, limits: dict[str, float]) -> None:
    """A call ends in time even if the answer arrives in pieces of any size."""
    with dripping(beginning) as url, pytest.raises(CloudBuildError, match="no complete answer in time") as late:
        _client(url).call("GET", BUILDS, **limits)  # type: ignore[arg-type]
    assert (late.value.code, late.value.transient) == ("DEADLINE_EXCEEDED", True)


def test_no_request_is_sent_after_the_attempt() -> None:
    """No server listens there, so a request would cause another error."""
    client = _client("http://127.0.0.1:1")
    with pytest.raises(CloudBuildError, match="no complete answer in time"):
        client.call("GET", BUILDS, seconds=5, until=NOW)
    with pytest.raises(CloudBuildError, match="no answer: ConnectionError") as refused:
        client.call("GET", BUILDS, seconds=5)
    assert (refused.value.code, refused.value.transient) == ("UNAVAILABLE", True)


def test_a_missing_token_is_a_failure_like_any_other() -> None:
    """The library's text, which may hold a secret, is left out."""

    class NoToken(requests.Session):
        def request(self, *_: object, **__: object) -> requests.Response:
            raise google.auth.exceptions.TransportError("what the metadata server said: secret")

    client = CloudBuildClient("http://127.0.0.1:1", NoToken, SteppedClock(NOW))
    with pytest.raises(CloudBuildError) as raised:
        client.call("GET", BUILDS, seconds=5)
    assert str(raised.value) == "UNAVAILABLE: no answer: TransportError"


def test_a_request_is_sent_as_given() -> None:
    """Path, query and body; a redirect is not followed, because it would carry the token elsewhere."""
    bodies: list[object] = []

    def answer(_: str, body: object) -> Answer:
        bodies.append(body)
        return Answer(200, b'{"name": "operations/x"}')

    with answering() as server:
        server.otherwise = answer
        client = _client(f"{server.url}/")
        assert client.call("POST", BUILDS, {"a": "\u00e9"}, seconds=5) == {"name": "operations/x"}
        server.answers = [Answer(302, b"", {"Location": "https://x.invalid"})]
        with pytest.raises(CloudBuildError, match="HTTP 302 without an error object"):
            client.call("GET", BUILDS, None, [("filter", 'tags="x"'), ("pageSize", "20")], seconds=5)
    assert bodies == [{"a": "\u00e9"}]
    assert server.paths == [BUILDS, f"{BUILDS}?filter=tags%3D%22x%22&pageSize=20"]


@pytest.mark.parametrize(
    ("answer", "code", "transient", "throttled"),
    [
        (_error(400, "INVALID_ARGUMENT"), "INVALID_ARGUMENT", False, False),
        (_error(400, "FAILED_PRECONDITION"), "FAILED_PRECONDITION", False, False),
        (_error(401, "UNAUTHENTICATED"), "UNAUTHENTICATED", False, False),
        (_error(403, "PERMISSION_DENIED"), "PERMISSION_DENIED", False, False),
        (_error(404, "NOT_FOUND"), "NOT_FOUND", False, False),
        (_error(409, "ABORTED"), "ABORTED", True, False),
        (_error(409, "ALREADY_EXISTS"), "ALREADY_EXISTS", False, False),
        (_error(412, "FAILED_PRECONDITION"), "FAILED_PRECONDITION", False, False),
        (_error(429, "RESOURCE_EXHAUSTED"), "RESOURCE_EXHAUSTED", True, True),
        (_error(499, "CANCELLED"), "CANCELLED", True, False),
        (_error(500, "INTERNAL"), "INTERNAL", True, False),
        (_error(500, "UNKNOWN"), "UNKNOWN", True, False),
        (_error(503, "UNAVAILABLE"), "UNAVAILABLE", True, False),
        (_error(504, "DEADLINE_EXCEEDED"), "DEADLINE_EXCEEDED", True, False),
        (Answer(403, b"<html>Forbidden</html>"), "PERMISSION_DENIED", True, False),
        (Answer(404, b'{"error": "text"}'), "NOT_FOUND", True, False),
        (Answer(429, b""), "RESOURCE_EXHAUSTED", True, True),
        (Answer(418, b"{}"), "UNKNOWN", True, False),
        (Answer(200, b"<html>"), "UNKNOWN", True, False),
        (Answer(200, b"[]"), "UNKNOWN", True, False),
        (Answer(200, b"[" * (MAX_VALUES + 1)), "UNKNOWN", True, False),
    ],
)
def test_an_error_is_judged_by_the_words_of_the_service(
    answer: Answer, code: str, transient: bool, throttled: bool
) -> None:
    """Another server in front of Cloud Build proves nothing, and its page stays out of the text."""
    with answering(answer) as server, pytest.raises(CloudBuildError) as raised:
        _client(server.url).call("GET", BUILDS, seconds=5)
    error = raised.value
    assert (error.code, error.transient, error.throttled) == (code, transient, throttled)
    assert "<" not in str(error)


def test_the_reason_of_a_refusal_is_kept() -> None:
    """The service's word names the cause, and the requested wait counts."""
    details = [5, {"@type": "x"}, {"reason": "BILLING_DISABLED"}]
    denied = _error(403, "PERMISSION_DENIED", details=details)
    with answering() as server:
        server.answers = [denied, Answer(503, b"", {"Retry-After": "7"})]
        with pytest.raises(CloudBuildError, match=r"PERMISSION_DENIED: words \(BILLING_DISABLED\)") as raised:
            _client(server.url).call("GET", BUILDS, seconds=5)
        assert raised.value.reason == "BILLING_DISABLED"
        with pytest.raises(CloudBuildError) as later:
            _client(server.url).call("GET", BUILDS, seconds=5)
        assert later.value.retry_after == 7 * SECOND
