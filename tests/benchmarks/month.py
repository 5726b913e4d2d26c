"""The large simulation: 30 days of 100 jobs, against the naive model and, with faults, against the invariants."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.simulation.compare import differences, violations
from tests.simulation.model import Model
from tests.simulation.project import START, Script, make_script
from tests.simulation.scheduler import ALL_FAULTS, LISTING, Faults, History, play

__all__ = ["run"]

DAYS, JOBS = 30, 100


def run(seed: int = 1, days: int = DAYS, jobs: int = JOBS) -> bool:
    """Run both and print their figures; return whether all is as expected."""
    script = make_script(seed, days, jobs)
    model = Model(script, seed, LISTING)
    model.run(START)
    print(f"virtual time: {days} days, {jobs} jobs, {len(script.events)} events from outside, seed {seed}")
    exact = _played("nothing goes wrong", script, seed, Faults(), lambda history: differences(model, history))
    stormy = _played("everything goes wrong", script, seed, ALL_FAULTS, lambda history: violations(history, script))
    return exact and stormy


def _played(title: str, script: Script, seed: int, faults: Faults, check: Callable[[History], list[str]]) -> bool:
    begun = time.monotonic()
    history = play(script, seed, faults).history
    seconds = time.monotonic() - begun
    started, discarded = (sum(map(len, items.values())) for items in (history.starts, history.discards))
    print(f"  {title}: {started} invocations, {discarded} triggers discarded, in {seconds:.0f} s")
    print("    " + ", ".join(f"{what} {number}" for what, number in sorted(history.counts.items())))
    wrong = check(history)
    print("    deviations from the expected run: " + str(len(wrong)))
    for text in wrong[:10]:
        print(f"    {text}")
    return not wrong
