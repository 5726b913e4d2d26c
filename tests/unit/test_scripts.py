"""The scripts of the pages."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SCRIPTS = sorted(path for name in ("functions", "emulator") for path in (_ROOT / name).rglob("*.js"))


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_every_request_has_a_time_limit(path: Path) -> None:
    """A browser waits for an answer without end, and one lost answer would end all refreshes of a page."""
    calls = re.findall(r"\bfetch\((?:[^()]|\([^()]*\))*\)", path.read_text(encoding="utf-8"))
    assert calls
    assert [call for call in calls if "AbortSignal.timeout(" not in call] == []
