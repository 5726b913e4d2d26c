"""Plants one bug at a time in a copy of the tree, and runs tests there until one fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.planted.catalog import ROOT, Bug

__all__ = ["Copy", "RedError", "Verdict", "copy_files", "unit_tests_of"]

_STORM = ("emulator", "storm", "--schedules", "50")
_PATIENCE_SECONDS = 900
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE)
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
    """Return the folder of the unit tests of a file's package; all unit tests if the package has none of its own."""
    parts = Path(file).parts
    name = parts[2] if parts[0] == "functions" and len(parts) > 3 else parts[0]
    folder = f"tests/unit/{name}"
    return folder if (ROOT / folder).is_dir() else "tests/unit"


def copy_files(root: Path, target: Path) -> None:
    """Copy the files of a checkout, new ones included, without those that git ignores."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target / name)


@dataclass(slots=True)
class Copy:
    """A copy of the tree, in which one bug at a time is planted."""

    root: Path
    _green: set[tuple[str, ...]] = field(default_factory=set)
    """The commands that succeeded without a bug."""

    def judge(self, bug: Bug) -> Verdict:
        """Plant a bug and run, in this order, its own tests, its package's unit tests, and the simulator.

        Raises:
            RedError: a command fails without the bug, or cannot start with it.
            ValueError: the bug does not fit its file.
        """
        begun = time.monotonic()
        caught_by = next(filter(None, (self._caught_by(bug, command) for command in self._commands(bug))), "")
        return Verdict(bug, caught_by, time.monotonic() - begun)

    def check(self, tests: Sequence[str]) -> None:
        """Run tests without a bug.

        Raises:
            RedError: a test fails.
        """
        self._check_green(_pytest(sorted(set(tests))))

    def _commands(self, bug: Bug) -> Iterator[tuple[str, ...]]:
        yield _pytest(bug.tests)
        yield _pytest([unit_tests_of(bug.file)])
        if (self.root / "emulator" / "storm").is_dir():
            yield _STORM

    def _caught_by(self, bug: Bug, command: tuple[str, ...]) -> str:
        with self._planted(bug):
            code, output = self._run(command)
        if code not in (0, _RED):
            raise RedError(f"{bug.name}: exit code {code} of {' '.join(command)}\n{output}")
        if code == 0:
            return ""
        self._check_green(command)  # only now: most bugs are caught by few commands
        found = _FAILED.search(output)
        return found[1] if found else " ".join(("python", "-m", *command))

    def _check_green(self, command: tuple[str, ...]) -> None:
        if command in self._green:
            return
        code, output = self._run(command)
        if code:
            raise RedError(f"without a bug, exit code {code} of {' '.join(command)}\n{output}")
        self._green.add(command)

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
        # The environment's own packages come from the checkout; these folders come before them.
        env = {**os.environ, "PYTHONPATH": f"{self.root / 'functions'}{os.pathsep}{self.root}"}
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=env,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_SECONDS,
        )
        return done.returncode, done.stdout


def _pytest(paths: Sequence[str]) -> tuple[str, ...]:
    # In file order: the first failing test is the same in each run.
    return ("pytest", "-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:randomly", *paths)


def _write(path: Path, source: str) -> None:
    path.write_text(source, encoding="utf-8")
    # Python compares only seconds and sizes: it would take the bytecode of the other source for this one's.
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
