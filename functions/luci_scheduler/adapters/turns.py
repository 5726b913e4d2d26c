"""Turns inside a process: deliveries about the same document follow one another, so they rarely lose a race."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from luci_scheduler.budget import time_left

__all__ = ["PATIENCE", "ProcessTurns"]

PATIENCE = 5.0
"""Seconds that a delivery waits for its turn. A turn takes tens of milliseconds, unless an outside service is slow."""


@dataclass(slots=True)
class _Turn:
    lock: threading.RLock = field(default_factory=threading.RLock)  # a thread may take a turn inside its own turn
    users: int = 0
    """Deliveries that have the turn or wait for it."""


class ProcessTurns:
    """``ports.Turns`` for the threads of this process. Thread-safe."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @contextmanager
    def of(self, subject: str) -> Iterator[None]:
        """Hold the turn of a subject inside ``with``. Wait for it at most for the patience or the delivery's budget.

        After that, the block runs without the turn. So turns cannot deadlock, and a slow delivery stops no other.

        Raises:
            TransientError: the delivery has no time left.
        """
        patience = time_left(self._patience)
        turn = self._joined(subject)
        has_turn = turn.lock.acquire(timeout=patience)
        try:
            yield
        finally:
            if has_turn:
                turn.lock.release()
            self._leave(subject, turn)

    def _joined(self, subject: str) -> _Turn:
        with self._lock:
            turn = self._turns.setdefault(subject, _Turn())
            turn.users += 1
            return turn

    def _leave(self, subject: str, turn: _Turn) -> None:
        with self._lock:
            turn.users -= 1
            if not turn.users:
                del self._turns[subject]
