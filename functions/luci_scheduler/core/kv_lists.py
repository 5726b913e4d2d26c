"""Lists of ``key:value`` strings: properties and tags in configs and triggers."""

from __future__ import annotations

from collections.abc import Iterable

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote

__all__ = ["check_kv_list", "unpack_kv_list"]


def check_kv_list(kind: str, items: Iterable[str], separator: str = ":") -> None:
    """Check that every item contains the separator.

    Raises:
        PermanentError: an item does not. The message names the list as ``kind`` ("tag", "property") and quotes the
            item.
    """
    for item in items:
        if separator not in item:
            raise PermanentError(f"bad {kind}, not a 'key{separator}value' pair: {quote(item)}")


def unpack_kv_list(items: Iterable[str], separator: str = ":") -> list[tuple[str, str]]:
    """Split every item at its first separator. Items without a separator are skipped."""
    return [(key, value) for key, found, value in (item.partition(separator) for item in items) if found]
