"""The local stand-in for Cloud Scheduler: it starts a task at regular intervals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from luci_scheduler.core.errors import TransientError

__all__ = ["CloudScheduler"]

_LOG = logging.getLogger(__name__)


class CloudScheduler:
    """Calls ``start_task`` every ``seconds`` of real time, first after that pause; a failure is logged."""

    def __init__(self, start_task: Callable[[], Any], seconds: float) -> None:
        self._start_task = start_task
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
                self._start_task()
                self.last = time.time()
            except TransientError as error:
                _LOG.warning("not this time: %s", error)
