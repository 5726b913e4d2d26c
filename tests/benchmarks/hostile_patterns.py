"""What one project's hostile patterns cost a commit of another project: the ratio of the times with these and with harmless ones."""

from __future__ import annotations

import time

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
"""Of the project that is measured."""
_HARMLESS = ['path_regexps: "src/.+"']
_PATTERNS = {
    "9 patterns with 796 groups each, path_regexps": [f'path_regexps: "{pattern}"' for pattern in GROUPS],
    "9 patterns with 760 groups each, refs": [
        f'refs: "regexp:refs/heads/{"((((.*))))" * 190}{"x" * number}y"' for number in range(9)
    ],
    "9 patterns of 2,704 instructions": [f'path_regexps: "{number}{LARGE}"' for number in range(9)],
}


def _best(world: World, git: MemoryGitiles) -> float:
    times = []
    for number in range(_COMMITS):
        (commit,) = git.push(_MAIN, diff=FILES)
        begun = time.perf_counter()
        on_commit(world.runtime, CommitEvent(REPO, _MAIN, commit), world.clock.now(), f"commit-m{number}")
        times.append(time.perf_counter() - begun)
    return min(times)


def _beside(jobs: int, lines: list[str]) -> float:
    """Return the seconds of the fastest commit for a project beside another one with these lines: other work on the machine only adds."""
    git = MemoryGitiles()
    world = World(config(tuple(f"job{number}" for number in range(jobs))), git)
    refs = [] if "refs:" in lines[0] else [f'refs: "{_MAIN}"']
    record = sync(world, "evil", hostile(*refs, *lines))
    assert record.job_ids == (JobId("evil/j0"), JobId("evil/p")), record.problems
    return _best(world, git)


def run() -> bool:
    """Print each ratio; return whether all are below 1.2."""
    fine = True
    for jobs in _JOBS:
        harmless = _beside(jobs, _HARMLESS)
        for what, lines in _PATTERNS.items():
            hostile_ones = _beside(jobs, lines)
            ratio = hostile_ones / harmless
            fine = fine and ratio < 1.2
            times = f"{1000 * harmless:.2f} ms beside harmless patterns, {1000 * hostile_ones:.2f} ms beside these: {ratio:.2f}"
            print(f"  {jobs} jobs; {what}: {times}")
    return fine
