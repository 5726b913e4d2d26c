"""Reports of a storm: a text for the terminal, a document for files, and the page `docs/explanation/reliability.md`."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.storm.faults import KINDS
from emulator.storm.invariants import SENTENCES
from emulator.storm.storming import Tally

__all__ = ["MISSING_KINDS_MATTER", "document", "missing_kinds", "summary"]

MISSING_KINDS_MATTER = 1000
"""From this number of schedules on, each kind that is not switched off must have occurred."""
_NAMES = {
    "": "schedules",
    "focused": "focused schedules",
    "single": "single faults",
    "hangs": "hangs with one more fault",
    "pairs": "pairs",
}
_SHOWN = 5
_SCALE = 1000


def missing_kinds(tally: Tally, without: Sequence[str]) -> list[str]:
    """Return the kinds that never occurred although they are not switched off."""
    return [str(kind) for kind in KINDS if not tally.faults[str(kind)] and str(kind) not in without]


def summary(tally: Tally, seconds: float, what: str, *, sampled: bool, stands_for: int) -> str:
    """Return the result of many runs as a text. ``stands_for`` is the number of pairs for which they stand, if any."""
    lines = [f"  {kind:22} {tally.faults[kind]:>9,}  {KINDS[kind].says}" for kind in KINDS if tally.faults[kind]]
    name = _NAMES[what]
    rest = tally.longest_rest_ms // 60_000
    faults = f"{tally.faults.total():,} faults of {len(+tally.faults)} kinds"
    lines.append(f"{tally.schedules:,} {name} with {faults}, {seconds:,.0f} s")
    if stands_for:
        lines.append(f"{'a sample of ' * sampled}one pair for each situation of {stands_for:,} pairs")
    lines.append(f"{tally.invocations:,} invocations, {tally.builds:,} builds, {tally.deliveries:,} function calls")
    lines.append(f"{tally.commits:,} commits, {tally.calls:,} outside calls; all came to rest within {rest} min")
    lines.append(f"{len(tally.failed)} violated an invariant" if tally.failed else "every invariant held")
    return "\n".join(lines)


def document(
    tally: Tally, seconds: float, what: str, seed: int, *, scenarios: Sequence[str], sampled: bool, stands_for: int
) -> Mapping[str, Any]:
    """Return the result of many runs as a JSON value; ``scenarios`` is empty if they are of all that are played."""
    return {
        "what": what or "schedules",
        "seed": seed,
        "scenarios": list(scenarios),
        "sampled": sampled,
        "schedules": tally.schedules,
        "stands_for": stands_for,
        "faults": {str(kind): tally.faults[str(kind)] for kind in KINDS},
        "invocations": tally.invocations,
        "builds": tally.builds,
        "deliveries": tally.deliveries,
        "commits": tally.commits,
        "calls": tally.calls,
        "longest_rest_minutes": round(tally.longest_rest_ms / 60 / _SCALE, 1),
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "invariants": {str(name): sentence for name, sentence in SENTENCES.items()},
        "violations": [
            {
                "replay": item.schedule.line(),
                "violations": [*map(str, item.violations), *([item.error] * bool(item.error))],
            }
            for item in tally.failed
        ],
    }
