"""``python -m tests.benchmarks.timeouts``: the time of each outside call to a silent server, with real limits.

It takes about a minute, because all calls run at once. It fails if a call exceeds its limit by ten percent.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.outside_calls import OUTSIDE_CALLS, SERVERS, Measured, measure, table

__all__ = ["run"]


def run() -> bool:
    """Print the table; return whether every call ended in time."""
    places = [(call, server) for call in OUTSIDE_CALLS for server in SERVERS]
    with ThreadPoolExecutor(len(places)) as pool:
        measured: list[Measured] = list(pool.map(lambda place: measure(*place, place[0].limit), places))
    print(table(measured))
    late = [item for item in measured if item.seconds > item.call.limit * 1.1]
    for item in late:
        print(f"too late: {item.call.name}, {item.server}: {item.seconds:.1f} s")
    return not late


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
