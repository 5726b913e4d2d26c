"""Which refs a gitiles trigger watches."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["watches_ref"]

_REGEXP = "regexp:"


def watches_ref(refs: Iterable[str], ref: str) -> bool:
    """Whether ``ref`` is among ``refs``: literal full names, or ``regexp:`` and an expression for the whole name."""
    for entry in refs:
        if entry.startswith(_REGEXP):
            if re.fullmatch(entry.removeprefix(_REGEXP), ref):
                return True
        elif entry == ref:
            return True
    return False
