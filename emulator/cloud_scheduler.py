"""What Cloud Scheduler does in the cloud: calls for something again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from luci_scheduler.core.errors import TransientError

__all__ = ["Housekeeping"]

_LOG = logging.getLogger(__name__)


class Housekeeping:
    """Calls ``enqueue`` every ``seconds`` (of real time), the first time after that pause; one that fails is logged."""

    def __init__(self, enqueue: Callable[[], None], seconds: float) -> None:
        self._enqueue = enqueue
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; may be repeated."""
        self._stopping.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._enqueue()
            except TransientError as error:
                _LOG.warning("not this time: %s", error)
