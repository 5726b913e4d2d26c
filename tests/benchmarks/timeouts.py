"""``python -m tests.benchmarks.timeouts``: the time of each outside call to a silent server, with real limits.

It takes about a minute, because all calls run at once. It fails if a call exceeds its limit by ten percent.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.measure import Measure
from tests.outside_calls import OUTSIDE_CALLS, SERVERS, Measured, measure, table

__all__ = ["measures", "run"]


_MUST = 1.1


def measures(*, quick: bool) -> list[Measure]:
    """Measure all calls at once; ``quick`` makes no difference."""
    ratios = {f"{item.call.name}, {item.server}: share of its limit": item.seconds / item.call.limit for item in _all()}
    details = {name: round(ratio, 3) for name, ratio in ratios.items()}
    return [Measure("outside calls: the longest, as a share of its limit", "", [max(ratios.values())], must=_MUST,
                    details=details)]  # fmt: skip


def run() -> bool:
    """Print the table; return whether every call ended in time."""
    measured = _all()
    print(table(measured))
    late = [item for item in measured if item.seconds > item.call.limit * _MUST]
    for item in late:
        print(f"too late: {item.call.name}, {item.server}: {item.seconds:.1f} s")
    return not late


def _all() -> list[Measured]:
    places = [(call, server) for call in OUTSIDE_CALLS for server in SERVERS]
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(lambda place: measure(*place, place[0].limit), places))


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
