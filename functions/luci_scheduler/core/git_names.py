"""Names in git: the full hashes of objects, and the folders of refs."""

from __future__ import annotations

import re
from typing import TypeGuard

__all__ = ["BRANCHES", "TAGS", "is_hash"]

BRANCHES = "refs/heads/"
"""The beginning of a branch's full name."""
TAGS = "refs/tags/"
"""The beginning of a tag's full name."""

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def is_hash(value: object) -> TypeGuard[str]:
    """Whether a value is a full hash: 40 lower-case hexadecimal digits (SHA-1), or 64 (SHA-256)."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None
