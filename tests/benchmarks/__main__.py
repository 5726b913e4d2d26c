"""``make bench``: prints the measures that are too slow for every test run, and fails if one is wrong."""

from __future__ import annotations

import statistics
import subprocess
import sys

from tests.benchmarks import hostile_patterns, many_jobs, month

__all__: list[str] = []

_IMPORT = "import time; begun = time.monotonic(); import functions_framework; \
import flask; app = flask.Flask('x')\nwith app.app_context():\n import main\nprint(time.monotonic() - begun)"


def cold_start(runs: int = 5) -> float:
    """Return the median of the seconds in which a fresh process imports main.py."""
    command = [sys.executable, "-c", _IMPORT]
    times = [
        float(subprocess.run(command, cwd="functions", check=True, capture_output=True, text=True, timeout=60).stdout)
        for _ in range(runs)
    ]
    return statistics.median(times)


if __name__ == "__main__":
    print(f"cold start: main.py is imported in {cold_start():.2f} s, the median of 5 fresh processes")
    print("one commit, many jobs:")
    for measure in many_jobs.measures(quick=False):
        print(f"  {measure.median:.2f} s, {measure.ratio:.2f} times the raw calls: {measure.verdict}")
    print("a commit of one project with another project's patterns:")
    are_apart = hostile_patterns.run()
    sys.exit(0 if month.run() and are_apart else 1)
