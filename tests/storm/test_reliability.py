"""The page about reliability is generated from the stored results, and agrees with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.storm.faults import KINDS
from emulator.storm.invariants import SENTENCES
from emulator.storm.reliability import main, page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/storm/results"
PLANTED = ROOT / "tests/planted/results"
REMAKE = "python -m emulator.storm.reliability tests/storm/results tests/planted/results"


def stored() -> list[dict[str, Any]]:
    """Return the stored results of storms."""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    return [result for result in results if result["what"] != "chaos"]


def test_the_page_shows_the_deaths_of_processes() -> None:
    """The result of ``chaos`` has a separate section, with each kind of disturbance that happened."""
    result = json.loads((RESULTS / "chaos.json").read_text(encoding="utf-8"))
    assert (result["lost"], result["duplicated"], result["store"]) == (0, 0, "emulators")
    text = page([*stored(), {**result, "lost": 3}])
    assert "## Real processes" in text
    assert "| lost | 3 |" in text
    assert all(f"| {what} | {count} |" in text for what, count in result["disturbances"].items() if count)
    assert "## Real processes" not in page(stored())


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """The committed page is exactly what the command prints."""
    assert main([str(RESULTS), str(PLANTED)]) == 0
    made = capsys.readouterr().out
    assert (ROOT / "docs/explanation/reliability.md").read_text(encoding="utf-8") == made, f"run: {REMAKE}"


def test_the_page_counts() -> None:
    """The page has each kind, each invariant, the sums of the runs, and the survivors of planted bugs."""
    planted = {
        "catalog": "c",
        "caught": 1,
        "survived": 1,
        "bugs": [{"name": "b", "caught_by": "", "equivalent": "why"}],
    }
    text = page(stored(), [planted])
    assert all(f"| `{name}` |" in text for name in (*KINDS, *SENTENCES))
    assert all(f" | {result['schedules']:,} | " in text for result in stored())
    assert "| c | 1 | 1 | `b` (why) |" in text


def test_the_page_names_the_bugs_that_the_storm_finds() -> None:
    """The figures of the storm alone come from their own file."""
    alone = {"schedules": 7, "found_by_storm": {"a": "end, seed 1"}, "missed_by_storm": ["b", "c"]}
    text = page(stored(), [alone])
    assert "finds 1 of the 3 bugs" in text
    assert "at most 7 focused schedules" in text
    assert "| `a` | end, seed 1 |\n| `b` | missed |\n| `c` | missed |\n" in text


def test_the_page_hides_no_violation() -> None:
    """A violation in a result is counted at its run and at its invariant."""
    (result, *_) = stored()
    bad = {**result, "violations": [{"replay": "{}", "violations": ["rest: run: too long"], "error": ""}]}
    text = page([bad])
    assert f"| `rest` | {SENTENCES[next(name for name in SENTENCES if name == 'rest')]} | 1 |" in text
    assert f" | {result['deliveries']:,} | 1 | " in text


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder, the command explains itself."""
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
