"""The Buildbucket client: deadlines, and what goes wrong before a request is sent."""

from functools import partial

import google.auth.exceptions
import pytest
import requests

from emulator.memory.sources import ManualClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.ports import BuildbucketError
from tests.unit.adapters.dripping import HALF_A_HEAD, HEAD, dripping
from tests.unit.engine.world import World

NOW = Instant(100 * SECOND)


def client(url: str, deadline: int = 5 * SECOND) -> BuildbucketClient:
    """Return a client for which ``url`` stands for every host."""
    return BuildbucketClient(lambda _: url, sessions(authenticated=False), ManualClock(NOW), deadline)


class NoToken(requests.Session):
    """The session of a service account whose token cannot be had just now."""

    def request(self, *_: object, **__: object) -> requests.Response:
        """Fail as the library does."""
        raise google.auth.exceptions.TransportError("what the metadata server said: secret")


@pytest.mark.parametrize("beginning", [HEAD, HALF_A_HEAD])
def test_a_call_ends_at_its_deadline(beginning: bytes) -> None:
    """Whatever of the answer drips, and however small the pieces are."""
    with dripping(beginning) as url, pytest.raises(BuildbucketError, match="no complete answer in time") as late:
        client(url, SECOND // 4).v2("host", "ScheduleBuild", {})
    assert (late.value.code, late.value.transient) == ("DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_call_ends_when_the_attempt_ends(protocol: str) -> None:
    """Which may be sooner than its own deadline."""
    until = Instant(NOW + SECOND // 4)
    with dripping(HEAD) as url:
        asked = client(url, 600 * SECOND)
        call = (
            partial(asked.v1, "host", "PUT", "builds", {}) if protocol == "v1" else partial(asked.v2, "host", "M", {})
        )
        with pytest.raises(BuildbucketError, match="no complete answer in time"):
            call(until=until)


def test_nothing_is_sent_once_the_attempt_is_over() -> None:
    """Nobody listens there: the error would be another one."""
    with pytest.raises(BuildbucketError, match="no complete answer in time") as late:
        client("http://127.0.0.1:1").v2("host", "ScheduleBuild", {}, until=NOW)
    assert late.value.transient
    with pytest.raises(BuildbucketError, match="no answer: ConnectionError"):
        client("http://127.0.0.1:1").v2("host", "ScheduleBuild", {})


def test_a_missing_token_is_a_failure_like_any_other() -> None:
    """The launch is tried again, and its log says so without what the library says."""
    session = NoToken()
    failing = BuildbucketClient(lambda _: "http://127.0.0.1:1", lambda: session, ManualClock(NOW), 5 * SECOND)
    with pytest.raises(BuildbucketError, match="no answer") as raised:
        failing.v1("host", "GET", "search")
    assert (str(raised.value), raised.value.transient) == ("UNAVAILABLE: no answer: TransportError", True)
    world = World()
    failing = BuildbucketClient(lambda _: "http://127.0.0.1:1", lambda: session, world.clock, 5 * SECOND)
    world.buildbucket.v2 = failing.v2  # type: ignore[method-assign]
    world.commit()
    assert world.invocations()[0].status is Status.RETRYING
    assert "Failed to schedule Buildbucket build - UNAVAILABLE: no answer: TransportError\n" in world.log()
