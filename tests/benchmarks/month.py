"""The large simulation: 30 days of 100 jobs, against the naive model and, with faults, against the invariants."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from tests.benchmarks.measure import Measure
from tests.simulation.compare import differences, violations
from tests.simulation.model import Model
from tests.simulation.project import START, make_script
from tests.simulation.scheduler import ALL_FAULTS, LISTING, Faults, History, play

__all__ = ["measures"]

_SEED, _DAYS, _QUICK_DAYS, _JOBS = 1, 30, 1, 100


def measures(*, quick: bool) -> list[Measure]:
    """Play the month twice, in two processes at once: nothing goes wrong, and everything does."""
    days = _QUICK_DAYS if quick else _DAYS
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        played = [pool.submit(_without_faults, days), pool.submit(_with_faults, days)]
        found = [future.result() for future in played]
    return [measure for pair in found for measure in pair]


def _without_faults(days: int) -> list[Measure]:
    begun, script = time.monotonic(), make_script(_SEED, days, _JOBS)
    model = Model(script, _SEED, LISTING)
    model.run(START)
    history = play(script, _SEED, Faults()).history
    return _measured(f"{days} days of {_JOBS} jobs, nothing goes wrong", history, differences(model, history), begun)


def _with_faults(days: int) -> list[Measure]:
    begun, script = time.monotonic(), make_script(_SEED, days, _JOBS)
    history = play(script, _SEED, ALL_FAULTS).history
    return _measured(f"{days} days of {_JOBS} jobs, all faults", history, violations(history, script), begun)


def _measured(title: str, history: History, wrong: list[str], begun: float) -> list[Measure]:
    started, discarded = (sum(map(len, items.values())) for items in (history.starts, history.discards))
    details = {"invocations": started, "triggers discarded": discarded, **history.counts}
    return [
        Measure(f"{title}: deviations", "deviations", [len(wrong)], must=0, exact=True, details=details,
                notes=tuple(wrong[:10])),
        Measure(f"{title}: time", "s", [time.monotonic() - begun]),
    ]  # fmt: skip
