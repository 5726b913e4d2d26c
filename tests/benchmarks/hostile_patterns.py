"""The cost of one project's hostile patterns for another project's commit, as a ratio to harmless patterns."""

from __future__ import annotations

import time

from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.engine.commit import on_commit
from tests.benchmarks.measure import Measure
from tests.unit.core.test_commit_filters import FILES, GROUPS, LARGE
from tests.unit.engine.test_tenants import hostile, sync
from tests.unit.engine.world import REPO, CommitEvent, World, config

__all__ = ["measures"]

_MAIN = "refs/heads/main"
_COMMITS, _QUICK_COMMITS = 100, 30
_JOBS, _QUICK_JOBS = (1, 100), (1,)
"""The jobs of the measured project."""
_MUST = 1.2
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


def measures(*, quick: bool) -> list[Measure]:
    """Measure a commit beside each kind of patterns, and beside harmless ones."""
    jobs, commits = (_QUICK_JOBS, _QUICK_COMMITS) if quick else (_JOBS, _COMMITS)
    return [_measured(number, commits, what, *lines) for number in jobs for what, lines in _PATTERNS.items()]


def _measured(jobs: int, commits: int, what: str, harmless: list[str], lines: list[str]) -> Measure:
    with capture_logs():
        quiet, loud = _Beside(jobs, harmless), _Beside(jobs, lines)
        for number in range(commits):
            quiet.commit(number)
            loud.commit(number)
    assert quiet.builds == loud.builds
    return Measure(
        f"commit for {jobs} jobs beside {what}",
        "ms",
        [1000 * loud.best],
        [1000 * quiet.best],
        against="the same commit beside harmless patterns",
        must=_MUST,
        notes=("the fastest of all commits, because other work on the machine only adds time",),
    )
