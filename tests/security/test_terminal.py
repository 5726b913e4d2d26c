"""Foreign text on a developer's terminal: no output of the command or of the local cloud controls it."""

from __future__ import annotations

import json

import pytest

from emulator.errors import LocalCloudError, one_line, printable
from luci_scheduler.cli.session import _json
from luci_scheduler.cli.tables import plain
from luci_scheduler.core.debug_log import format_line
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.instants import Instant

HOSTILE = (
    "\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\x7f", "a\rb", "\u202eabc\u202c", "\u2066x\u2069", "\u2028\u2029",
    "\x00", "\x85", "\x08\x08\x08", "a\nb",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_one_line_of_printable_characters(text: str) -> None:
    """In tables of the command, messages of the local cloud, and texts of servers in logs."""
    for shown in (plain(text), printable(text), one_line(text), str(LocalCloudError(text)), sanitized(text)):
        assert shown.isprintable()
        assert "\u202e" not in shown


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_of_printable_characters(text: str) -> None:
    """JSON itself escapes only some control characters. The document is the same."""
    document = {"name": text, text: [text]}
    shown = _json(document)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert json.loads(shown) == document


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_lines_of_the_debug_log(text: str) -> None:
    """A text may have several lines there, but no other control character."""
    line = format_line(Instant(0), f"a{text}\n[00:00:00.000] b")
    assert all(part.isprintable() for part in line.replace("\t", "").split("\n"))
    assert line.count("\n[00:00:00.000] ") == 0
