"""The local stand-in for Cloud Scheduler: it enqueues a task at regular intervals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from luci_scheduler.core.errors import TransientError

__all__ = ["CloudScheduler"]

_LOG = logging.getLogger(__name__)


class CloudScheduler:
    """Calls ``enqueue`` every ``seconds`` of real time, first after that pause; a failure is logged."""

    def __init__(self, enqueue: Callable[[], None], seconds: float) -> None:
        self._enqueue = enqueue
        self._seconds = seconds
        self.last: float | None = None
        """When the last call succeeded, in seconds since 1970; None before the first call."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud-scheduler", daemon=True)

    def start(self) -> None:
        """Start calling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop calling; may be repeated."""
        self._stopping.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._enqueue()
                self.last = time.time()
            except TransientError as error:
                _LOG.warning("not this time: %s", error)
