"""The threads that hand out due tasks: one decides, a pool delivers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from emulator.clock import Clock
from emulator.cloud_tasks.model import NO_RESPONSE, Answer
from emulator.cloud_tasks.queue import Attempt, Outcome
from emulator.cloud_tasks.queues import Queues

__all__ = ["Courier", "Dispatcher"]

_log = logging.getLogger(__name__)


class Courier:
    """Carries one attempt through: delivers it, without the lock, and gives the answer to the queues, under it."""

    def __init__(self, lock: threading.RLock, clock: Clock, deliver: Callable[[Attempt, int], Answer]) -> None:
        self._lock = lock
        self._clock = clock
        self._deliver = deliver

    def carry(self, queues: Queues, attempt: Attempt, *, lose_answer: bool = False) -> Answer:
        """Deliver, record what came of it, and return the target's answer.

        With ``lose_answer`` the queue is told that nothing came back, so that a task that was executed is delivered again.
        """
        try:
            answer = self._deliver(attempt, self._clock.now())
        except Exception:  # noqa: BLE001 - a task whose attempt never ends would be stuck for ever
            _log.exception("delivery of %s failed inside the server", attempt.task.name)
            answer = Answer(NO_RESPONSE, None, "the delivery failed inside the server", responded=False)
        recorded = Answer(NO_RESPONSE, None, "the answer was lost", responded=False) if lose_answer else answer
        with self._lock:
            outcome = queues.finish(attempt, recorded, self._clock.now())
        if outcome is Outcome.GIVEN_UP:
            _log.warning("task %s is given up: %s", attempt.task.name, recorded.message)
        return answer


class Dispatcher:
    """Hands out whatever is due, for as long as it runs; ``workers`` deliveries go on at a time, over all queues."""

    def __init__(
        self, queues: Callable[[], Queues], lock: threading.RLock, clock: Clock, courier: Courier, workers: int
    ) -> None:
        self._queues = queues
        self._lock = lock
        self._clock = clock
        self._courier = courier
        self._workers = workers
        self._in_flight = 0
        self._woken = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud-tasks-delivery")
        self._thread = threading.Thread(target=self._run, name="cloud-tasks-dispatcher")

    def start(self) -> None:
        """Begin to hand out."""
        self._thread.start()

    def wake(self) -> None:
        """Look again at once: a task or a setting has changed."""
        self._woken.set()

    def stop_taking(self) -> None:
        """Hand out nothing more; what is under way goes on."""
        self._stopping = True
        self._woken.set()
        self._thread.join()

    def join(self) -> None:
        """Wait for the deliveries under way, and end their threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            ready = self._hand_out()
            if self._stopping:
                return
            if ready is None:
                self._woken.wait()
            else:
                self._clock.wait_until(ready, self._woken)

    def _hand_out(self) -> int | None:
        """Begin all attempts that may begin now; return when the next one may, None if only an event can tell."""
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
            self._courier.carry(queues, attempt)
        finally:
            with self._lock:
                self._in_flight -= 1
            self._woken.set()
