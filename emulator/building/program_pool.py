"""Runs the programs of builds in threads, a limited number of builds at once, in the order of their arrival."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from signal import SIGKILL, SIGTERM, Signals
from typing import Generic, TypeVar

from emulator.building.output import BuildOutput, Outputs
from emulator.building.programs import Programs

__all__ = ["PARALLEL", "ProgramPool"]

PARALLEL = max(2, os.cpu_count() or 2)
"""The number of builds that run programs at once, unless another number is given: one for each processor."""

KeyT = TypeVar("KeyT", bound=Hashable)
EndT = TypeVar("EndT")


class ProgramPool(Generic[KeyT]):
    """Runs the programs of builds, each of which has a key.

    Args:
        outputs: gets the output of each build while its programs run.
        parallel: the number of builds that run programs at once.
    """

    def __init__(self, outputs: Outputs[KeyT], parallel: int = PARALLEL) -> None:
        self._outputs = outputs
        self._parallel = parallel
        self._running: dict[KeyT, Programs] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._stopping = False
        self._lock = threading.Lock()

    def submit(
        self,
        key: KeyT,
        limits: tuple[float, float],
        begin: Callable[[], bool],
        work: Callable[[Programs, BuildOutput], EndT],
        on_end: Callable[[EndT], None],
    ) -> None:
        """Run the programs of a build as soon as fewer than ``parallel`` other builds run.

        Args:
            key: identifies the build.
            limits: the time limit of its programs, and the pause between the request to end and the kill, in seconds of
                real time.
            begin: records the start; if it returns False, no program runs.
            work: runs the programs and returns how they ended. It must not raise.
            on_end: gets that, unless `stop` was called.

        All three functions are called in another thread.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="build")
            self._pool.submit(self._run, key, limits, begin, work, on_end)

    def terminate(self, key: KeyT) -> None:
        """Send SIGTERM to a build's program and its children, if it has one."""
        self._signal(key, SIGTERM)

    def kill(self, key: KeyT) -> None:
        """Send SIGKILL to a build's program and its children, if it has one."""
        self._signal(key, SIGKILL)

    def stop(self) -> None:
        """Kill all programs and wait for them. Their builds do not change, and waiting ones do not start."""
        with self._lock:
            self._stopping = True
            pool, running = self._pool, list(self._running.values())
        for programs in running:
            programs.signal(SIGKILL)
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        with self._lock:
            self._pool, self._stopping = None, False

    def _signal(self, key: KeyT, number: Signals) -> None:
        with self._lock:
            programs = self._running.get(key)
        if programs is not None:
            programs.signal(number)

    def _run(
        self,
        key: KeyT,
        limits: tuple[float, float],
        begin: Callable[[], bool],
        work: Callable[[Programs, BuildOutput], EndT],
        on_end: Callable[[EndT], None],
    ) -> None:
        output = self._outputs.add(key)
        with Programs(output, *limits) as programs:
            with self._lock:
                if self._stopping:
                    return
                self._running[key] = programs
            ended = [work(programs, output)] if begin() else []
        with self._lock:
            del self._running[key]
            is_stopping = self._stopping
        if ended and not is_stopping:
            on_end(ended[0])
