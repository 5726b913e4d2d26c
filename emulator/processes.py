"""Child processes that never outlive this one, and their output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Literal, NoReturn, Protocol

__all__ = ["Child", "Output", "Sink", "environment_without", "wait_for_interruption"]

_LAUNCH = Path(__file__).with_name("launch.py")
_LINES_KEPT = 2000
_WAKE_UP_SECONDS = 0.5
# A program handles these signals itself and ends its forks. Any other signal goes to the whole group.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Sink(Protocol):
    """Takes a program's output."""

    def consume(self, stream: IO[bytes]) -> None:
        """Read the output until its end."""


class Output:
    """The last 2000 lines of a program's output; ``file``, if given, gets all lines. Thread-safe."""

    def __init__(self, file: Path | None = None) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._file = file
        self._lock = threading.Lock()
        self._listener: Callable[[str], None] | None = None

    def listen(self, listener: Callable[[str], None]) -> None:
        """Pass each further line to ``listener``, in the thread that writes it."""
        self._listener = listener

    def write(self, line: str) -> None:
        """Append a line."""
        if self._listener is not None:
            self._listener(line)
        with self._lock:
            self._lines.append(line)
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")

    def consume(self, stream: IO[bytes]) -> None:
        """Append all lines of a stream."""
        for line in stream:
            self.write(line.decode(errors="replace").rstrip("\n"))

    @property
    def lines(self) -> list[str]:
        """The lines that are kept, oldest first."""
        with self._lock:
            return list(self._lines)

    def last_words(self) -> str:
        """Return the last line that is not blank, for error messages."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "it printed nothing")


class Child:
    """A started process, in a new session, that is killed together with its forks when this process ends.

    Args:
        command: ``exec``: a program and its arguments; ``module``: a Python module and its arguments, run as with
            ``python -m``.
        mode: see ``command``.
        environment: the whole environment of the process.
        output: where its standard output and error go.
        cwd: its working folder; that of this process if None.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        output: Sink,
        mode: Literal["exec", "module"] = "exec",
        cwd: Path | None = None,
    ) -> None:
        # Without ``site`` Python starts in half the time, but importing a module needs it.
        options = ["-P"] if mode == "module" else ["-P", "-S", "-E"]
        arguments = [sys.executable, *options, str(_LAUNCH), mode, *command]
        self._process = _starter().submit(_popen, arguments, dict(environment), cwd).result()
        self._reader = threading.Thread(target=self._read, args=(output,), name=f"output-{self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process ID, which is also the ID of its process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, at most ``timeout`` seconds; return the exit status, or None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the program and its forks, also after the program has ended and until `finish`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)  # the watching fork ignores TERM, INT and HUP, and reserves the group's number

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: TERM, INT, HUP and QUIT to the program alone, others (KILL, STOP...) to its forks as well."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number in _HANDLED:
                os.kill(self.pid, number)
            else:
                os.killpg(self.pid, number)

    def finish(self) -> None:
        """Kill the remaining forks of a program that has ended, and read its output to the end."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the watching fork keeps the group's number reserved
        self._reader.join(timeout=5)

    def stop(self, grace: float) -> int | None:
        """Send TERM, and KILL to all forks after ``grace`` seconds; return the exit status. May be repeated."""
        self.signal(signal.SIGTERM)
        if self.wait(grace) is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        status = self.wait(10)
        self.finish()
        return status

    def _read(self, output: Sink) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                output.consume(stream)


def wait_for_interruption() -> NoReturn:
    """Wait until a signal handler raises, such as that of Ctrl-C.

    Python runs a handler when the main thread wakes up. A signal that arrives just before the thread falls asleep does
    not wake it, so the thread wakes up twice a second.
    """
    while True:
        time.sleep(_WAKE_UP_SECONDS)


def environment_without(*prefixes: str) -> dict[str, str]:
    """Return this process's environment without the variables that start with one of the prefixes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


@cache
def _starter() -> ThreadPoolExecutor:
    """Return the thread that starts processes; it never ends, because Linux kills a thread's children with it."""
    return ThreadPoolExecutor(1, thread_name_prefix="child-starter")


def _popen(arguments: Sequence[str], environment: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
