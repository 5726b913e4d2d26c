"""The parity checklist is complete, and its page is current."""

import re
from pathlib import Path

from tests.parity import PAGE, ROWS, missing_tests, page


def test_every_row_has_tests_that_exist() -> None:
    """A test that was renamed or removed leaves its row without one."""
    assert missing_tests() == []
    assert len({row.feature for row in ROWS}) == len(ROWS) >= 45


def test_the_page_is_current() -> None:
    """`python -m tests.parity` rewrites it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_test_of_the_quirks_exists() -> None:
    """The decision page names tests, which may be renamed."""
    text = (PAGE.parent.parent / "decisions" / "0006-quirks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.parent.rglob("test_*.py")]
    assert len(named) > 16
    assert [name for name in sorted(named) if not any(f"def {name}(" in source for source in sources)] == []
