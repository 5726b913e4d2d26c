"""The application of this process: made once, when the first request needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from luci_scheduler.bootstrap import App, make_app
from luci_scheduler.core.errors import TransientError
from luci_scheduler.logs import configure_logging
from luci_scheduler.settings_reader import read_settings

__all__ = ["AppHolder", "app", "use"]

_WAIT_SECONDS = 25.0
"""Longer than the search for credentials. A page that waits this long still has time to read the store."""


class AppHolder:
    """Makes an application with the first call of `get` and keeps it; thread-safe.

    Args:
        make: makes the application; after an error the next call tries again.
        wait_seconds: how long a call waits for another thread that is making it.
    """

    def __init__(self, make: Callable[[], App], wait_seconds: float = _WAIT_SECONDS) -> None:
        self._make = make
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._made: App | None = None
        self._replacement: App | None = None

    def get(self) -> App:
        """Return the replacement, else the application.

        Raises:
            TransientError: another thread takes too long to make it.
            Exception: see ``make``.
        """
        return self._replacement or self._made or self._first()

    def replace(self, replacement: App | None) -> None:
        """Serve ``replacement`` from now on; None returns to the application that ``make`` makes."""
        self._replacement = replacement

    def _first(self) -> App:
        # An instance gets its first requests at the same time. Each application has its own clients and its own
        # sequence of invocation IDs, so there must be only one.
        if not self._lock.acquire(timeout=self._wait_seconds):
            raise TransientError("other requests have been starting the function for too long")
        try:
            self._made = self._made or self._make()
            return self._made
        finally:
            self._lock.release()


def _make_from_environment() -> App:
    from luci_scheduler.cloud_ports import cloud_ports  # noqa: PLC0415 - loads Google's libraries

    configure_logging()
    settings = read_settings(os.environ)
    configure_logging(settings.project)  # traces name the project, which is known only now
    return make_app(settings, cloud_ports(settings))


_holder = AppHolder(_make_from_environment)


def app() -> App:
    """Return the application of this process; the first call reads the environment and makes the clients.

    Raises:
        SettingsError: the environment is incomplete or wrong.
        TransientError: the service account's credentials cannot be loaded now; the next call tries again.
    """
    return _holder.get()


def use(replacement: App | None) -> None:
    """Serve this process with ``replacement`` instead of the environment's application; None undoes that.

    Replays, the local cloud in memory and tests use it.
    """
    _holder.replace(replacement)
