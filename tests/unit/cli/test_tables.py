"""Tables that fit the terminal."""

from __future__ import annotations

import pytest

from luci_scheduler.cli.tables import show_table

_HEADER = ["JOB", "PAUSED", "SUBJECT", "AUTHOR", "SCHEDULE"]
_SUBJECT = "Fix a race between two render passes"
_ROWS = [["proj/linux", "no", _SUBJECT, "Ada Lovelace", "triggered"], ["proj/mac", "no", "-", "-", "with 30s interval"]]


@pytest.mark.parametrize(
    ("width", "header", "first"),
    [
        (0, "JOB PAUSED SUBJECT AUTHOR SCHEDULE", f"proj/linux no {_SUBJECT} Ada Lovelace triggered"),
        (200, "JOB PAUSED SUBJECT AUTHOR SCHEDULE", f"proj/linux no {_SUBJECT} Ada Lovelace triggered"),
        (80, "JOB SUBJECT AUTHOR SCHEDULE", "proj/linux Fix a race between two render pass… Ada Lovelace triggered"),
        (50, "JOB SUBJECT AUTHOR", "proj/linux Fix a race between two … Ada Lovelace"),
        (30, "JOB SUBJECT", "proj/linux Fix a race betwee…"),
        (5, "JOB SUBJECT", "proj/linux Fix a rac…"),
    ],
)
def test_a_table_fits_the_terminal(width: int, header: str, first: str) -> None:
    """Columns without values go first, then the less important ones; subjects shrink; names are never cut."""
    lines = show_table(_HEADER, _ROWS, width).splitlines()
    assert [" ".join(line.split()) for line in lines[:2]] == [header, first]
    assert width < 30 or max(map(len, lines)) <= width or width == 0


def test_a_sentence_is_never_cut() -> None:
    """The reason goes first, because the sentence says it."""
    lines = show_table(["JOB", "REASON", "EXPLANATION"], [["p/j", "WAITING_FOR_INVOCATION", "word " * 30]], 20)
    assert lines.splitlines()[0].split() == ["JOB", "EXPLANATION"]
    assert lines.count("word") == 30
