"""``make bench``: runs all measures, prints one table, writes one JSON, and fails if a must is missed.

Each suite runs in a fresh process. On a machine with other work, a missed time is reported and excused; a wrong count
is never excused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.machine import Watch, commit, machine, versions
from tests.benchmarks.measure import read_measure
from tests.benchmarks.report import Report, SuiteResult, joined, read_report, table
from tests.benchmarks.suites import SUITES, Suite, measures_of

__all__: list[str] = []

_SUITE_SECONDS = 3600
_LAST_WORDS = 300


def main(arguments: Sequence[str]) -> int:
    """Run the wanted suites; 1 if a must is missed."""
    asked = _parse(arguments)
    if asked.into:
        (name,) = asked.only
        Path(asked.into).write_text(json.dumps([each.as_json() for each in measures_of(name, quick=asked.quick)]))
        return 0
    wanted = [suite for suite in SUITES if suite.module in asked.only or (not asked.only and _runs(suite, asked))]
    report = Report(
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit(),
        asked.quick,
        machine(),
        versions(),
        tuple(_run(suite, quick=asked.quick) for suite in wanted),
    )
    if asked.json:
        _store(report, Path(asked.json), is_part=bool(asked.only))
    print(table(report))
    return 1 if report.missed else 0


def _store(report: Report, file: Path, *, is_part: bool) -> None:
    """Write a report. A run of only some suites keeps the results of the others that the file has."""
    if is_part and file.exists():
        report = joined(report, read_report(json.loads(file.read_text(encoding="utf-8"))))
    file.write_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    names = [suite.module for suite in SUITES]
    parser.add_argument("--quick", action="store_true", help="the short form of each suite, about two minutes in all")
    parser.add_argument(
        "--json", metavar="FILE", help="write the report to this file as well; with --only, keep its other suites"
    )
    parser.add_argument("--only", action="append", default=[], choices=names, help="only this suite; may be repeated")
    parser.add_argument("--into", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _runs(suite: Suite, asked: argparse.Namespace) -> bool:
    return suite.quick or not asked.quick


def _run(suite: Suite, *, quick: bool) -> SuiteResult:
    """Run a suite in a fresh process."""
    print(f"measuring: {suite.title}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measures.json"
        command = [sys.executable, "-m", "tests.benchmarks", "--only", suite.module, "--into", str(file)]
        watch = Watch()
        problem = _problem(command + ["--quick"] * quick)
        beside = watch.stop()
        rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return SuiteResult(suite.module, suite.title, tuple(map(read_measure, rows)), beside, problem, commit())


def _problem(command: Sequence[str]) -> str:
    """Run a command; return the end of its error output if it fails."""
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=_SUITE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not end within {_SUITE_SECONDS} s"
    if not done.returncode:
        return ""
    return f"exit code {done.returncode}: {done.stderr.strip()[-_LAST_WORDS:]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
