"""Plants one bug at a time in a copy of the tree, and runs tests there until one fails."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.planted.catalog import ROOT, Bug

__all__ = ["Copy", "RedError", "Verdict", "copy_files", "unit_tests_of"]

PACKAGES = (
    "flask", "freezegun", "functions_framework", "google.auth.jwt", "google.cloud.firestore", "google.cloud.pubsub_v1",
    "google.cloud.tasks_v2", "grpc", "hypothesis", "jinja2", "psutil", "pytest", "requests", "structlog.testing",
    "werkzeug.serving",
)  # fmt: skip
"""What tests import most often. Without the plugins of pytest, which pytest itself must import."""

_STORM = ("emulator", "storm", "--schedules", "50")
_WARM = Path(__file__).with_name("warm.py")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", re.MULTILINE)
_RED = 1
"""The exit code of pytest if a test fails, and of the simulator if a schedule fails."""


class RedError(Exception):
    """Tests cannot judge a bug: they fail without it, or cannot even start with it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a planted bug."""

    bug: Bug
    caught_by: str
    """The first failing test, or the command of the simulator; empty for a survivor."""
    seconds: float


def unit_tests_of(file: str) -> str:
    """Return the folder of the unit tests of a file's package; all unit tests if the package has no folder."""
    parts = Path(file).parts
    name = parts[2] if parts[0] == "functions" and len(parts) > 3 else parts[0]
    folder = f"tests/unit/{name}"
    return folder if (ROOT / folder).is_dir() else "tests/unit"


def copy_files(root: Path, target: Path) -> None:
    """Copy the files of a checkout, new files included. Of the files that git ignores, copy only the bytecode."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    names = [Path(name) for name in listed.split("\0") if name and (root / name).is_file()]
    for folder in {name.parent for name in names}:
        (target / folder).mkdir(parents=True, exist_ok=True)
        if (bytecode := root / folder / "__pycache__").is_dir():
            unfinished = shutil.ignore_patterns("*.pyc.*")  # another process is writing it, and renames it at the end
            shutil.copytree(bytecode, target / folder / "__pycache__", ignore=unfinished)
    for name in names:
        shutil.copy2(root / name, target / name)  # with its time, by which Python compares it with the bytecode


@dataclass(slots=True)
class Copy:
    """A copy of the tree, in which one bug at a time is planted."""

    root: Path
    quick: bool = False
    """Whether only a bug's own tests run."""
    packages: Sequence[str] = PACKAGES
    """The packages that every run needs."""
    _warm: subprocess.Popen[str] | None = None

    def judge(self, bug: Bug) -> Verdict:
        """Plant a bug and run, until a test fails, its own tests, its package's unit tests, and the simulator.

        `check` must follow: a test that fails without the bug as well has not caught it.

        Raises:
            RedError: a command cannot start with the bug.
            ValueError: the bug does not fit its file.
        """
        begun = time.monotonic()
        caught_by = next(filter(None, (self._caught_by(bug, command) for command in self._commands(bug))), "")
        return Verdict(bug, caught_by, time.monotonic() - begun)

    def check(self, verdicts: Sequence[Verdict]) -> None:
        """Run the tests that caught bugs, without a bug.

        Raises:
            RedError: something fails.
        """
        tests = sorted({verdict.caught_by for verdict in verdicts if "::" in verdict.caught_by})
        others = {verdict.caught_by for verdict in verdicts if "::" not in verdict.caught_by} - {""}
        for command in ([_pytest(tests)] if tests else []) + [tuple(text.split()[2:]) for text in sorted(others)]:
            code, output = self._run(command)
            if code:
                raise RedError(f"without a bug, exit code {code} of {' '.join(command)}\n{output}")

    def _commands(self, bug: Bug) -> Iterator[tuple[str, ...]]:
        yield _pytest(bug.tests)
        if self.quick:
            return
        yield _pytest([unit_tests_of(bug.file)])
        if (self.root / "emulator" / "storm").is_dir():
            yield _STORM

    def output_with(self, bug: Bug, command: Sequence[str]) -> str:
        """Run a module of Python with a bug; return its output.

        Raises:
            RedError: the module failed otherwise than by a finding.
        """
        with self._planted(bug):
            code, output = self._run(command)
        if code not in (0, _RED):
            raise RedError(f"{bug.name}: exit code {code} of {' '.join(command)}\n{output}")
        return output

    def _caught_by(self, bug: Bug, command: tuple[str, ...]) -> str:
        with self._planted(bug):
            code, output = self._run(command)
        if code not in (0, _RED):
            raise RedError(f"{bug.name}: exit code {code} of {' '.join(command)}\n{output}")
        if code == 0:
            return ""
        found = _FAILED.search(output)
        return found[1] if found else " ".join(("python", "-m", *command))

    @contextmanager
    def _planted(self, bug: Bug) -> Iterator[None]:
        path = self.root / bug.file
        source = path.read_text(encoding="utf-8")
        try:
            _write(path, bug.planted(source))
            yield
        finally:
            _write(path, source)

    def _run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a module of Python in this copy; return its exit code and output."""
        if self._warm is None:
            self._warm = self._start()
        assert self._warm.stdin
        assert self._warm.stdout
        with tempfile.NamedTemporaryFile() as output:
            self._warm.stdin.write(f"{json.dumps([output.name, *command])}\n")
            self._warm.stdin.flush()
            code = int(self._warm.stdout.readline())
            return code, Path(output.name).read_text(encoding="utf-8", errors="replace")

    def _start(self) -> subprocess.Popen[str]:
        # The environment's own packages come from the checkout; these folders come before them.
        path = [str(self.root / "functions"), str(self.root)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, "-P", str(_WARM), *self.packages]
        return subprocess.Popen(
            command, cwd=self.root, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End the interpreter of this copy."""
        if self._warm is not None:
            self._warm.communicate()
            self._warm = None


def _pytest(paths: Sequence[str]) -> tuple[str, ...]:
    # In file order, so that the first failing test is the same in each run. Other plugins double the time of a run.
    return ("pytest", "-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_timeout", *paths)


def _write(path: Path, source: str) -> None:
    path.write_text(source, encoding="utf-8")
    # Python compares only seconds and sizes: it would take the bytecode of the other source for this one's.
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
