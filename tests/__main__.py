"""Runs all tests in two processes: ``python -m tests``.

One runs the folders of `BESIDE`, which keep a processor busy, beside all others, which mostly wait for servers.
The output of these folders comes after that of the others, and the totals last.
Options go to both runs of pytest.
To select tests, run pytest itself: a run without tests counts as a failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from signal import SIGINT
from typing import IO

__all__ = ["main", "run", "running"]

BESIDE = ("tests/terraform", "tests/unit", "tests/vectors")
_PATIENCE_SECONDS = 20.0
"""How long a part may stop its servers after an interruption."""


def main(arguments: Sequence[str]) -> int:
    """Run both parts, with the result of `run`."""
    pytest = [sys.executable, "-m", "pytest"]
    return run([*pytest, *BESIDE, *arguments], [*pytest, *(f"--ignore={name}" for name in BESIDE), *arguments])


def run(beside: Sequence[str], others: Sequence[str]) -> int:
    """Run two commands at once, and print the output of ``beside`` last.

    Returns:
        0 if both succeed, otherwise the exit code of a command that fails; negative if a signal ended it.
    """
    with tempfile.TemporaryFile() as log:
        with running(beside, log) as first, running(others) as second:
            code = second.wait()
            own = first.wait()
        log.seek(0)
        sys.stdout.write(log.read().decode(errors="replace"))
    sys.stdout.write(f"{', '.join(BESIDE)}: exit code {own}; all other tests: exit code {code}\n")
    return code or own


@contextmanager
def running(command: Sequence[str], log: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command inside ``with``; an exception, such as Ctrl-C, ends it.

    Args:
        command: program and arguments.
        log: takes the output of the command; None leaves it on the terminal.
    """
    child = subprocess.Popen(command, stdout=log, stderr=log and subprocess.STDOUT)
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for a child, which had the terminal's Ctrl-C as well: a second signal would leave its servers running."""
    steps: tuple[Callable[[], object], ...] = (child.poll, lambda: child.send_signal(SIGINT), child.kill)
    for step in steps:
        step()
        try:
            child.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
