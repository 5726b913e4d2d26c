"""Time and entropy of a replay: every operation takes as long as the scenario says, on the replay's own clock."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emulator.clock import SteppedClock
from emulator.replay.errors import ScenarioError
from emulator.replay.scenario import Delivery
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import (
    Buildbucket,
    BuildbucketError,
    Queue,
    QueueTask,
    Store,
    Version,
    Write,
)

__all__ = [
    "ReplayEntropy",
    "Stopwatch",
    "TimedBuildbucket",
    "TimedQueue",
    "TimedStore",
]


class Stopwatch:
    """Moves the clock by the duration of each operation of the current delivery.

    Args:
        clock: the clock that moves.
        defaults: nanoseconds by operation, if the delivery has no duration for it.
        before_each: called before each operation; its real time does not count.
    """

    def __init__(self, clock: SteppedClock, defaults: Mapping[str, int], before_each: Callable[[], None]) -> None:
        self._clock = clock
        self._defaults = defaults
        self._before_each = before_each
        self._left: dict[str, deque[int]] = {}

    def begin(self, delivery: Delivery | None) -> None:
        """Set the durations for a delivery."""
        self._left = {name: deque(values) for name, values in delivery.takes.items()} if delivery else {}

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Move the clock by the duration of the operation inside, whether it succeeds or fails."""
        takes = self.takes(name)
        try:
            yield
        finally:
            self._clock.advance(takes)

    def takes(self, name: str) -> int:
        """Return the duration of the next operation of this name, in nanoseconds, and count the operation."""
        self._before_each()
        left = self._left.get(name)
        return left.popleft() if left else self._defaults[name]


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


class TimedBuildbucket:
    """``ports.Buildbucket`` that wraps another client, with deadlines on the replay's clock.

    At its deadline a call is abandoned, as the client in the cloud would do.

    Args:
        buildbucket: the client. For a call whose ``until`` is past it raises its own error and sends nothing.
        stopwatch: measures each call.
        clock: the replay's.
        deadline: of one call, in nanoseconds.
    """

    def __init__(self, buildbucket: Buildbucket, stopwatch: Stopwatch, clock: SteppedClock, deadline: int) -> None:
        self._buildbucket = buildbucket
        self._stopwatch = stopwatch
        self._clock = clock
        self._deadline = deadline
        self.given_up = 0
        """The number of calls that the client abandoned during the whole replay."""

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
        left = self._deadline if until is None else min(self._deadline, until - self._clock.now())
        if left <= 0:
            return send(until)
        takes = self._stopwatch.takes("call")
        try:
            answer = send(until)
        except BuildbucketError as error:
            # The request names the deadline, so the service ends the call at the same time. Either error may come
            # first.
            if takes <= left or error.code == "DEADLINE_EXCEEDED":
                self._clock.advance(takes)
                raise
        else:
            if takes <= left:
                self._clock.advance(takes)
                return answer
        # The service has completed the call, but the client has stopped waiting for the answer.
        self.given_up += 1
        self._clock.advance(left)
        return send(self._clock.now())


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
