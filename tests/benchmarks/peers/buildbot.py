"""A Buildbot master and a worker, from the package index, in a separate environment outside the repository."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from emulator.downloads import cache_folder
from emulator.processes import Child, Output
from emulator.tcp_ports import free_port

__all__ = ["Buildbot", "BuildbotError", "environment"]

VERSION = "4.3.0"
_PACKAGES = (f"buildbot=={VERSION}", f"buildbot-worker=={VERSION}")
_HERE = Path(__file__).parent
_INSTALL_SECONDS, _START_SECONDS, _GRACE_SECONDS = 600.0, 120.0, 10.0
_POLL_SECONDS = 0.25  # each look reads the database that the master writes
_BUILDS = """
    SELECT sourcestamps.revision, builders.name, builds.results, builds.complete_at IS NOT NULL
    FROM builds
    JOIN builders ON builders.id = builds.builderid
    JOIN buildrequests ON buildrequests.id = builds.buildrequestid
    JOIN buildset_sourcestamps ON buildset_sourcestamps.buildsetid = buildrequests.buildsetid
    JOIN sourcestamps ON sourcestamps.id = buildset_sourcestamps.sourcestampid
"""
_SUCCESS = 0


class BuildbotError(Exception):
    """Buildbot cannot be installed, or does not start; the text is the reason."""


def environment() -> Path:
    """Return the folder with Buildbot's programs; the first call installs it, which takes half a minute.

    Raises:
        BuildbotError: pip cannot install it.
    """
    folder = cache_folder() / f"buildbot-{VERSION}"
    if not (folder / "installed").exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *_PACKAGES],
        ):
            _run(command, _INSTALL_SECONDS)
        (folder / "installed").touch()
    return folder / "bin"


def _run(command: Sequence[str], seconds: float, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildbotError(f"{Path(command[0]).name} failed: {error}") from error
    if done.returncode:
        raise BuildbotError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-400:]}")


class Buildbot:
    """A running master with its worker and its database in a temporary folder.

    Args:
        builders: category of changes → the names of the builders that build each of its changes.

    Raises:
        BuildbotError: it cannot be installed, or does not start.
    """

    def __init__(self, builders: Mapping[str, Sequence[str]]) -> None:
        self._stack = ExitStack()
        self._bin = environment()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="buildbot-")))
        self._port = free_port()
        try:
            self._run_programs(builders)
        except BaseException:
            self._stack.close()
            raise

    def _run_programs(self, builders: Mapping[str, Sequence[str]]) -> None:
        master, worker = self._folder / "master", self._folder / "worker"
        master.mkdir()
        (master / "master.cfg").write_text((_HERE / "master.cfg").read_text(encoding="utf-8"), encoding="utf-8")
        asked = {"port": self._port, "builders": {category: list(names) for category, names in builders.items()}}
        (master / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        address = f"127.0.0.1:{self._port}"
        _run([str(self._bin / "buildbot"), "create-master", "--db=sqlite:///state.sqlite", "master"], 60, self._folder)
        create = ["create-worker", "--maxdelay=1", "worker", address, "worker", "password"]
        _run([str(self._bin / "buildbot-worker"), *create], 60, self._folder)
        self.master = self._start_master()
        self.worker = self._start("buildbot-worker", worker)
        self._wait_for_the_worker(1)
        command = [str(self._bin / "python"), str(_HERE / "send_changes.py"), str(self._port)]
        self.sender = self._stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        self._stack.callback(self.sender.kill)  # it may be waiting for a master that is gone
        assert self.sender.stdout is not None
        if self.sender.stdout.readline() != "connected\n":
            raise BuildbotError("the sender of changes did not connect; its output is above")

    def _start(self, program: str, folder: Path) -> Child:
        command = [str(self._bin / program), "start", "--nodaemon", "."]
        child = Child(command, environment=dict(os.environ), output=Output(folder / "output.log"), cwd=folder)
        self._stack.callback(child.stop, _GRACE_SECONDS)
        return child

    def _start_master(self) -> Child:
        return self._start("buildbot", self._folder / "master")

    def _wait_for_the_worker(self, times: int) -> None:
        """Wait until the worker has attached ``times`` times to any master since the start."""
        log = self._folder / "worker" / "twistd.log"
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if log.exists() and log.read_text(errors="replace").count("Connected to buildmaster") >= times:
                return
            time.sleep(_POLL_SECONDS)
        raise BuildbotError(f"the worker did not attach within {_START_SECONDS:.0f} s; see {log}")

    def send(self, category: str, revisions: Sequence[str], *, at_once: int) -> None:
        """Send a change for each revision, ``at_once`` of them before an answer; `sent` waits for the answers."""
        row = {
            "category": category, "project": "", "repository": "r", "who": "a@example.com", "files": ["f"],
            "comments": "c", "branch": "main", "when": None, "properties": {}, "revlink": "", "src": None,
        }  # fmt: skip
        assert self.sender.stdin is not None
        changes = [{**row, "revision": revision} for revision in revisions]
        self.sender.stdin.write(json.dumps({"changes": changes, "at_once": at_once}) + "\n")
        self.sender.stdin.flush()

    def sent(self) -> int:
        """Wait until the master took all changes; return how many it took over the first connection."""
        assert self.sender.stdout is not None
        return int(self.sender.stdout.readline())

    def kill_master(self) -> None:
        """Kill the master with SIGKILL and start it again at once; the worker attaches by itself."""
        self.master.signal(signal.SIGKILL)
        self.master.wait()
        self.master.finish()
        self.master = self._start_master()
        self._wait_for_the_worker(2)

    def successes(self, revisions: Sequence[str]) -> Counter[tuple[str, str]]:
        """Return how often each revision was built successfully by each builder."""
        wanted = set(revisions)
        return Counter((r, name) for r, name, result, _ in self._rows() if r in wanted and result == _SUCCESS)

    def wait_for(self, revisions: Sequence[str], builds: int, seconds: float, quiet: float = math.inf) -> bool:
        """Wait until so many builds succeeded; after ``quiet`` seconds without a further one, return False."""
        until, seen, changed = time.monotonic() + seconds, -1, time.monotonic()
        while (now := time.monotonic()) < until:
            count = self.successes(revisions).total()
            if count >= builds:
                return True
            if count != seen:
                seen, changed = count, now
            if now - changed > quiet:
                return False
            time.sleep(_POLL_SECONDS)
        return False

    def _rows(self) -> list[tuple[str, str, int, int]]:
        with sqlite3.connect(f"file:{self._folder}/master/state.sqlite?mode=ro", uri=True, timeout=20) as database:
            rows = database.execute(_BUILDS).fetchall()
        database.close()
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
