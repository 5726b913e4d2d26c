"""Time and entropy of a replay: every operation takes as long as the scenario says, on the replay's own clock."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from emulator.clock import SteppedClock
from emulator.replay.answers import Reply
from emulator.replay.deliveries import Delivery
from emulator.replay.errors import FunctionDied, ScenarioError
from emulator.replay.operations import Operation
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.ports import (
    Buildbucket,
    BuildbucketError,
    CloudBuild,
    CloudBuildError,
    Queue,
    QueueTask,
    ServiceError,
    Store,
    Version,
    Write,
)

__all__ = [
    "ReplayEntropy",
    "Stopwatch",
    "TimedBuildbucket",
    "TimedCalls",
    "TimedCloudBuild",
    "TimedQueue",
    "TimedStore",
    "paced",
]

_THROTTLED = ("RESOURCE_EXHAUSTED", "HTTP 429")
"""The codes that refuse a request for a quota, in v2 and in v1."""


@dataclass(frozen=True, slots=True)
class Running:
    """An operation that has started."""

    operation: Operation
    started: Instant
    takes: int
    is_given: bool
    """Whether the delivery names this duration; otherwise it is the default."""


class _Progress:
    """The operations of one delivery so far."""

    def __init__(self, delivery: Delivery | None) -> None:
        self.delivery = delivery
        self.left = {name: deque(values) for name, values in delivery.takes.items()} if delivery else {}
        self.counts: Counter[str] = Counter()
        self.meanwhile = list(delivery.meanwhile) if delivery else []
        """The deliveries that have not arrived yet."""
        self.has_died = False


class Stopwatch:
    """Moves the clock by the duration of each operation of the current delivery.

    Args:
        clock: the clock that moves.
        defaults: nanoseconds by operation, if the delivery has no duration for it.
        before_each: called before each operation; its real time does not count.
        meanwhile: delivers what arrives during an operation.
        on_fault: gets the faults of the scenario, because a handler answers 500 to every exception.
    """

    def __init__(
        self,
        clock: SteppedClock,
        defaults: Mapping[str, int],
        before_each: Callable[[], None],
        meanwhile: Callable[[Delivery], None] = lambda _: None,
        on_fault: Callable[[ScenarioError], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._defaults = defaults
        self._before_each = before_each
        self._meanwhile = meanwhile
        self._on_fault = on_fault
        self._now = _Progress(None)

    def begin(self, delivery: Delivery | None) -> None:
        """Set the durations for a delivery."""
        self._now = _Progress(delivery)

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve another delivery inside, and then continue the current one."""
        before = self._now
        try:
            yield
        finally:
            self._now = before

    def require_events(self) -> None:
        """Check that the function has died where the scenario says so, and that no delivery waits for its operation.

        Raises:
            ScenarioError: the delivery has no such operation.
        """
        delivery = self._now.delivery
        if delivery and delivery.dies and not self._now.has_died:
            raise ScenarioError(f".dies: the delivery has no operation {delivery.dies}")
        for late in self._now.meanwhile:
            raise ScenarioError(
                f"{late.where}.during: the delivery before it has no operation {late.during}", located=True
            )

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Move the clock by the duration of the operation inside, whether it succeeds or fails."""
        running = self.start(name)
        try:
            yield
        finally:
            self.finish(running)

    def takes(self, name: str) -> int:
        """Return the duration of the next operation of this name, in nanoseconds, and count the operation."""
        return self.start(name).takes

    def start(self, name: str) -> Running:
        """Count an operation and return it.

        Raises:
            FunctionDied: the process dies before this operation.
        """
        self._before_each()
        now = self._now
        operation = Operation(name, now.counts[name])
        now.counts[name] += 1
        if now.delivery is not None and now.delivery.dies == operation:
            now.has_died = True
            raise FunctionDied(f"the function dies before {operation}")
        left = now.left.get(name)
        is_given = bool(left)
        takes = left.popleft() if left else self._defaults.get(name, 0)
        return Running(operation, self._clock.now(), takes, is_given)

    def work(self, name: str) -> None:
        """Let the time of the machine's own work pass."""
        self.finish(self.start(name))

    def finish(self, running: Running, takes: int | None = None) -> None:
        """Deliver what arrives during an operation, and move the clock to its end, after ``takes`` if it ends early."""
        end = Instant(running.started + (running.takes if takes is None else takes))
        arrived = [item for item in self._now.meanwhile if item.during == running.operation]
        self._now.meanwhile = [item for item in self._now.meanwhile if item not in arrived]
        for delivery in arrived:
            if delivery.at is not None and delivery.at > end:
                text = f"{format_rfc3339(delivery.at)} is after the end of {running.operation}, {format_rfc3339(end)}"
                self._on_fault(ScenarioError(f"{delivery.where}.at: {text}", located=True))
                break
            self._meanwhile(delivery)
        self._clock.reach(end)


class TimedStore:
    """``ports.Store`` that wraps another store."""

    def __init__(self, store: Store, stopwatch: Stopwatch) -> None:
        self._store = store
        self._stopwatch = stopwatch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._stopwatch.operation("read"):
                return method(*args, **kwargs)

        return timed

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Commit, taking the time of a commit; a refused commit takes the same time."""
        with self._stopwatch.operation("commit"):
            return self._store.commit(writes)


class TimedQueue:
    """``ports.Queue`` that wraps another queue."""

    def __init__(self, queue: Queue, stopwatch: Stopwatch) -> None:
        self._queue = queue
        self._stopwatch = stopwatch

    def enqueue(self, task: QueueTask) -> None:
        """Enqueue, taking the time of an enqueue operation."""
        with self._stopwatch.operation("enqueue"):
            self._queue.enqueue(task)


class TimedCalls:
    """Calls of build services, with deadlines on the replay's clock.

    At its deadline a call is abandoned, as the client in the cloud would do.

    Args:
        stopwatch: measures each call.
        clock: the replay's.
        own: returns the scenario's next answer if it is the client's own error.
    """

    def __init__(
        self, stopwatch: Stopwatch, clock: SteppedClock, own: Callable[[], Reply | None] = lambda: None
    ) -> None:
        self._stopwatch = stopwatch
        self._clock = clock
        self._own = own
        self.given_up = 0
        """The number of calls that the client abandoned during the whole replay."""

    def timed(
        self,
        send: Callable[[Instant | None], dict[str, Any]],
        deadline: int,
        until: Instant | None,
        error_type: type[ServiceError],
    ) -> dict[str, Any]:
        """Make a call that takes the time of the operation ``call``.

        Args:
            send: makes the call. If its argument is past, it raises the client's own error and sends nothing.
            deadline: of the call, in nanoseconds.
            until: an earlier end of the call.
            error_type: the class of the client's errors.
        """
        left = deadline if until is None else min(deadline, until - self._clock.now())
        if left <= 0:
            return send(until)
        running, own = self._stopwatch.start("call"), self._own()
        if own is not None:
            raise self._failed(own, running, left, lambda: send(until), error_type)
        try:
            answer = send(until)
        except ServiceError as error:
            # The request names the deadline, so the service ends the call at the same time. Either error may come
            # first.
            if running.takes <= left or error.code == "DEADLINE_EXCEEDED":
                self._stopwatch.finish(running)
                raise
        else:
            if running.takes <= left:
                self._stopwatch.finish(running)
                return answer
        # The service has completed the call, but the client has stopped waiting for the answer.
        self.given_up += 1
        self._stopwatch.finish(running, left)
        return send(self._clock.now())

    def _failed(
        self, own: Reply, running: Running, left: int, send: Callable[[], Any], error_type: type[ServiceError]
    ) -> ServiceError:
        """Send a request whose answer does not count, and return the client's own error."""
        send()
        takes = running.takes if running.is_given or not own.silent else left
        self._stopwatch.finish(running, takes)
        self.given_up += 1
        if own.silent:
            return error_type("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)
        code, _, text = own.failure.partition(": ")
        return error_type(code, text, transient=own.transient, throttled=code in _THROTTLED)


class TimedBuildbucket:
    """``ports.Buildbucket`` that wraps another client; ``deadline`` is that of one call, in nanoseconds."""

    def __init__(self, buildbucket: Buildbucket, calls: TimedCalls, deadline: int) -> None:
        self._buildbucket = buildbucket
        self._calls = calls
        self._deadline = deadline

    def v1(
        self,
        server: str,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call the v1 REST API, taking the time of a call."""
        return self._timed(lambda end: self._buildbucket.v1(server, http_method, path, body, query, until=end), until)

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Call a method of ``buildbucket.v2.Builds``, taking the time of a call."""
        return self._timed(lambda end: self._buildbucket.v2(server, method, request, until=end), until)

    def _timed(self, send: Callable[[Instant | None], dict[str, Any]], until: Instant | None) -> dict[str, Any]:
        return self._calls.timed(send, self._deadline, until, BuildbucketError)


class TimedCloudBuild:
    """``ports.CloudBuild`` that wraps another client."""

    def __init__(self, cloud_build: CloudBuild, calls: TimedCalls) -> None:
        self._cloud_build = cloud_build
        self._calls = calls

    def call(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        seconds: float,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call a method of the API, taking the time of a call."""

        def send(end: Instant | None) -> dict[str, Any]:
            return self._cloud_build.call(http_method, path, body, query, seconds=seconds, until=end)

        return self._calls.timed(send, round(seconds * SECOND), until, CloudBuildError)


class PacedController(Controller):
    """A controller on a machine whose own work takes time: before each line of the log, and before the end."""

    def __init__(self, stopwatch: Stopwatch, plain: Controller, queue: Queue, calls: CallCache) -> None:
        super().__init__(plain.invocation, plain.clock, plain.entropy, queue, calls)
        self._stopwatch = stopwatch

    def log(self, text: str) -> Instant:
        """Add a line to the debug log, after the machine's work before it."""
        self._stopwatch.work("line")
        return super().log(text)

    def _finish(self) -> None:
        self._stopwatch.work("end")
        super()._finish()


@frozen
class PacedRuntime(Runtime):
    """A runtime whose controllers are `PacedController`."""

    stopwatch: Stopwatch = field(kw_only=True)

    def controller(self, invocation: Invocation, calls: CallCache) -> Controller:
        """Return a new controller of an invocation."""
        plain = Runtime.controller(self, invocation, calls)
        return PacedController(self.stopwatch, plain, self.queue, calls)


def paced(runtime: Runtime, stopwatch: Stopwatch) -> Runtime:
    """Return a runtime that takes the machine's own work into account."""
    return PacedRuntime(**{item.name: getattr(runtime, item.name) for item in fields(Runtime)}, stopwatch=stopwatch)


class ReplayEntropy:
    """``ports.Entropy`` that draws the scenario's values; ``on_fault`` is called if the scenario has no fitting value.

    The raised error itself does not reach the caller, because the handler answers 500 to every unexpected exception.
    """

    def __init__(
        self, suffixes: Sequence[int], check_delays: Sequence[int], on_fault: Callable[[ScenarioError], None]
    ) -> None:
        self._suffixes = deque(suffixes)
        self._check_delays = deque(check_delays)
        self._on_fault = on_fault
        self._nonces = itertools.count(1)

    def invocation_suffix(self) -> int:
        """Draw the next suffix."""
        if not self._suffixes:
            raise self._fault("chance.suffixes: there are more invocations than suffixes")
        return self._suffixes.popleft()

    def nonce(self) -> int:
        """Draw the next number; no output depends on nonces."""
        return next(self._nonces)

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw the next delay, which must lie in the requested range."""
        if not self._check_delays:
            raise self._fault(
                f"chance.check_delays: there are fewer than are drawn; the next is from {low} to {high - 1} seconds"
            )
        if not low <= self._check_delays[0] < high:
            raise self._fault(f"chance.check_delays: {self._check_delays[0]} is not from {low} to {high - 1} seconds")
        return self._check_delays.popleft()

    def _fault(self, text: str) -> ScenarioError:
        error = ScenarioError(text)
        self._on_fault(error)
        return error
