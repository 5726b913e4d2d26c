"""The measures: verdicts, pairs, the report, and the page of the last run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import count

import pytest

from tests.benchmarks.machine import Beside
from tests.benchmarks.measure import Better, Measure, Verdict, interleave, read_measure
from tests.benchmarks.plots import IMAGES, PAGE, RESULTS, made, read_results
from tests.benchmarks.report import Report, SuiteResult, joined, read_report, table
from tests.benchmarks.suites import SUITES

_QUIET, _BUSY = Beside(9.0, 0.1, 1.0, 0.02), Beside(9.0, 7.0, 8.0, 0.6)


def _report(*measures: Measure, beside: Beside = _QUIET, problem: str = "") -> Report:
    machine = {"cpu": "a processor", "cores": 2, "memory_gib": 4.0, "system": "Linux"}
    suite = SuiteResult("handlers", "Handlers", measures, beside, problem, "abc")
    return Report("2026-02-09T00:00:00Z", "abc", False, machine, {"python": "3.12"}, (suite,))  # noqa: FBT003


@pytest.mark.parametrize(
    ("ours", "baseline", "better", "expected"),
    [
        ([1, 2, 9], [2, 2, 2], Better.LESS, Verdict.AIM),
        ([2.1, 2.1], [2.0], Better.LESS, Verdict.MUST),
        ([2.3], [2.0], Better.LESS, Verdict.MISSED),
        ([1.05], [], Better.LESS, Verdict.MUST),
        ([2.1, 2.1], [2.0], Better.MORE, Verdict.MISSED),
        ([2.3], [2.0], Better.MORE, Verdict.MUST),
        ([2.5], [2.0], Better.MORE, Verdict.AIM),
        ([], [], Better.LESS, Verdict.NOT_RUN),
    ],
)
def test_the_goals_are_for_the_ratio_of_the_medians(
    ours: list[float], baseline: list[float], better: Better, expected: Verdict
) -> None:
    """Without a baseline they are for the median; a baseline of zero counts as none."""
    aim = 1.0 if better is Better.LESS else 1.2
    assert Measure("m", "ms", ours, baseline, must=1.1, aim=aim, better=better).verdict is expected
    assert Measure("m", "ms", [1.0]).verdict is Verdict.SHOWN
    assert Measure("m", "lost", [1.0], [0.0], must=0.0).verdict is Verdict.MISSED


def test_the_spread_is_that_of_the_worse_side() -> None:
    """A quarter of the samples on each side does not count, once there are four samples."""
    assert Measure("m", "s", [1, 1, 1, 1, 1, 1, 100, 1], [1.0, 1.0]).spread == 0.0
    assert Measure("m", "s", [1.0, 1.0], [1, 3]).spread == 1.0


def test_both_sides_take_turns() -> None:
    """Every second round begins with the other side, and the first round does not count."""
    calls: list[tuple[str, int]] = []
    numbers = count()

    def side(name: str) -> float:
        calls.append((name, next(numbers)))
        return float(calls[-1][1])

    ours, theirs = interleave(lambda _: side("ours"), lambda _: side("theirs"), rounds=2)
    assert [name for name, _ in calls] == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert (ours, theirs) == ([2.0, 5.0], [3.0, 4.0])


def test_a_busy_machine_excuses_a_time_and_no_count() -> None:
    """A suite that fails is a miss as well."""
    slow = Measure("slow", "s", [2.0], [1.0], must=1.1)
    lost = Measure("lost", "commits", [1.0], must=0, exact=True)
    assert _report(slow, lost).missed == ["slow", "lost"]
    assert _report(slow, lost, beside=_BUSY).missed == ["lost"]
    assert _report(problem="exit code 1: no Java").missed == ["handlers: exit code 1: no Java"]
    text = table(_report(slow, lost, beside=_BUSY))
    assert "missed, busy machine" in text
    assert "NOT a quiet machine: other work took 60%" in text


def test_the_json_holds_the_whole_report() -> None:
    """Samples, goals and notes survive."""
    one = Measure("m", "ms", [1, 2], [2, 3], "raw", 1.1, 1.0, details={"CPU ms": 0.5}, notes=("a note",))
    assert read_measure(one.as_json()) == one
    report = _report(one)
    assert read_report(json.loads(json.dumps(report.as_json()))) == report


def test_a_part_of_the_suites_can_be_measured_again() -> None:
    """The new results replace those of the same suite; each suite names the commit that was measured."""
    first, again = _report(Measure("m", "ms", [1.0])), _report(Measure("m", "ms", [2.0]))
    other = SuiteResult("pages", "Pages", (), _QUIET, "", "abc")
    earlier = replace(first, suites=(first.suites[0], other))
    suites = joined(again, earlier).suites
    assert [suite.module for suite in suites] == ["handlers", "pages"]
    assert suites[0].measures[0].median == 2.0
    assert joined(earlier, again).suites == earlier.suites


def test_the_page_agrees_with_the_results() -> None:
    """`python -m tests.benchmarks.plots` writes the page and its plots from docs/performance.json."""
    report = read_results()
    wanted = [suite.module for suite in SUITES if suite.quick or not report.quick]
    assert [suite.module for suite in report.suites] == wanted
    files = made(report, PAGE.read_text(encoding="utf-8"))
    assert {path for path, text in files.items() if path.read_text(encoding="utf-8") != text} == set()
    for path in files.keys() - {PAGE}:
        assert ET.fromstring(path.read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - ours


def test_another_result_changes_the_page() -> None:
    """The tables hold the medians of the samples."""
    row = json.loads(RESULTS.read_text(encoding="utf-8"))
    suite = next(each for each in row["suites"] if each["module"] == "pages")
    suite["measures"][0]["ours"] = [123456.0]
    page = made(read_report(row), PAGE.read_text(encoding="utf-8"))[PAGE]
    assert "| 123,456 reads |" in page


def test_the_page_has_a_part_for_each_suite() -> None:
    """A suite that the run left out has a sentence. A table names its baselines."""
    page = PAGE.read_text(encoding="utf-8")
    for suite in SUITES:
        assert f"<!-- begin: {suite.module} -->" in page
    compared = Measure("m", "ms", [2.0], [1.0], against="the same raw calls")
    files = made(_report(compared), page)
    assert "- baseline: the same raw calls" in files[PAGE]
    assert files[PAGE].count("Not part of this run.") == len(SUITES) - 1
    assert "no number of Buildbot" in files[IMAGES / "performance-bursts.svg"]


def test_no_line_of_a_plot_crosses_a_number() -> None:
    """A short bar has its number on the far side of the vertical lines."""
    plots = made(_report(Measure("m", "ms", [0.5], [1.0])), PAGE.read_text(encoding="utf-8"))
    picture = ET.fromstring(plots[IMAGES / "performance-ratios.svg"])  # noqa: S314 - ours
    lines = [float(each.attrib["x1"]) for each in picture.iter() if each.tag.endswith("line")]
    (number,) = (each for each in picture.iter() if each.text == "0.50")
    assert len(lines) == 2
    assert float(number.attrib["x"]) > max(lines)
