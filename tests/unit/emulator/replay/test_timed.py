"""Time and entropy of a replay: operations take the scenario's time, and draws are the scenario's values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.memory.ports import memory_ports
from emulator.replay.deliveries import Delivery
from emulator.replay.errors import ScenarioError
from emulator.replay.timed import ReplayEntropy, Stopwatch, TimedBuildbucket, TimedCalls, TimedQueue, TimedStore
from luci_scheduler.adapters.documents import ReadVersion
from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError, DeleteDeferred, QueueTask

START = 100 * SECOND
DEFAULTS = {"read": 1 * SECOND, "commit": 2 * SECOND, "enqueue": 3 * SECOND, "call": 4 * SECOND}


def _stopwatch(clock: SteppedClock, **takes: list[int]) -> Stopwatch:
    stopwatch = Stopwatch(clock, DEFAULTS, lambda: None)
    stopwatch.begin(Delivery("deliveries[0]", "task", None, "timer", takes=takes))
    return stopwatch


def test_durations_of_a_delivery_come_before_the_defaults() -> None:
    """They are used in order; the next delivery starts with its own."""
    clock = SteppedClock(START)
    stopwatch = _stopwatch(clock, read=[5, 6])
    assert [stopwatch.takes("read") for _ in range(3)] == [5, 6, SECOND]
    assert stopwatch.takes("call") == 4 * SECOND
    stopwatch.begin(None)
    assert stopwatch.takes("read") == SECOND


def test_a_failed_operation_takes_its_time() -> None:
    """The hook is called before each operation, while the clock stands still."""
    clock, seen = SteppedClock(START), []
    stopwatch = Stopwatch(clock, DEFAULTS, lambda: seen.append(clock.now()))
    with pytest.raises(ValueError, match="x"), stopwatch.operation("commit"):
        raise ValueError("x")
    assert clock.now() == START + 2 * SECOND
    assert seen == [START]


def test_reads_and_commits_of_a_store_take_time() -> None:
    """A refused commit takes the same time."""
    clock = SteppedClock(START)
    store: Any = TimedStore(memory_ports().store, _stopwatch(clock))
    assert store.job(JobId("p/j")) is None
    assert clock.now() == START + SECOND
    with pytest.raises(StoreConflictError):
        store.commit([DeleteDeferred("none", ReadVersion(5))])
    assert clock.now() == START + 3 * SECOND


def test_a_queue_takes_time() -> None:
    """Enqueueing takes its time, and passes the task on."""
    clock, ports = SteppedClock(START), memory_ports()
    queue: Any = ports.queue
    TimedQueue(queue, _stopwatch(clock)).enqueue(QueueTask("timer", {}, Instant(0)))
    assert clock.now() == START + 3 * SECOND
    assert [task.kind for task in queue.tasks] == ["timer"]


class _Server:
    """A Buildbucket that records the ends of its calls."""

    def __init__(self, clock: SteppedClock) -> None:
        self.untils: list[Instant | None] = []
        self._clock = clock

    def v1(self, *_: Any, until: Instant | None = None, **__: Any) -> dict[str, Any]:
        return self.v2(until=until)

    def v2(self, *_: Any, until: Instant | None = None, **__: Any) -> dict[str, Any]:
        self.untils.append(until)
        if until is not None and until <= self._clock.now():
            raise BuildbucketError("DEADLINE_EXCEEDED", "no time is left", transient=True)
        return {"id": "1"}


def test_a_call_takes_its_time() -> None:
    """Of both protocols."""
    clock = SteppedClock(START)
    server = _Server(clock)
    client = TimedBuildbucket(server, TimedCalls(_stopwatch(clock), clock), 60 * SECOND)
    assert client.v2("h", "GetBuild", {}) == {"id": "1"}
    assert client.v1("h", "GET", "builds/1") == {"id": "1"}
    assert clock.now() == START + 8 * SECOND
    assert client._calls.given_up == 0


def test_a_call_ends_at_its_deadline() -> None:
    """The server has seen the call; the client gives up and gets the error of a call without time."""
    clock = SteppedClock(START)
    server = _Server(clock)
    client = TimedBuildbucket(server, TimedCalls(_stopwatch(clock, call=[70 * SECOND]), clock), 60 * SECOND)
    with pytest.raises(BuildbucketError, match="no time is left"):
        client.v2("h", "GetBuild", {})
    assert clock.now() == START + 60 * SECOND
    assert (client._calls.given_up, len(server.untils)) == (1, 2)


def test_a_call_that_takes_until_its_deadline_succeeds() -> None:
    """The answer arrives at the last instant."""
    clock = SteppedClock(START)
    server = _Server(clock)
    client = TimedBuildbucket(server, TimedCalls(_stopwatch(clock, call=[60 * SECOND]), clock), 60 * SECOND)
    assert client.v2("h", "GetBuild", {}) == {"id": "1"}
    assert clock.now() == START + 60 * SECOND
    assert (client._calls.given_up, len(server.untils)) == (0, 1)


def test_a_call_whose_deadline_has_passed_takes_no_time() -> None:
    """The client refuses it, and the scenario's duration stays for the next call."""
    clock = SteppedClock(START)
    client = TimedBuildbucket(_Server(clock), TimedCalls(_stopwatch(clock, call=[7]), clock), 60 * SECOND)
    with pytest.raises(BuildbucketError, match="no time is left"):
        client.v2("h", "GetBuild", {}, until=Instant(START))
    assert clock.now() == START
    client.v2("h", "GetBuild", {})
    assert clock.now() == START + 7


def test_draws_are_the_scenario_s() -> None:
    """Draws are in the scenario's order; nonces count up."""
    faults: list[ScenarioError] = []
    entropy = ReplayEntropy([7, 8], [60, 100], faults.append)
    assert [entropy.invocation_suffix(), entropy.invocation_suffix()] == [7, 8]
    assert [entropy.check_delay_seconds(60, 61), entropy.check_delay_seconds(60, 600)] == [60, 100]
    assert [entropy.nonce(), entropy.nonce()] == [1, 2]
    assert faults == []


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda entropy: entropy.invocation_suffix(), "chance.suffixes: there are more invocations"),
        (lambda entropy: entropy.check_delay_seconds(1, 5), "chance.check_delays: 60 is not from 1 to 4 seconds"),
    ],
)
def test_draws_that_the_scenario_lacks(draw: Any, says: str) -> None:
    """The fault is reported in addition to the error, which a handler may swallow."""
    faults: list[ScenarioError] = []
    entropy = ReplayEntropy([], [60], faults.append)
    with pytest.raises(ScenarioError, match=says):
        draw(entropy)
    assert [str(fault).startswith(says) for fault in faults] == [True]


def test_ports_with_time_are_ports() -> None:
    """They take the places of the ports that they wrap."""
    clock, ports = SteppedClock(START), memory_ports()
    timed = replace(ports, queue=TimedQueue(ports.queue, _stopwatch(clock)))
    assert timed.store is ports.store
