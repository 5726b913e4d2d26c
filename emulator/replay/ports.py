"""The ports of a replay: every operation takes as long as the scenario says, on the replay's own clock."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulator.memory.sources import ManualClock
from emulator.replay.scenario import Delivery, ScenarioError
from luci_scheduler.ports import BuildbucketError, Fetched, FetchError, Queue, Store, Task, Version, Write

__all__ = ["NothingToFetch", "ReplayChance", "ScriptedBuildbucket", "Stopwatch", "TimedQueue", "TimedStore"]


class Stopwatch:
    """Moves the clock by what each operation of the delivery under way takes."""

    def __init__(self, clock: ManualClock, defaults: Mapping[str, int], before_each: Callable[[], None]) -> None:
        self._clock = clock
        self._defaults = defaults
        self._before_each = before_each
        self._left: dict[str, deque[int]] = {}

    def begin(self, delivery: Delivery | None) -> None:
        """Take up the durations of a delivery."""
        self._left = {name: deque(values) for name, values in delivery.takes.items()} if delivery else {}

    def spend(self, operation: str) -> None:
        """Let one operation take its time."""
        self._before_each()
        left = self._left.get(operation)
        self._clock.advance(left.popleft() if left else self._defaults[operation])


class TimedStore:
    """``ports.Store`` around another one."""

    def __init__(self, store: Store, stopwatch: Stopwatch) -> None:
        self._store = store
        self._stopwatch = stopwatch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            self._stopwatch.spend("read")
            return answer

        return timed

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Commit, taking the time of a commit; a refused one takes it too."""
        try:
            return self._store.commit(writes)
        finally:
            self._stopwatch.spend("commit")


class TimedQueue:
    """``ports.Queue`` around another one."""

    def __init__(self, queue: Queue, stopwatch: Stopwatch) -> None:
        self._queue = queue
        self._stopwatch = stopwatch

    def enqueue(self, task: Task) -> None:
        """Enqueue, taking the time of it."""
        self._queue.enqueue(task)
        self._stopwatch.spend("enqueue")


class ScriptedBuildbucket:
    """``ports.Buildbucket`` that answers what the scenario says and keeps what it was asked."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._answers: deque[Mapping[str, Any]] = deque()
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    def begin(self, delivery: Delivery | None) -> None:
        """Take up the answers of a delivery; answers that were not asked for are an error of the scenario."""
        if self._answers:
            raise ScenarioError(f"{len(self._answers)} answers were not asked for in the delivery before {delivery}")
        self._answers = deque(delivery.answers if delivery else ())

    def v1(
        self,
        server: str,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> dict[str, Any]:
        """Answer a v1 call."""
        return self._answer(f"{http_method} {server}/{path}", body or dict(query))

    def v2(self, server: str, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a v2 call."""
        return self._answer(f"{method} {server}", request)

    def _answer(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append((call, request))
        self._stopwatch.spend("call")
        if not self._answers:
            raise ScenarioError(f"the scenario has no answer to {call}")
        answer = dict(self._answers.popleft())
        if "fail" in answer:
            raise BuildbucketError(answer["fail"], answer.get("message", ""), transient=answer.get("transient", False))
        return answer


class ReplayChance:
    """``ports.Chance`` that draws what the scenario says."""

    def __init__(self, suffixes: Sequence[int], check_delays: Sequence[int]) -> None:
        self._suffixes = deque(suffixes)
        self._check_delays = deque(check_delays)
        self._nonces = itertools.count(1)

    def invocation_suffix(self) -> int:
        """Draw the next suffix."""
        if not self._suffixes:
            raise ScenarioError("the scenario has no more invocation suffixes")
        return self._suffixes.popleft()

    def nonce(self) -> int:
        """Draw the next number: nothing that can be seen depends on nonces."""
        return next(self._nonces)

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw the next delay, which must be one that could be drawn."""
        if not self._check_delays or not low <= self._check_delays[0] < high:
            raise ScenarioError(f"the scenario has no check delay within [{low}, {high}) left")
        return self._check_delays.popleft()


class NothingToFetch:
    """``ports.Fetch`` of a replay, which reaches for nothing outside itself."""

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:  # noqa: ARG002 - as the port has it
        """Refuse."""
        raise FetchError("a replay fetches nothing")
