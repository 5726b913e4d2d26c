"""``python -m tests.benchmarks.plots``: writes the tables and plots of ``docs/performance.md`` from its JSON."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.benchmarks.measure import Measure
from tests.benchmarks.report import HEAD, Report, SuiteResult, number, read_report, rows

__all__ = ["IMAGES", "PAGE", "RESULTS", "made", "read_results"]

ROOT = Path(__file__).parents[2]
PAGE, RESULTS, IMAGES = ROOT / "docs/performance.md", ROOT / "docs/performance.json", ROOT / "docs/images"
_LONGEST_LINE = 150
_PART = re.compile(r"(<!-- begin: ([a-z_-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A generated part of the page: its name is ``machine``, ``missed``, or the module of a suite."""


def read_results() -> Report:
    """Read the committed results."""
    return read_report(json.loads(RESULTS.read_text(encoding="utf-8")))


def made(report: Report, page: str) -> dict[Path, str]:
    """Return the page with new tables, and the plots, by file."""
    plots = {IMAGES / f"performance-{name}.svg": draw(report) for name, draw in _PLOTS.items()}
    return {PAGE: _PART.sub(lambda found: _part(report, found), page), **plots}


def main() -> None:
    """Write the page and the plots."""
    for path, text in made(read_results(), PAGE.read_text(encoding="utf-8")).items():
        path.write_text(text, encoding="utf-8")


# Tables ---------------------------------------------------------------------------------------------------------------


def _part(report: Report, found: re.Match[str]) -> str:
    begin, name, end = found.groups()
    if name == "machine":
        return f"{begin}{_machine(report)}\n{end}"
    if name == "missed":
        text = "".join(f"- {each}\n" for each in report.missed) or "No must was missed.\n"
        return f"{begin}{text}{end}"
    suite = _suite(report, name)
    return f"{begin}{_table(suite) if suite else 'Not part of this run.'}\n{end}"


def _suite(report: Report, module: str) -> SuiteResult | None:
    """Return the results of a suite, or None if the run did not have it: the short form leaves some out."""
    return next((suite for suite in report.suites if suite.module == module), None)


def _measures(report: Report, module: str) -> tuple[Measure, ...]:
    suite = _suite(report, module)
    return suite.measures if suite else ()


def _machine(report: Report) -> str:
    machine, versions = report.machine, report.versions
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    wrapped = textwrap.fill(words, _LONGEST_LINE, break_on_hyphens=False)
    form = "short form (`make bench-quick`)" if report.quick else "long form (`make bench`)"
    return (
        f"{report.taken[:10]}, commit `{report.commit}`, the {form}.\n"
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}.\n"
        f"{wrapped}."
    )


def _table(suite: SuiteResult) -> str:
    beside = suite.beside
    state = "quiet" if beside.is_quiet else "**not quiet**"
    load = f"Load before {beside.load_before:g}, after {beside.load_after:g}. {beside.seconds:.0f} s, `{suite.commit}`."
    lines = [
        "| " + " | ".join(HEAD) + " |",
        "|---" * len(HEAD) + "|",
        *("| " + " | ".join(row) + " |" for row in rows(suite)),
        "",
        f"The machine was {state}: other work took {beside.foreign:.0%} of it. {load}",
    ]
    baselines = dict.fromkeys(f"baseline: {each.against}" for each in suite.measures if each.baseline and each.against)
    notes = dict.fromkeys([*baselines, *(note for measure in suite.measures for note in measure.notes)])
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    lines += ["", f"Not complete: {suite.problem}"] if suite.problem else []
    return "\n".join(lines)


# Plots ----------------------------------------------------------------------------------------------------------------

_WIDTH, _LABEL, _BAR, _GAP, _TOP = 760, 300, 20, 10, 56
_COLUMNS, _LEGEND = 4, 24
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2933; }
.title { font-weight: 600; font-size: 15px; }
.soft { fill: #52606d; }
.grid { stroke: #9aa5b1; stroke-width: 1; stroke-dasharray: 3 3; }
.ours { fill: #1769aa; } .other { fill: #b4560f; } .c2 { fill: #2f9e83; } .c3 { fill: #8250c4; } .c4 { fill: #c2255c; }
.c5 { fill: #6b7280; } .c6 { fill: #a38200; }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7eb; } .soft { fill: #b8c2cc; } .ours { fill: #5aa9e6; } .other { fill: #f0883e; }
.c2 { fill: #4fd1b0; } .c3 { fill: #b392f0; } .c4 { fill: #f06595; } .c5 { fill: #9ca3af; } .c6 { fill: #e3c341; }
}
"""


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar: parts from left to right, each with its style and its value."""

    label: str
    parts: tuple[tuple[str, float], ...]
    text: str = ""
    """Beside the bar; the sum of the parts if empty."""

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    subtitle: str
    bars: Sequence[_Bar]
    marks: Sequence[tuple[float, str]] = ()
    """Vertical lines: value and label."""
    legend: Sequence[tuple[str, str]] = ()
    """Style and label."""

    def svg(self) -> str:
        """Return the picture; readable on a light and on a dark page."""
        top = _TOP + _LEGEND * -(-len(self.legend) // _COLUMNS) + (16 if self.marks else 0)
        height = top + len(self.bars) * (_BAR + _GAP) + 12
        end = max((*(bar.total for bar in self.bars), *(value for value, _ in self.marks)), default=1.0) or 1.0
        scale = (_WIDTH - _LABEL - 150) / end
        body = [*self._head(), *self._marks(top, height, scale)]
        last_mark = max((value for value, _ in self.marks), default=0.0)
        for place, bar in enumerate(self.bars):
            words_left = _LABEL + max(bar.total, last_mark) * scale + 8  # no line crosses the number
            body += _bar(bar, top + place * (_BAR + _GAP), scale, words_left)
        words = escape(f"{self.title}. {self.subtitle}", {'"': "&quot;"})
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        return "\n".join([f'{opening} aria-label="{words}">', f"<style>{_STYLE}</style>", *body, "</svg>", ""])

    def _head(self) -> list[str]:
        lines = [_text(12, 22, self.title, "title"), _text(12, 42, self.subtitle, "soft")]
        for place, (style, label) in enumerate(self.legend):
            row, column = divmod(place, _COLUMNS)
            left, top = 12 + column * (_WIDTH // _COLUMNS), 56 + row * _LEGEND
            lines.append(f'<rect class="{style}" x="{left}" y="{top}" width="12" height="12" rx="2"/>')
            lines.append(_text(left + 17, top + 11, label, "soft"))
        return lines

    def _marks(self, top: int, height: int, scale: float) -> list[str]:
        lines = []
        for place, (value, label) in enumerate(self.marks):
            left = _LABEL + value * scale
            lines.append(f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{top - 6}" y2="{height - 8}"/>')
            lines.append(_text(left, top - 10, label, "soft", "start" if place else "end"))
        return lines


def _bar(bar: _Bar, top: int, scale: float, words_left: float) -> list[str]:
    left, middle = float(_LABEL), top + _BAR * 0.72
    lines = [_text(_LABEL - 10, middle, bar.label, "", "end")]
    for style, value in bar.parts:
        width = value * scale
        rect = f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}"'
        lines.append(f'<rect class="{style}" {rect}><title>{escape(number(value))}</title></rect>')
        left += width
    return [*lines, _text(words_left, middle, bar.text or number(bar.total), "soft")]


def _text(left: float, top: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _ratios(report: Report) -> str:
    """Our handlers as a multiple of the same calls without our code."""
    found = [each for name in ("handlers", "many_jobs") for each in _measures(report, name) if each.ratio]
    bars = [_Bar(each.name, (("ours", each.ratio or 0.0),), f"{each.ratio:.2f}") for each in found]
    subtitle = "times the same calls without our code; shorter is better"
    return _Chart("Cost of our code", subtitle, bars, [(1.0, "raw calls 1.0"), (1.1, "must of a handler 1.1")]).svg()


def _bursts(report: Report) -> str:
    """Builds per second on both sides."""
    bars: list[_Bar] = []
    for each in _of_bursts(report):
        bars.append(_Bar(_burst_label(each.name), (("ours", each.median),)))
        if each.baseline and each.name.endswith("in memory"):
            bars.append(_Bar("Buildbot, the same commits", (("other", each.baseline_median or 0.0),)))
    compared = any("other" in dict(bar.parts) for bar in bars)
    subtitle = "builds per second; longer is better" + ("" if compared else "; this run has no number of Buildbot")
    legend = [("ours", "ours"), ("other", "Buildbot")] if compared else []
    return _Chart("Bursts of commits", subtitle, bars, legend=legend).svg()


def _burst_label(name: str) -> str:
    _, commits, words = name.split(", ")
    short = {"on the official emulators": "emulators", "messages delivered directly": "direct delivery"}
    return f"{commits}, {short.get(words, words)}"


def _of_bursts(report: Report) -> list[Measure]:
    return [each for each in _measures(report, "burst") if each.name.startswith("burst, ")]


_STYLES = ("ours", "c2", "c3", "c4", "c5", "c6", "other")


def _cpu(report: Report) -> str:
    """The processor time of a build by groups of processes."""
    measures = [each for each in _of_bursts(report) if "1 job" in each.name]
    stacks = {each.name.rpartition(", ")[2]: _groups(each.details, "ours") for each in measures}
    if measures and (theirs := _groups(measures[0].details, "Buildbot")):
        stacks["Buildbot"] = theirs
    names = list(dict.fromkeys(name for stack in stacks.values() for name, value in stack.items() if value >= 0.5))
    styles = dict(zip(names, _STYLES * len(names), strict=False))
    bars = [
        _Bar(label, tuple((styles[name], value) for name, value in stack.items() if name in styles))
        for label, stack in stacks.items()
    ]
    legend = [(styles[name], name) for name in names]
    return _Chart("Processor time of a build", "milliseconds; shorter is better", bars, legend=legend[:7]).svg()


def _groups(details: Mapping[str, float], whose: str) -> dict[str, float]:
    start = f"CPU ms per build, {whose}: "
    before = "" if whose == "ours" else f"{whose}: "
    found = {name.removeprefix(start): value for name, value in details.items() if name.startswith(start)}
    return {before + name: value for name, value in found.items()}


def _pages(report: Report) -> str:
    """The reads of each page."""
    measures = [each for each in _measures(report, "pages") if each.unit == "reads"]
    bars = [
        _Bar(each.name.partition(",")[0].removeprefix("page "), (("ours", each.median),), _page_text(each))
        for each in measures
    ]
    size = measures[0].name.partition(", ")[2] if measures else ""
    return _Chart("Pages of the console", f"documents read, {size}; shorter is better", bars).svg()


def _page_text(measure: Measure) -> str:
    return f"{number(measure.median)} reads, {number(measure.details['kilobytes of HTML'])} kB"


_PLOTS: dict[str, Callable[[Report], str]] = {"ratios": _ratios, "bursts": _bursts, "cpu": _cpu, "pages": _pages}

if __name__ == "__main__":
    main()
