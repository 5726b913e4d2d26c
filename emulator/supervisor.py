"""The functions as processes of the functions framework, one process each; a dead one is started again."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import luci_scheduler
from emulator.errors import LocalCloudError, one_line
from emulator.processes import Child, Output, environment_without
from emulator.tcp_ports import HOST, is_free, is_open, require_free

__all__ = ["ALL_FUNCTIONS", "FUNCTIONS", "OPTIONAL_FUNCTIONS", "SOURCE", "FunctionProcess"]

FUNCTIONS: Mapping[str, str] = {
    "on_gitiles_commit": "cloudevent",
    "on_build_completion": "cloudevent",
    "on_task": "http",
    "console": "http",
}
"""Entry point → signature type, as deployed in every installation."""
OPTIONAL_FUNCTIONS: Mapping[str, str] = {"on_cloud_build": "cloudevent", "on_github_push": "http"}
"""The same for the functions that only an installation with Cloud Build or with GitHub's webhook has."""
ALL_FUNCTIONS: Mapping[str, str] = {**FUNCTIONS, **OPTIONAL_FUNCTIONS}

_INSTALLED = Path(__file__).parent / "deployed" / "main.py"
SOURCE = _INSTALLED if _INSTALLED.exists() else Path(luci_scheduler.__file__).parent.parent / "main.py"
"""The file with the entry points: a wheel keeps it in this package, a checkout beside ``luci_scheduler``."""

_READY_SECONDS = 60.0  # importing takes half a second; a busy machine takes longer
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 10.0  # between TERM and KILL, as Cloud Run gives
_PAUSES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
_SETTLED_SECONDS = 5.0  # after that long a death has a new cause, and the pauses start again
# Variables that could override the functions' settings, or lead to the user's credentials.
_NOT_PASSED_ON = ("SCHEDULER_", "GOOGLE_", "FUNCTION_", "GUNICORN_", "K_SERVICE", "PYTHONPATH")


class FunctionProcess:
    """A function, served by gunicorn as in the cloud: by an arbiter and one worker, from `start` to `stop`.

    It never outlives this process, and its worker never outlives the arbiter.

    Args:
        name: the entry point.
        environment: its variables, in addition to harmless ones of this process.
        port: where it listens; 0 picks a free one.
        signature: ``http`` or ``cloudevent``; that of the entry point if it is empty.
        source: the file with the entry points.
        log: a file to append its output to.

    Raises:
        LocalCloudError: the port is in use.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        port: int = 0,
        *,
        signature: str = "",
        source: Path = SOURCE,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.port = require_free(port, f"the function {name}")
        self.url = f"http://{HOST}:{self.port}"
        self.starts = 0
        # Gunicorn makes a control socket in the home folder, and Google's libraries look for credentials there.
        self._home = tempfile.TemporaryDirectory(prefix="function-", ignore_cleanup_errors=True)
        self.output = Output(log)
        self._command = (
            "functions_framework",
            f"--source={source}",
            f"--target={name}",
            f"--signature-type={signature or ALL_FUNCTIONS[name]}",
            f"--host={HOST}",
            f"--port={self.port}",
        )
        self._environment = {
            **environment_without(*_NOT_PASSED_ON),
            "PYTHONUNBUFFERED": "1",
            "WORKERS": "1",
            "HOME": self._home.name,
            "XDG_RUNTIME_DIR": self._home.name,
            **environment,
        }
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._has_served = False
        self._child: Child | None = None
        self._watcher: threading.Thread | None = None

    @property
    def restarts(self) -> int:
        """How often it was restarted after it had died."""
        return max(0, self.starts - 1)

    @property
    def pid(self) -> int | None:
        """The process id of the arbiter, which is also its group's; None while it does not run."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Start without waiting; allowed once.

        Raises:
            LocalCloudError: the process cannot be started.
        """
        if self._watcher is not None:
            raise RuntimeError("a function starts once")
        try:
            self._spawn()
        except OSError as error:
            raise LocalCloudError(f"the function {self.name} cannot be started: {error}") from error
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)
        self._watcher.start()

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until the function accepts connections, at most ``seconds``.

        Raises:
            LocalCloudError: the function ended before that, or takes too long; the text has the reason from its output.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # Another server could listen there, if it took the port after it was chosen; that is rare.
            if self.pid is not None and is_open(self.port):
                self._has_served = True
                return
            if self._watcher is not None and not self._watcher.is_alive():
                raise LocalCloudError(f"the function {self.name} does not start: {self._reason()}")
            time.sleep(_POLL_SECONDS)
        raise LocalCloudError(f"the function {self.name} does not serve after {seconds:.0f} s: {self._reason()}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; if the function dies of it, it is started again.

        KILL ends arbiter and worker at once, like a crash of the machine; STOP and CONT reach both. TERM goes to the
        arbiter, which lets running requests finish.
        """
        child = self._child
        if child is not None:
            child.signal(number)

    def stop(self) -> None:
        """Stop the function; running requests have ten seconds to finish. May be repeated."""
        with self._lock:
            self._stopping.set()
            child = self._child
        if child is not None:
            child.stop(_GRACE_SECONDS)
        if self._watcher is not None:
            self._watcher.join(_GRACE_SECONDS)
        self._home.cleanup()

    def _spawn(self) -> None:
        self._child = Child(self._command, environment=self._environment, output=self.output, mode="module")
        self.starts += 1

    def _watch(self) -> None:
        """Restart the function when it dies, after growing pauses. A function that never served is not restarted."""
        quick_deaths = 0
        while (child := self._child) is not None:
            began = time.monotonic()
            status = child.wait()
            child.finish()
            if not self._stopping.is_set():
                self.output.write(f"[{self.name} ended with status {status}]")
            if not self._has_served:
                return
            quick_deaths = 0 if time.monotonic() - began > _SETTLED_SECONDS else quick_deaths + 1
            if self._stopping.wait(_PAUSES[min(quick_deaths, len(_PAUSES) - 1)]):
                return
            with self._lock:
                if self._stopping.is_set():
                    return
                self._spawn()

    def _reason(self) -> str:
        lines = [line for line in self.output.lines if line.strip() and not line.startswith("[")]
        if any("Connection in use" in line for line in lines) and not is_free(self.port):
            return f"port {self.port} is in use"
        # A traceback ends with the exception's name at the beginning of a line; what follows is others' good-bye.
        errors = (line for line in reversed(lines) if line[0].isalpha() and "Error" in line.partition(":")[0])
        return one_line(next(errors, lines[-1] if lines else "it printed nothing"))
