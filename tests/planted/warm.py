"""A warm interpreter: it has imported what the tests need from other packages, and forks for each run of a module.

Half of the time of a narrow run of pytest is the import of packages that no planted bug changes. The project's own
modules are imported in each fork anew, so that each sees the planted bug. The arguments name the packages.

Protocol: a line on standard input is a JSON list, the file for the output followed by the module and its arguments.
The answer on standard output is a line with the exit code; negative, if a signal ended the run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import time

__all__: list[str] = []

_PATIENCE_SECONDS = 900
_PAUSE_SECONDS = 0.05


def _serve() -> None:
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):  # then the tests that need the package import it, or skip
            importlib.import_module(name)
    for line in sys.stdin:
        output, *command = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(output, command)
        sys.stdout.write(f"{_wait(child)}\n")
        sys.stdout.flush()


def _run(output: str, command: list[str]) -> None:
    """Run a module as ``python -m`` does, and end the process."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.setpgid(0, 0)
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    sys.exit(0)


def _wait(child: int) -> int:
    """Wait for a run; end it, with all processes that it has started, if it takes too long."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    _serve()
