"""The throughput and the memory of the simulation: projects with faults, shared out over processes.

``python -m tests.benchmarks.simulation [--projects 100] [--jobs 100] [--days 0.5] [--processes 2]`` plays the large
form: 10,000 jobs and more than 100,000 invocations. Each project is played on a separate store under all faults, is
checked against the invariants, and is forgotten.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.benchmarks.measure import Better, Measure
from tests.simulation.compare import violations
from tests.simulation.project import make_script
from tests.simulation.scheduler import ALL_FAULTS, play

__all__ = ["Played", "Project", "Shape", "measures", "run"]

_MUST_SECONDS, _AIM_SECONDS, _MUST_MIB = 300, 200, 1024
_COLLECT_EVERY = 100_000  # allocations; the default, 700, costs a tenth of the time


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a run."""

    projects: int = 100
    jobs: int = 100
    days: float = 0.5
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Project:
    """The result of one project."""

    process: int
    invocations: int
    wrong: tuple[str, ...]
    cpu: float
    peak: int
    """The peak of the process's memory so far, in KiB."""


@dataclass(frozen=True, slots=True)
class Played:
    """The result of a run."""

    jobs: int
    invocations: int
    wrong: tuple[str, ...]
    seconds: float
    cpu: float
    mib: float
    """The sum of the peaks of all processes."""


def run(shape: Shape) -> Played:
    """Play the projects, each under its number as the seed."""
    begun = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(shape.processes, context, _prepare) as pool:
        rows = list(pool.map(_play, [(seed, shape) for seed in range(1, shape.projects + 1)]))
    peaks: dict[int, int] = {os.getpid(): resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    for row in rows:
        peaks[row.process] = max(peaks.get(row.process, 0), row.peak)
    return Played(
        jobs=shape.projects * shape.jobs,
        invocations=sum(row.invocations for row in rows),
        wrong=tuple(text for row in rows for text in row.wrong),
        seconds=time.monotonic() - begun,
        cpu=sum(row.cpu for row in rows),
        mib=sum(peaks.values()) / 1024,
    )


def _prepare() -> None:
    gc.set_threshold(_COLLECT_EVERY, 20, 100)


def _play(task: tuple[int, Shape]) -> Project:
    seed, shape = task
    begun = time.process_time()
    script = make_script(seed, shape.days, shape.jobs)
    history = play(script, seed, ALL_FAULTS).history
    wrong = tuple(f"seed {seed}: {text}" for text in violations(history, script))
    invocations = sum(map(len, history.starts.values()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Project(os.getpid(), invocations, wrong, time.process_time() - begun, peak)


def measures(*, quick: bool) -> list[Measure]:
    """Play two small projects, or the large form."""
    shape = Shape(projects=2, jobs=20, days=0.25) if quick else Shape()
    played = run(shape)
    rate = played.invocations / played.cpu
    full = 100_000 / rate / shape.processes
    about = f"{played.invocations:,} invocations of {played.jobs:,} jobs in {played.seconds:.0f} s"
    notes = [f"{about}, {shape.processes} processes, under all faults", *played.wrong[:5]]
    return [
        Measure("simulation: deviations from the invariants", "deviations", [len(played.wrong)], must=0, exact=True),
        Measure(
            "simulation: 100,000 invocations",
            "s",
            [full if quick else 100_000 * played.seconds / played.invocations],
            must=_MUST_SECONDS,
            aim=_AIM_SECONDS,
            details={"invocations per CPU second": round(rate)},
            notes=(*notes, "calculated from a small run") if quick else notes,
        ),
        Measure("simulation: invocations per CPU second", "invocations", [rate], better=Better.MORE),
        Measure("simulation: peak of memory, all processes", "MiB", [played.mib], must=_MUST_MIB, notes=notes[:1]),
    ]


def main(arguments: Sequence[str]) -> int:
    """Play a run and print its figures; 1 if an invariant is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulation", description=__doc__)
    for name, kind in (("projects", int), ("jobs", int), ("days", float), ("processes", int)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Shape(), name), help="default: %(default)s")
    asked = parser.parse_args(arguments)
    played = run(Shape(asked.projects, asked.jobs, asked.days, asked.processes))
    print(f"{played.invocations:,} invocations of {played.jobs:,} jobs in {played.seconds:.0f} s on {asked.processes}")
    print(f"processes: {played.invocations / played.cpu:.0f} per CPU second, {played.mib:.0f} MiB in all")
    print(f"deviations from the invariants: {len(played.wrong)}")
    for text in played.wrong[:10]:
        print(f"  {text}")
    return 1 if played.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
