"""The report of a run: one table for people, one JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tests.benchmarks.machine import Beside
from tests.benchmarks.measure import Better, Measure, Verdict, read_measure

__all__ = ["Report", "SuiteResult", "excused", "joined", "number", "read_report", "rows", "table"]


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """The measures of a suite."""

    module: str
    title: str
    measures: tuple[Measure, ...]
    beside: Beside
    problem: str = ""
    """The reason for which the suite did not run to its end."""
    commit: str = ""
    """The commit that was measured."""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    taken: str
    """RFC 3339."""
    commit: str
    quick: bool
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    suites: tuple[SuiteResult, ...] = field(default=())

    @property
    def missed(self) -> list[str]:
        """The names of measures whose must is missed without an excuse, and suites that failed."""
        names = [f"{suite.module}: {suite.problem}" for suite in self.suites if suite.problem]
        for suite in self.suites:
            found = (each for each in suite.measures if each.verdict is Verdict.MISSED)
            names += [each.name for each in found if not excused(each, suite.beside)]
        return names

    def as_json(self) -> dict[str, Any]:
        """Return text, numbers, lists and dictionaries only."""
        suites = [
            {
                "module": suite.module,
                "title": suite.title,
                "problem": suite.problem,
                "commit": suite.commit,
                "beside": {**asdict(suite.beside), "quiet": suite.beside.is_quiet},
                "measures": [each.as_json() for each in suite.measures],
            }
            for suite in self.suites
        ]
        return {
            "taken": self.taken,
            "commit": self.commit,
            "quick": self.quick,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "suites": suites,
            "missed": self.missed,
        }


def read_report(row: Mapping[str, Any]) -> Report:
    """Read what `Report.as_json` wrote."""
    suites = tuple(_read_suite({"commit": row["commit"], **each}) for each in row["suites"])
    return Report(row["taken"], row["commit"], row["quick"], row["machine"], row["versions"], suites)


def _read_suite(row: Mapping[str, Any]) -> SuiteResult:
    beside = Beside(**{key: value for key, value in row["beside"].items() if key != "quiet"})
    measures = tuple(map(read_measure, row["measures"]))
    return SuiteResult(row["module"], row["title"], measures, beside, row["problem"], row["commit"])


def joined(report: Report, earlier: Report) -> Report:
    """Return a report with the suites of an earlier one in place, except the suites with new results."""
    new = {suite.module: suite for suite in report.suites}
    kept = [new.pop(suite.module, suite) for suite in earlier.suites]
    return replace(report, suites=(*kept, *new.values()))


def excused(measure: Measure, beside: Beside) -> bool:
    """Whether other work on the machine excuses a missed must. It excuses no wrong count."""
    return not measure.exact and not beside.is_quiet


HEAD = ("measure", "ours", "baseline", "ratio", "spread", "must", "aim", "verdict")


def rows(suite: SuiteResult) -> list[tuple[str, ...]]:
    """Return a row for each measure, with the columns of `HEAD`."""
    return [_row(each, suite.beside) for each in suite.measures]


def _row(measure: Measure, beside: Beside) -> tuple[str, ...]:
    if measure.verdict is Verdict.NOT_RUN:
        return (measure.name, "", "", "", "", "", "", str(measure.verdict))
    base = measure.baseline_median
    sign = "≤" if measure.better is Better.LESS else "≥"
    verdict = str(measure.verdict)
    if measure.verdict is Verdict.MISSED and excused(measure, beside):
        verdict = "missed, busy machine"
    return (
        measure.name,
        f"{number(measure.median)} {measure.unit}",
        "" if base is None else f"{number(base)} {measure.unit}",
        "" if measure.ratio is None else f"{measure.ratio:.2f}",
        f"{measure.spread:.0%}" if len(measure.ours) > 1 else "",
        "" if measure.must is None else f"{sign} {number(measure.must)}",
        "" if measure.aim is None else f"{sign} {number(measure.aim)}",
        verdict,
    )


def number(value: float) -> str:
    """Write a number with three significant digits."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(report: Report) -> str:
    """Write all measures as text in columns, with the machine above and the misses below."""
    cells = [(suite, rows(suite)) for suite in report.suites]
    every = [HEAD, *(row for _, found in cells for row in found)]
    widths = [max(len(row[place]) for row in every) for place in range(len(HEAD))]
    lines = [*_about(report), "", _line(HEAD, widths)]
    for suite, found in cells:
        lines += ["", f"{suite.title} ({suite.beside.seconds:.0f} s; {_beside(suite.beside)})"]
        lines += [f"  not complete: {suite.problem}"] if suite.problem else []
        lines += [line for each, row in zip(suite.measures, found, strict=True) for line in _lines(each, row, widths)]
    missed = report.missed
    lines += ["", "missed: " + "; ".join(missed) if missed else "no must is missed without an excuse"]
    return "\n".join(lines)


def _lines(measure: Measure, row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [_line(row, widths), *(f"    {note}" for note in measure.notes)]


def _about(report: Report) -> list[str]:
    machine = report.machine
    return [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}",
        f"commit {report.commit}, {report.taken}" + (", the quick form" if report.quick else ""),
    ]


def _beside(beside: Beside) -> str:
    quiet = "a quiet machine" if beside.is_quiet else "NOT a quiet machine"
    return f"{quiet}: other work took {beside.foreign:.0%}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *others]).rstrip()
