"""The functions as processes of the functions framework, one each, restarted when one dies."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import luci_scheduler
from emulator.children import Child, Output, environment_without
from emulator.errors import LocalCloudError
from emulator.ports import free_port, is_open

__all__ = ["FUNCTIONS", "FunctionProcess"]

FUNCTIONS = ("on_gitiles_commit", "on_build_completion", "on_task", "console")

_SOURCE = Path(luci_scheduler.__file__).parent.parent / "main.py"
_READY_SECONDS = 60.0
_GRACE_SECONDS = 12.0
_RESTART_SECONDS = 0.2
_MAX_FIRST_STARTS = 3


class FunctionProcess:
    """One function, served by gunicorn as in the cloud; ``stop`` ends it, and it ends when this process ends.

    ``environment`` is added to this process's own, of which no setting of the functions is taken over.
    """

    def __init__(self, name: str, environment: Mapping[str, str], port: int = 0) -> None:
        self.name = name
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self.output = Output()
        self._environment = {**environment_without("SCHEDULER_", "PYTHONPATH"), **environment, "PYTHONUNBUFFERED": "1"}
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"function-{name}", daemon=True)

    def start(self) -> None:
        """Start without waiting."""
        self._thread.start()

    def wait_until_ready(self) -> None:
        """Wait until it accepts connections.

        Raises:
            LocalCloudError: it does not; its last words are part of the text.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self.starts <= _MAX_FIRST_STARTS:
            if is_open(self.port):
                return
            time.sleep(0.05)
        self.stop()
        raise LocalCloudError(f"the function {self.name} does not start: {self.output.last_words()}")

    def kill(self) -> None:
        """Kill it with all its workers, as a crashing machine would; it is started again."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it; requests under way are finished. Safe to repeat."""
        self._stopping.set()
        if self._child is not None:
            self._child.stop(_GRACE_SECONDS)
        if self._thread.is_alive():
            self._thread.join(_GRACE_SECONDS)

    def _run(self) -> None:
        command = ["functions_framework", "--source", str(_SOURCE), "--target", self.name]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        while not self._stopping.is_set():
            self.starts += 1
            self._child = Child(command, environment=self._environment, output=self.output, mode="module")
            self._child.wait()
            self._child.finish()
            self._stopping.wait(_RESTART_SECONDS)
