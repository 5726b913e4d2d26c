"""The cost of one project's hostile patterns for another project's commit, as a ratio to harmless patterns."""

from __future__ import annotations

import time

from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.engine.commit import on_commit
from tests.unit.core.test_commit_filters import FILES, GROUPS, LARGE
from tests.unit.engine.test_tenants import hostile, sync
from tests.unit.engine.world import REPO, CommitEvent, World, config

__all__ = ["run"]

_MAIN = "refs/heads/main"
_COMMITS = 100
_JOBS = (1, 100)
"""The lines of the measured project."""
_HARMLESS = ['path_regexps: "src/.+"']
_HARMLESS_MISS = ['path_regexps: "other/.+"']
_HARMLESS_REF = ['refs: "regexp:refs/heads/other.+"']
_PATTERNS = {
    "9 patterns with 796 groups each, path_regexps": (_HARMLESS, [f'path_regexps: "{pattern}"' for pattern in GROUPS]),
    "9 patterns with 760 groups each, refs": (
        _HARMLESS_REF,
        [f'refs: "regexp:refs/heads/{"((((.*))))" * 190}{"x" * number}y"' for number in range(9)],
    ),
    "9 patterns of 2,704 instructions": (
        _HARMLESS_MISS,
        [f'path_regexps: "{number}{LARGE}"' for number in range(9)],
    ),
}
"""Hostile patterns, and harmless patterns that pass the same commits: with them, the project has the same work."""


class _Beside:
    """A project with some jobs, and another project with these lines."""

    def __init__(self, jobs: int, lines: list[str]) -> None:
        self._git = MemoryGitiles()
        self._world = World(config(tuple(f"job{number}" for number in range(jobs))), self._git)
        self._times: list[float] = []
        refs = [] if "refs:" in lines[0] else [f'refs: "{_MAIN}"']
        record = sync(self._world, "evil", hostile(*refs, *lines))
        assert record.job_ids == (JobId("evil/j0"), JobId("evil/p")), record.problems

    def commit(self, number: int) -> None:
        """Deliver a commit and record its time."""
        (revision,) = self._git.push(_MAIN, diff=FILES)
        begun = time.perf_counter()
        on_commit(self._world.runtime, CommitEvent(REPO, _MAIN, revision), self._world.clock.now(), f"commit-m{number}")
        self._times.append(time.perf_counter() - begun)

    @property
    def builds(self) -> int:
        """The number of invocations of the other project. It must be equal for both kinds of patterns."""
        return len(self._world.invocations(JobId("evil/j0")))

    @property
    def best(self) -> float:
        """The seconds of the fastest commit, because other work on the machine only adds time."""
        return min(self._times)


def run() -> bool:
    """Print each ratio; return whether all are below 1.2."""
    fine = True
    for jobs in _JOBS:
        for what, (harmless, lines) in _PATTERNS.items():
            with capture_logs():
                quiet, loud = _Beside(jobs, harmless), _Beside(jobs, lines)
                for number in range(_COMMITS):
                    quiet.commit(number)
                    loud.commit(number)
            assert quiet.builds == loud.builds
            ratio = loud.best / quiet.best
            fine = fine and ratio < 1.2
            mild, slow = 1000 * quiet.best, 1000 * loud.best
            times = f"{mild:.2f} ms with harmless patterns, {slow:.2f} ms with these: {ratio:.2f}"
            print(f"  {jobs} jobs; {what}: {times}")
    return fine
