"""The threat table, its page and the catalog of planted bugs agree."""

from __future__ import annotations

import pytest

from tests.planted.catalog import ROOT, read_catalog
from tests.security.threats import PAGE, THREATS, Threat, controls, written

LEAST = 220
"""Controls of all threats together; a control is removed from the table only with its code."""


def test_the_page_is_in_step() -> None:
    """`python -m tests.security.threats` writes it."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text)


def test_a_page_without_its_mark_is_refused() -> None:
    """Otherwise the command would lose the page's own text."""
    with pytest.raises(ValueError, match=r"threats\.md has no line"):
        written("# Threats\n")


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.word)
def test_each_threat_has_controls_and_tests(threat: Threat) -> None:
    """A test of the row exists, and the page has a sentence about each control."""
    found = controls(threat)
    assert len(found) >= 3
    assert all((ROOT / path).is_file() for path in threat.also)
    assert len({bug.breaks for bug in found}) == len(found)


def test_each_control_belongs_to_one_threat() -> None:
    """The first word of its name is the threat."""
    bugs = read_catalog("security")
    assert sum(len(controls(threat)) for threat in THREATS) == len(bugs)
    assert len(bugs) >= LEAST
