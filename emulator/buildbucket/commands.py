"""Builds that run local programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import IO

from emulator.buildbucket.builds import Build
from emulator.buildbucket.plans import Command

__all__ = ["Commands", "environment", "status_of_exit"]

_TAIL = 4000


def status_of_exit(returncode: int) -> str:
    """Return the build status of a program's exit status; termination by a signal is INFRA_FAILURE."""
    return {0: "SUCCESS", 1: "FAILURE"}.get(returncode, "INFRA_FAILURE")


def environment(build: Build) -> dict[str, str]:
    """Return the environment variables of a build's program; unknown values are empty.

    ``BUILD_ID``, ``BUILD_NUMBER``, ``LUCI_PROJECT``, ``BUCKET``, ``BUILDER``, ``GITILES_HOST``, ``GITILES_PROJECT``,
    ``REF``, ``REVISION`` and ``PROPERTIES`` (JSON).
    """
    spec = build.spec
    commit = spec.gitiles_commit or {}
    return {
        "BUILD_ID": str(build.id),
        "BUILD_NUMBER": "" if build.number is None else str(build.number),
        "LUCI_PROJECT": spec.builder.project,
        "BUCKET": spec.builder.bucket,
        "BUILDER": spec.builder.builder,
        "GITILES_HOST": str(commit.get("host", "")),
        "GITILES_PROJECT": str(commit.get("project", "")),
        "REF": str(commit.get("ref", "")),
        "REVISION": str(commit.get("id", "") or spec.properties.get("revision", "")),
        "PROPERTIES": json.dumps(dict(spec.properties), sort_keys=True),
    }


class Commands:
    """The running programs. Each has its own process group, so that its children end with it."""

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._watchers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, build: Build, command: Command, on_exit: Callable[[int, str], None]) -> Callable[[], None]:
        """Start a build's program.

        The caller records the start and then calls the returned function, which begins to wait for the program. After
        that, ``on_exit`` receives the return code and the last 4000 bytes of output in another thread, unless `stop`
        was called.

        Raises:
            OSError: the program cannot be started.
        """
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the thread that waits for the program
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(build), **command.env},
                cwd=command.cwd,
                start_new_session=True,
            )
        except OSError:
            output.close()
            raise
        with self._lock:
            self._processes[build.id] = process
        watcher = threading.Thread(target=self._watch, args=(build.id, process, output, on_exit), daemon=True)
        self._watchers = [thread for thread in self._watchers if thread.is_alive() or thread.ident is None]
        self._watchers.append(watcher)
        return watcher.start

    def terminate(self, build_id: int) -> None:
        """Send SIGTERM to a build's program, if it has one."""
        self._signal(build_id, signal.SIGTERM)

    def kill(self, build_id: int) -> None:
        """Send SIGKILL to a build's program, if it has one."""
        self._signal(build_id, signal.SIGKILL)

    def stop(self) -> None:
        """Kill all programs and wait for them. Their builds do not change."""
        with self._lock:
            self._stopped = True
            running = list(self._processes)
        for build_id in running:
            self.kill(build_id)
        for watcher in self._watchers:
            if watcher.ident is not None:
                watcher.join(timeout=10)

    def _signal(self, build_id: int, number: signal.Signals) -> None:
        with self._lock:
            process = self._processes.get(build_id)
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def _watch(
        self, build_id: int, process: subprocess.Popen[bytes], output: IO[bytes], on_exit: Callable[[int, str], None]
    ) -> None:
        with output:
            returncode = process.wait()
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _TAIL))
            tail = output.read().decode(errors="replace")
        with self._lock:
            del self._processes[build_id]
            stopped = self._stopped
        if not stopped:
            on_exit(returncode, tail)
