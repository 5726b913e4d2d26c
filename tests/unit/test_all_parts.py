"""``python -m tests``: its exit code covers all parts, and an interruption leaves no part behind."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests import __main__ as all_tests
from tests.waiting import until

_KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
# Python ignores SIGINT if its parent does, as the background commands of a shell do.
_SLEEP = """
import signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
Path({ready!r}).touch()
time.sleep(600)
"""


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("beside", "others", "expected"),
    [
        ("", "", 0),
        ("raise SystemExit(3)", "", 3),
        ("", "raise SystemExit(3)", 3),
        ("raise SystemExit(2)", "raise SystemExit(1)", 1),
        (_KILLED, "", -signal.SIGKILL),
        ("", _KILLED, -signal.SIGKILL),
    ],
)
def test_a_failure_of_any_part_is_a_failure(beside: str, others: str, expected: int) -> None:
    assert all_tests.run({"a": _python(""), "b": _python(beside)}, _python(others)) == expected
    assert all_tests.run({"a": _python(beside), "b": _python("")}, _python(others)) == expected


def test_the_output_of_the_part_beside_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    all_tests.run({"a": _python("import sys; print('out'); sys.exit('problem')"), "b": _python("")}, _python(""))
    printed = capsys.readouterr().out
    assert "out\n" in printed
    assert "problem\n" in printed
    assert printed.endswith("a: exit code 1; b: exit code 0; all other tests: exit code 0\n")


def test_the_last_part_starts_when_another_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three run at a time, and the processors have work until the end."""
    left, alive = {"others": 9, "a": 5, "b": 2, "c": 2}, list[str]()
    seen: list[tuple[str, ...]] = []

    @contextmanager
    def started(command: list[str], _: object = None) -> Iterator[SimpleNamespace]:
        (name,) = command

        def poll() -> int | None:
            left[name] -= 1
            if left[name] > 0:
                return None
            if name in alive:
                alive.remove(name)
            return 0

        alive.append(name)
        seen.append(tuple(alive))
        yield SimpleNamespace(poll=poll)

    monkeypatch.setattr(all_tests, "running", started)
    assert all_tests.run({name: [name] for name in "abc"}, ["others"]) == 0
    assert seen == [("others",), ("others", "a"), ("others", "a", "b"), ("others", "a", "c")]


class _Child:
    """A part that ends after the last of a number of steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.taken: list[str] = []

    def poll(self) -> None:
        self.taken.append("poll")

    def send_signal(self, number: int) -> None:
        self.taken.append(signal.Signals(number).name)

    def kill(self) -> None:
        self.taken.append("SIGKILL")

    def wait(self, seconds: float) -> None:
        if len(self.taken) < self._steps:
            raise subprocess.TimeoutExpired("pytest", seconds)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_part_gets_a_signal_only_if_it_stays(steps: int) -> None:
    """The terminal has sent one already. A part that ignores the second one is killed."""
    child = _Child(steps)
    all_tests._end(cast("subprocess.Popen[bytes]", child))
    assert child.taken == ["poll", "SIGINT", "SIGKILL"][:steps]


def _interrupt(command: list[str], ready: Path, children: list[subprocess.Popen[bytes]]) -> None:
    with all_tests.running(command) as child:
        children.append(child)
        until(ready.exists)
        child.send_signal(signal.SIGINT)  # the terminal sends it to both
        raise KeyboardInterrupt


def test_an_interruption_leaves_no_part_behind(tmp_path: Path) -> None:
    """The part has ended, and has been waited for, when the interruption goes on."""
    ready = tmp_path / "ready"
    children: list[subprocess.Popen[bytes]] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupt(_python(_SLEEP.format(ready=str(ready))), ready, children)
    assert [child.returncode for child in children] == [-signal.SIGINT]


def test_processes_of_tests_keep_bytecode() -> None:
    """Otherwise each of them compiles the project anew, also where the environment forbids bytecode."""
    assert not sys.dont_write_bytecode
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_garbage_is_looked_for_only_in_new_objects() -> None:
    """The modules and the collected tests are exempt."""
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
