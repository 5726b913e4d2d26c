"""Every outside call ends within its limit, whether the server refuses, stays silent or answers half."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outside_calls import OUTSIDE_CALLS, SERVERS, Measured, OutsideCall, measure, table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "timeouts.md"
LIMIT = 0.5  # seconds; tests/benchmarks/timeouts.py measures the real ones
SLACK = 5.0  # seconds that a busy machine may add: the libraries' own retries would take far longer


@pytest.fixture(scope="module")
def measured() -> Iterator[list[Measured]]:
    """The measures, printed at the end."""
    items: list[Measured] = []
    yield items
    sys.stdout.write(f"\nlimit in this test: {LIMIT} s\n{table(items)}\n")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("call", OUTSIDE_CALLS, ids=lambda call: call.name)
def test_a_call_ends_within_its_limit(call: OutsideCall, server: str, measured: list[Measured]) -> None:
    """Its callers expect the error."""
    item = measure(call, server, LIMIT)
    measured.append(item)
    assert item.seconds <= LIMIT + SLACK, item


def test_the_page_names_every_call_with_its_limit() -> None:
    """The page's measures come from the command that it names."""
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) s \|(?: [\d.]+ s \|){3}$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(call.name, f"{call.limit:g}") for call in OUTSIDE_CALLS]
