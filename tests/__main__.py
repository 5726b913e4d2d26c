"""Runs all tests in three processes at a time: ``python -m tests``.

The parts of `BESIDE` keep a processor busy, and all other tests mostly wait for servers. So three fill two processors.
The last part starts as soon as another part has ended, so that the processors are busy until the end.
The output of the parts of `BESIDE` comes last, and the exit code of each part at the very end.
Options go to all runs of pytest.
To select tests, run pytest itself: a run without tests counts as a failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from signal import SIGINT
from typing import IO

__all__ = ["main", "run", "running"]

BESIDE = (
    ("tests/terraform",),
    (
        "tests/unit",
        "tests/vectors",
    ),
    (
        "tests/fuzz",
        "tests/storm",
        "tests/security",
        "tests/simulation",
        "tests/budgets",
        "tests/planted",
        "tests/clients",
    ),
)
"""Folders of each part, in the order in which the parts start. The tests of Terraform work in threads from their start
to their end, so they have a separate process: other tests change its environment and its clock."""
_AT_A_TIME = 3
_OTHERS = "all other tests"
_PAUSE_SECONDS = 0.05
"""Between two looks whether a part has ended."""
_PATIENCE_SECONDS = 20.0
"""How long a part may stop its servers after an interruption."""


def main(arguments: Sequence[str]) -> int:
    """Run all parts, with the result of `run`."""
    pytest = [sys.executable, "-m", "pytest"]
    ignored = [f"--ignore={folder}" for folders in BESIDE for folder in folders]
    beside = {" ".join(folders): [*pytest, *folders, *arguments] for folders in BESIDE}
    return run(beside, [*pytest, *ignored, *arguments])


def run(beside: Mapping[str, Sequence[str]], others: Sequence[str]) -> int:
    """Run ``others`` and the commands of ``beside``, by name: three at a time, in this order.

    Prints the output of ``beside`` last, one part after the other.

    Returns:
        0 if all succeed, otherwise the exit code of a command that fails; negative if a signal ended it.
    """
    with ExitStack() as stack:
        logs = {name: stack.enter_context(tempfile.TemporaryFile()) for name in beside}
        codes = _exit_codes({_OTHERS: others, **beside}, logs)
        for log in logs.values():
            log.seek(0)
            sys.stdout.write(log.read().decode(errors="replace"))
    sys.stdout.write("; ".join(f"{name}: exit code {code}" for name, code in codes.items()) + "\n")
    return next((code for code in reversed(codes.values()) if code), 0)


def _exit_codes(commands: Mapping[str, Sequence[str]], logs: Mapping[str, IO[bytes]]) -> dict[str, int]:
    """Run commands in their order, three at a time; return the exit codes, the first command's last."""
    waiting, started, codes = list(commands), dict[str, subprocess.Popen[bytes]](), dict[str, int]()
    with ExitStack() as stack:
        while len(codes) < len(commands):
            while waiting and len(started) - len(codes) < _AT_A_TIME:
                name = waiting.pop(0)
                started[name] = stack.enter_context(running(commands[name], logs.get(name)))
            time.sleep(_PAUSE_SECONDS)
            codes |= {name: code for name, child in started.items() if (code := child.poll()) is not None}
    first, *others = commands
    return {name: codes[name] for name in (*others, first)}


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
