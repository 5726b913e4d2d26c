"""The threads that dispatch due tasks: one thread decides, a pool delivers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from emulator.clock import Clock
from emulator.cloud_tasks.model import NO_RESPONSE, DeliveryResult
from emulator.cloud_tasks.queue import Attempt, Outcome
from emulator.cloud_tasks.queues import Queues

__all__ = ["DeliveryRunner", "Dispatcher"]

_log = logging.getLogger(__name__)


class DeliveryRunner:
    """Runs one attempt: delivers it without holding the lock, then records the result under the lock."""

    def __init__(self, lock: threading.RLock, clock: Clock, deliver: Callable[[Attempt, int], DeliveryResult]) -> None:
        self._lock = lock
        self._clock = clock
        self._deliver = deliver

    def run(self, queues: Queues, attempt: Attempt, *, lose_answer: bool = False) -> DeliveryResult:
        """Deliver an attempt, record the result, and return it.

        With ``lose_answer`` the recorded result is a lost response, so that an executed task is delivered again.
        """
        try:
            result = self._deliver(attempt, self._clock.now())
        except Exception:  # noqa: BLE001 - without a result the task would be stuck forever
            _log.exception("delivery of %s failed inside the server", attempt.task.name)
            result = DeliveryResult(NO_RESPONSE, None, "the delivery failed inside the server", responded=False)
        recorded = DeliveryResult(NO_RESPONSE, None, "the answer was lost", responded=False) if lose_answer else result
        with self._lock:
            outcome = queues.finish(attempt, recorded, self._clock.now())
        if outcome is Outcome.GIVEN_UP:
            _log.warning("task %s was dropped: %s", attempt.task.name, recorded.message)
        return result


class Dispatcher:
    """Dispatches due tasks while it runs.

    Args:
        queues: returns the current state, which a reset replaces.
        lock: guards the state.
        clock: the server's time.
        runner: runs the attempts.
        workers: the maximum number of concurrent deliveries, over all queues.
    """

    def __init__(
        self, queues: Callable[[], Queues], lock: threading.RLock, clock: Clock, runner: DeliveryRunner, workers: int
    ) -> None:
        self._queues = queues
        self._lock = lock
        self._clock = clock
        self._runner = runner
        self._workers = workers
        self._in_flight = 0
        self._woken = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud-tasks-delivery")
        self._thread = threading.Thread(target=self._run, name="cloud-tasks-dispatcher")

    def start(self) -> None:
        """Start dispatching."""
        self._thread.start()

    def wake(self) -> None:
        """Look for due tasks now, because a task or a setting changed."""
        self._woken.set()

    def stop_taking(self) -> None:
        """Dispatch no more tasks; running deliveries continue."""
        self._stopping = True
        self._woken.set()
        self._thread.join()

    def join(self) -> None:
        """Wait for running deliveries, and end their threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            ready = self._dispatch_due()
            if self._stopping:
                return
            if ready is None:
                self._woken.wait()
            else:
                self._clock.wait_until(ready, self._woken)

    def _dispatch_due(self) -> int | None:
        """Begin all attempts that may begin now. Return when the next one may; None if that depends on an event."""
        with self._lock:
            queues = self._queues()
            while self._in_flight < self._workers:
                attempt = queues.take(self._clock.now())
                if attempt is None:
                    return queues.next_ready()
                self._in_flight += 1
                self._pool.submit(self._deliver, queues, attempt)
            return None

    def _deliver(self, queues: Queues, attempt: Attempt) -> None:
        try:
            self._runner.run(queues, attempt)
        finally:
            with self._lock:
                self._in_flight -= 1
            self._woken.set()
