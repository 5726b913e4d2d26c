"""`up` as a user runs it, in memory: it prints what happens, watches the configs, and continues after a restart."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.gitiles import Repository
from tests.waiting import until

CONFIG = """
job {{ id: "job" {task} }}
trigger {{
  id: "poller"
  schedule: "triggered"
  gitiles {{ repo: "https://host.googlesource.com/x" refs: "refs/heads/main" }}
  triggers: "job"
}}
"""


class _Up:
    """A running `up --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.first = self.entry()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def entry(self, kind: str = "") -> dict[str, Any]:
        """Return the next line of a kind, or the next line of all."""
        while True:
            line = self._lines.get(timeout=60)
            assert line is not None, "it has ended"
            found: dict[str, Any] = json.loads(line)
            if kind in ("", found["kind"]):
                return found

    def page(self, path: str) -> Any:
        """Return the JSON twin of a page of the console."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.first['console']}/{path}?format=json", timeout=20).json()

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        os.kill(self.process.pid, signal.SIGINT)
        assert self.process.wait(60) == 0


@contextmanager
def _up(folder: Path, *options: str) -> Iterator[_Up]:
    command = [sys.executable, "-m", "emulator", "up", "--json", "--no-watch", "--folder", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield _Up(process)
        finally:
            process.kill()


def _config(folder: Path, task: str = "noop { sleep_ms: 1 }") -> None:
    file = folder / "configs" / "mine" / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name("new").write_text(CONFIG.format(task=task), encoding="utf-8")
    file.with_name("new").replace(file)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    _config(tmp_path)
    return tmp_path


def _emit(up: _Up) -> None:
    batch = {"trigger": {"id": "t1", "noop": {}}, "jobs": [{"project": "mine", "job": "job"}]}
    url = f"{up.first['console']}/prpc/scheduler.Scheduler/EmitTriggers"
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, json={"batches": [batch]}, timeout=20).raise_for_status()


def _megabytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0  # not Linux
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1000


def _history(up: _Up) -> list[str]:
    return [item["invocation_id"] for item in up.page("jobs/mine/job")["invocations"]]


def test_changed_configs_are_in_force_and_the_next_run_continues(folder: Path) -> None:
    """Each change of a config is an entry. History, project, store and time continue.

    A commit that came meanwhile starts an invocation, without a poll.
    """
    with _up(folder, "--store", "memory", "--speed", "1000") as up:
        assert up.first["kind"] == "up"
        assert up.first["state"] == str(folder / "state")
        assert up.entry()["text"] == "the config of mine is in force: 2 jobs, 0 warnings"
        _config(folder, "noopp {}")
        problem = up.entry("config_problem")["text"]
        assert problem.startswith("mine/luci-scheduler.cfg:2: ")
        assert problem.endswith("; the last valid config of mine stays in force")
        _config(folder, "noop { sleep_ms: 2 }")
        in_force = up.entry("config")
        assert in_force["jobs"] == 2
        _emit(up)
        history = until(lambda: _history(up))
        assert _megabytes(up.process.pid) < 150
        up.stop()
    repository = Repository.create(folder / "repositories" / "host.googlesource.com" / "x")
    revision = repository.commit("While nothing ran", {"a": "1"})
    with _up(folder) as again:
        assert (again.first["store"], again.first["project"]) == ("memory", up.first["project"])
        assert again.first["time"] > in_force["time"]  # which had run ahead of the machine's clock
        assert again.entry("note")["revision"] == revision
        assert until(lambda: _history(again)[: -len(history)]), "the commit started nothing"
        assert _history(again)[-len(history) :] == history
