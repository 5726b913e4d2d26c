"""The programs of one build: folder, variables, time limit, and the end of everything that they started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from emulator.processes import Child, Sink, environment_without

__all__ = ["MARK", "Exit", "Programs", "inherited"]

MARK = "LOCAL_CLOUD_BUILD"
"""The variable that marks the descendants of a build's program, even if they have left its process group."""
_PROCESSES = Path("/proc")
_ROUNDS = 50  # a process may fork between the search for it and its end
_ROUND_SECONDS = 0.01
_KILL_SECONDS = 10.0


# Settings and credentials of the local cloud's functions, of the command (for a real console) and of gcloud, and
# variables that lead git to another repository.
_NOT_INHERITED = (
    "SCHEDULER_", "LUCI_SCHEDULER_", "CLOUDSDK_", "GOOGLE_", "FUNCTION_", "GUNICORN_", "K_SERVICE",
    "FIRESTORE_EMULATOR_", "PUBSUB_EMULATOR_",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_", "GIT_OBJECT_", "GIT_ALTERNATE_", "GIT_COMMON_DIR", "GIT_PREFIX",
)  # fmt: skip


def inherited() -> dict[str, str]:
    """Return this process's environment without the variables that concern the local cloud or a git command."""
    return environment_without(*_NOT_INHERITED)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended."""

    status: int
    """The exit status; negative: the signal that ended it."""
    seconds: float
    """How long it ran."""
    is_late: bool = False
    """Whether the time limit ended it."""


class Programs:
    """Runs the programs of a build one after the other; at the end of the ``with`` block, their folder is removed.

    Args:
        output: gets their output.
        limit: the seconds of real time that all of them may take together.
        grace: the seconds between the request to end, at the limit, and the kill.
    """

    def __init__(self, output: Sink, limit: float, grace: float) -> None:
        self._output = output
        self._deadline = time.monotonic() + limit
        self._grace = grace
        self._mark = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._signaled: signal.Signals | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            _remove(self._folder)

    @property
    def folder(self) -> Path:
        """The folder of the build, which is empty at first."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="build-"))
        return self._folder

    def run(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path | None, limit: float | None = None
    ) -> Exit:
        """Run a program and wait until it and all its descendants have ended; it does not run after `signal`.

        Args:
            argv: the program and its arguments.
            environment: its whole environment.
            folder: its working folder; that of this process if None.
            limit: the seconds of real time that this program may take; None: only the limit of all programs counts.

        Raises:
            OSError: the program cannot be started.
        """
        began = time.monotonic()
        with self._lock:
            if self._signaled is not None:
                return Exit(-self._signaled, 0.0)
            marked = {**environment, MARK: self._mark}
            child = self._child = Child(argv, environment=marked, output=self._output, cwd=folder)
        left = max(0.0, self._deadline - time.monotonic())
        status = child.wait(left if limit is None else min(left, limit))
        is_late = status is None
        if status is None:
            status = self._stop(child)
        with self._lock:
            self._child = None
            child.signal_all(signal.SIGKILL)
        _kill_marked(f"{MARK}={self._mark}".encode())
        child.finish()
        return Exit(status, time.monotonic() - began, is_late)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running program and its process group; later programs do not run."""
        with self._lock:
            self._signaled = number
            if self._child is not None:
                self._child.signal_all(number)

    def _stop(self, child: Child) -> int:
        child.signal_all(signal.SIGTERM)
        status = child.wait(self._grace)
        if status is None:
            child.signal_all(signal.SIGKILL)
            status = child.wait(_KILL_SECONDS)
        return -signal.SIGKILL if status is None else status


def _kill_marked(mark: bytes) -> None:
    """Kill all processes whose environment has the mark; on systems without ``/proc``, none is found."""
    for _ in range(_ROUNDS):
        found = [process for process in _processes() if mark in _environment(process)]
        if not found:
            return
        for process in found:
            with contextlib.suppress(OSError):
                os.kill(int(process.name), signal.SIGKILL)
        time.sleep(_ROUND_SECONDS)


def _processes() -> Iterator[Path]:
    return _PROCESSES.glob("[0-9]*") if _PROCESSES.is_dir() else iter(())


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # it has ended, or belongs to another user
        return b""


def _remove(folder: Path) -> None:
    """Remove a folder, also if a program has made parts of it read-only."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                Path(place).chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
