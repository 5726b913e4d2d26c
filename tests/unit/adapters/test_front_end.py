"""The reader of the service's own invoker policy: its requests, the age of an answer that counts, and its failures."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from emulator.clock import SteppedClock
from luci_scheduler.adapters.front_end import FrontEnd
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from tests.answering import Answer, Answering, answering
from tests.waiting import until

SERVICE = "projects/p/locations/us-central1/services/console"
CLOSED: list[str] = ["user:you@example.com"]
OPEN = ["allUsers"]
TRUSTED, REFUSED, UNKNOWN = "trusted", "refused", "unknown"


class RunApi:
    """The Cloud Run Admin API for one service, and the front end that reads it."""

    def __init__(self, server: Answering) -> None:
        self.server = server
        self.clock = SteppedClock(Instant(1_773_756_310 * SECOND))
        self.members = CLOSED
        self.service: dict[str, Any] = {"name": SERVICE}
        self.status = 200
        self.barrier: threading.Barrier | None = None
        server.otherwise = self._answer
        self.front_end = self.make()

    def make(self, url: str = "", limit: float = 10.0) -> FrontEnd:
        return FrontEnd(sessions(authenticated=False), url or self.server.url, SERVICE, self.clock, limit)

    @property
    def reads(self) -> int:
        """The number of readings that have begun."""
        return sum(not path.partition(":")[2] for path in self.server.paths)

    def ask(self, front_end: FrontEnd | None = None) -> str:
        try:
            (front_end or self.front_end).require_check()
        except UnauthenticatedError:
            return REFUSED
        except TransientError:
            return UNKNOWN
        return TRUSTED

    def _answer(self, path: str, _: Any) -> Answer:
        if self.status != 200:
            return Answer(self.status, b"{}", {"Location": "/elsewhere"})
        if ":getIamPolicy" not in path:
            return Answer(200, json.dumps(self.service).encode())
        policy = {"etag": "x", "bindings": [{"role": "roles/run.invoker", "members": self.members}]}
        return Answer(200, json.dumps(policy).encode())


@pytest.fixture(name="api")
def _api() -> Iterator[RunApi]:
    with answering() as server:
        yield RunApi(server)


def test_the_service_and_its_policy_are_read(api: RunApi) -> None:
    """Version 3 is requested, or the answer would lack grants under a condition."""
    assert api.ask() == TRUSTED
    assert api.server.paths == [f"/v2/{SERVICE}", f"/v2/{SERVICE}:getIamPolicy?options.requestedPolicyVersion=3"]


def test_an_open_service_is_refused_with_the_reason(api: RunApi) -> None:
    """Either way to open a service counts."""
    api.members = OPEN
    with pytest.raises(UnauthenticatedError, match=r"does not count: .* grants roles/run\.invoker to allUsers"):
        api.front_end.require_check()
    api.members, api.service = CLOSED, {"name": SERVICE, "invokerIamDisabled": True}
    assert api.ask(api.make()) == REFUSED


def test_a_reading_counts_for_a_minute(api: RunApi) -> None:
    """A service that is opened is noticed with the first request after that."""
    assert api.ask() == TRUSTED
    api.members = OPEN
    api.clock.advance(MINUTE - 1)
    assert (api.ask(), api.reads) == (TRUSTED, 1)
    api.clock.advance(1)
    assert (api.ask(), api.reads) == (REFUSED, 2)


def test_a_service_that_was_open_is_not_trusted_for_ten_minutes(api: RunApi) -> None:
    """The platform may let strangers in for minutes after its policy has been closed."""
    api.members = OPEN
    assert api.ask() == REFUSED
    api.members = CLOSED
    for _ in range(9):
        api.clock.advance(MINUTE)
        assert api.ask() == REFUSED
    api.clock.advance(MINUTE)
    assert api.ask() == TRUSTED


@pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 429, 500, 503])
def test_without_a_policy_there_is_no_trust(api: RunApi, status: int) -> None:
    """The answer is a retry. A redirect is not followed."""
    api.status = status
    with pytest.raises(TransientError, match=f"{SERVICE} could not be read: the Cloud Run Admin API answered {status}"):
        api.front_end.require_check()
    assert not any("elsewhere" in path for path in api.server.paths)


def test_a_missing_grant_names_its_role(api: RunApi) -> None:
    """The operator reads the remedy in the log."""
    api.status = 403
    with pytest.raises(TransientError, match=r"account needs roles/run\.viewer on the service"):
        api.front_end.require_check()


@pytest.mark.parametrize(
    ("service", "members"),
    [
        ({"name": SERVICE.replace("console", "other")}, CLOSED),
        ({"name": SERVICE.replace("us-central1", "us-east1")}, CLOSED),
        ({}, CLOSED),
        ({"name": 5}, CLOSED),
        ({"name": SERVICE}, "allUsers"),
    ],
    ids=str,
)
def test_another_answer_is_no_policy(api: RunApi, service: Any, members: Any) -> None:
    """An answer about another service, or of another shape, gives no trust."""
    api.service, api.members = service, members
    assert api.ask() == UNKNOWN


def test_an_answer_may_name_the_project_by_its_number(api: RunApi) -> None:
    """Google's APIs take either."""
    api.service = {"name": SERVICE.replace("projects/p/", "projects/123456/")}
    assert api.ask() == TRUSTED


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5_000, b" " * (1 << 20) + b"{}"])
def test_answers_that_cannot_be_read(api: RunApi, body: bytes) -> None:
    """They count as no answer, a long one, too."""
    api.server.answers = [Answer(200, body)]
    assert api.ask() == UNKNOWN


def test_a_good_reading_serves_ten_minutes_while_further_readings_fail(api: RunApi) -> None:
    """Then nothing is known, and no token without a signature is accepted."""
    assert api.ask() == TRUSTED
    api.status = 503
    api.clock.advance(10 * MINUTE - 1)
    assert (api.ask(), api.reads) == (TRUSTED, 2)
    api.clock.advance(1)
    assert api.ask() == UNKNOWN
    api.status = 200
    api.clock.advance(10 * SECOND)
    assert api.ask() == TRUSTED


def test_an_old_reading_is_not_used_before_a_new_one_has_failed(api: RunApi) -> None:
    """The service may have been opened since."""
    assert api.ask() == TRUSTED
    api.members = OPEN
    api.clock.advance(9 * MINUTE)
    assert api.ask() == REFUSED


def test_an_open_service_stays_refused_while_readings_fail(api: RunApi) -> None:
    """A failure never gives trust."""
    api.members = OPEN
    assert api.ask() == REFUSED
    api.status = 503
    api.clock.advance(5 * MINUTE)
    assert api.ask() == REFUSED
    api.clock.advance(5 * MINUTE)
    assert api.ask() == UNKNOWN


def test_failed_readings_are_ten_seconds_apart(api: RunApi) -> None:
    """Requests in between do not wait for a server that does not answer."""
    api.status = 503
    for _ in range(5):
        assert api.ask() == UNKNOWN
    assert api.reads == 1
    api.clock.advance(10 * SECOND)
    assert (api.ask(), api.reads) == (UNKNOWN, 2)


def test_a_clock_that_is_set_back_ends_a_reading(api: RunApi) -> None:
    """Otherwise one reading could count for hours."""
    assert api.ask() == TRUSTED
    api.members = OPEN
    api.front_end._clock = SteppedClock(Instant(api.clock.now() - MINUTE))
    assert api.ask() == REFUSED


class _Door:
    """A lock that counts the threads that have reached it."""

    def __init__(self) -> None:
        self.came = 0
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def __enter__(self) -> None:
        with self._counting:
            self.came += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize(("status", "outcome"), [(200, TRUSTED), (503, UNKNOWN)])
def test_concurrent_requests_share_one_reading(
    api: RunApi, monkeypatch: pytest.MonkeyPatch, status: int, outcome: str
) -> None:
    """They wait for it, and have its outcome."""
    api.status = status
    door = _Door()
    monkeypatch.setattr(api.front_end, "_lock", door)
    answer = api.server.otherwise

    def wait(path: str, body: Any) -> Answer:
        until(lambda: door.came == 9, "nine requests")
        return answer(path, body)

    api.server.otherwise = wait
    with ThreadPoolExecutor(9) as pool:
        outcomes = set(pool.map(lambda _: api.ask(), range(9)))
    assert (outcomes, api.reads) == ({outcome}, 1)


def test_a_refusing_server_gives_no_trust(api: RunApi) -> None:
    """`tests/unit/adapters/test_total_limits.py` measures the limit against silent servers."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        front_end = api.make(f"http://127.0.0.1:{kept.getsockname()[1]}")
        assert api.ask(front_end) == UNKNOWN
