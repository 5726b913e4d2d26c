"""The Buildbucket client: deadlines, and failures before a request is sent."""

import gzip
from functools import partial

import google.auth.exceptions
import pytest
import requests

from emulator.clock import SteppedClock
from luci_scheduler.adapters import rest
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.untrusted import MAX_VALUES
from luci_scheduler.ports import BuildbucketError
from tests.answering import Answer, answering
from tests.unit.adapters.dripping import HALF_A_HEAD, HEAD, dripping
from tests.unit.engine.world import World

NOW = Instant(100 * SECOND)


def client(url: str, deadline: int = 5 * SECOND) -> BuildbucketClient:
    """Return a client for which ``url`` is the address of every host."""
    return BuildbucketClient(lambda _: url, sessions(authenticated=False), SteppedClock(NOW), deadline)


class NoToken(requests.Session):
    """The session of a service account whose token is not available just now."""

    def request(self, *_: object, **__: object) -> requests.Response:
        """Fail like the library."""
        raise google.auth.exceptions.TransportError("what the metadata server said: secret")


@pytest.mark.parametrize("beginning", [HEAD, HALF_A_HEAD])
def test_a_call_ends_at_its_deadline(beginning: bytes) -> None:
    """A call ends at its deadline even if the answer arrives in pieces of any size."""
    with dripping(beginning) as url, pytest.raises(BuildbucketError, match="no complete answer in time") as late:
        client(url, SECOND // 4).v2("host", "ScheduleBuild", {})
    assert (late.value.code, late.value.transient) == ("DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_call_ends_when_the_attempt_ends(protocol: str) -> None:
    """The attempt may end before the call's own deadline."""
    until = Instant(NOW + SECOND // 4)
    with dripping(HEAD) as url:
        asked = client(url, 600 * SECOND)
        call = (
            partial(asked.v1, "host", "PUT", "builds", {}) if protocol == "v1" else partial(asked.v2, "host", "M", {})
        )
        with pytest.raises(BuildbucketError, match="no complete answer in time"):
            call(until=until)


def test_no_request_is_sent_after_the_attempt() -> None:
    """No server listens there, so a request would cause another error."""
    with pytest.raises(BuildbucketError, match="no complete answer in time") as late:
        client("http://127.0.0.1:1").v2("host", "ScheduleBuild", {}, until=NOW)
    assert late.value.transient
    with pytest.raises(BuildbucketError, match="no answer: ConnectionError"):
        client("http://127.0.0.1:1").v2("host", "ScheduleBuild", {})


def test_a_missing_token_is_a_failure_like_any_other() -> None:
    """The launch is retried, and its log says so without the library's text."""
    session = NoToken()
    failing = BuildbucketClient(lambda _: "http://127.0.0.1:1", lambda: session, SteppedClock(NOW), 5 * SECOND)
    with pytest.raises(BuildbucketError, match="no answer") as raised:
        failing.v1("host", "GET", "search")
    assert (str(raised.value), raised.value.transient) == ("UNAVAILABLE: no answer: TransportError", True)
    world = World()
    failing = BuildbucketClient(lambda _: "http://127.0.0.1:1", lambda: session, world.clock, 5 * SECOND)
    world.buildbucket.v2 = failing.v2  # type: ignore[method-assign]
    world.commit()
    assert world.invocations()[0].status is Status.RETRYING
    assert "Failed to schedule Buildbucket build - UNAVAILABLE: no answer: TransportError\n" in world.log()


def test_v1_refusals_need_the_services_own_error() -> None:
    """Its JSON error object is final. A page or a redirect of a server in front may not come the next time."""
    own = b'{"error": {"message": "User anonymous cannot access bucket"}}'
    json_type = {"Content-Type": "application/json"}
    page = {"Content-Type": "text/html"}
    with answering() as server:
        for answer, transient in (
            (Answer(400, own, json_type), False),
            (Answer(403, own, json_type), False),
            (Answer(429, own, json_type), True),
            (Answer(500, own, json_type), True),
            (Answer(403, b"Forbidden", {"Content-Type": "text/plain"}), True),
            (Answer(403, b"{}", json_type), True),
            (Answer(404, b"<html>", page), True),
            (Answer(302, b"", {"Location": f"{server.url}/login"}), True),
        ):
            server.answers, server.paths = [answer], []
            with pytest.raises(BuildbucketError) as raised:
                client(server.url).v1("host", "PUT", "builds", {})
            assert (raised.value.code, raised.value.transient) == (f"HTTP {answer.status}", transient), answer
            assert len(server.paths) == 1  # a redirect would carry the token to another server


def test_an_error_carries_the_pause_that_the_server_requests() -> None:
    """A date counts from the scheduler's clock, which is 100 s after the epoch here."""
    with answering() as server:
        server.answers = [Answer(429, b"", {"Retry-After": "Thu, 01 Jan 1970 00:02:10 GMT"})]
        with pytest.raises(BuildbucketError) as raised:
            client(server.url).v2("host", "ScheduleBuild", {})
        assert (raised.value.throttled, raised.value.retry_after) == (True, 30 * SECOND)


def test_an_answer_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit applies to the unpacked answer. The next answer may be smaller."""
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 1000)
    body = b'{"id": "1", "summaryMarkdown": "' + b"x" * 10_000 + b'"}'
    with answering() as server:
        headers = {"X-Prpc-Grpc-Code": "0", "Content-Encoding": "gzip"}
        server.answers = [Answer(200, gzip.compress(body), headers)]
        with pytest.raises(BuildbucketError, match="more than 1000 bytes") as raised:
            client(server.url).v2("host", "GetBuild", {})
    assert raised.value.transient


def test_the_values_of_an_answer_are_counted_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next answer may be smaller."""
    monkeypatch.setattr(rest, "read_answer", lambda _: pytest.fail("nothing may be parsed"))
    with answering() as server:
        server.answers = [Answer(200, b'{"a":[0' + b",0" * MAX_VALUES + b"]}", {"X-Prpc-Grpc-Code": "0"})]
        with pytest.raises(BuildbucketError, match=f"more than {MAX_VALUES} values") as raised:
            client(server.url).v2("host", "GetBuild", {})
    assert raised.value.transient


def test_the_text_of_a_server_is_one_line_without_secrets() -> None:
    """Line breaks, control characters and tokens in an error's text are escaped or redacted."""
    said = b"no\n[12:00:00.000] forged \x1b[31m \xe2\x80\xae Authorization: Bearer abcdefgh"
    with answering() as server:
        server.answers = [Answer(403, said, {"X-Prpc-Grpc-Code": "7"})]
        with pytest.raises(BuildbucketError) as raised:
            client(server.url).v2("host", "GetBuild", {})
    assert str(raised.value) == (
        "PERMISSION_DENIED: no\\n[12:00:00.000] forged \\x1b[31m \\u202e Authorization: Bearer [redacted]"
    )
