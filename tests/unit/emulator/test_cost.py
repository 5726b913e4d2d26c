"""The cost page agrees with the price table and the operation counts."""

from dataclasses import replace
from pathlib import Path

import pytest

from emulator.cost import PATHS, PRICES, SIZES, build, cost_of, monthly_idle, polling, tables

FREE = replace(PRICES, cpu_second=0.0, gib_second=0.0)


def test_the_page_has_the_tables() -> None:
    """``python -m emulator.cost`` prints the tables of docs/cost.md."""
    page = Path("docs/cost.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- tables -->\n")[2].partition("\n<!-- end of tables -->")[0]
    assert shown == tables().strip()


def test_a_status_check_is_counted() -> None:
    """Counted by hand: one read, one write, a task created and delivered, a request."""
    by_hand = 0.03e-5 + 0.09e-5 + 2 * 0.4e-6 + 0.4e-6
    assert cost_of(PATHS["check"], SIZES[0], FREE) == pytest.approx(by_hand)
    busy = 0.5 * (SIZES[1].cpu * 0.000024 + 0.5 * 0.0000025)
    assert cost_of(PATHS["check"], SIZES[1]) == pytest.approx(by_hand + busy)


def test_a_build_grows_with_its_checks_only() -> None:
    """The cost of a step does not depend on the age of the build."""
    step = cost_of(PATHS["check"], SIZES[0])
    assert build(28, SIZES[0]) - build(5, SIZES[0]) == pytest.approx(23 * step)


def test_idle_is_next_to_nothing() -> None:
    """It is less than a dollar a month, and a few cents for a rarely polled job."""
    assert sum(monthly_idle(SIZES[0]).values()) < 1
    assert polling(30, SIZES[0]) < 0.05
