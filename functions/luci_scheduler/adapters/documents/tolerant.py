"""Tolerance for other versions of the functions.

Members that only a newer version knows stay in a document. An unreadable document in a list does not hide the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from luci_scheduler.adapters.documents.values import to_json
from luci_scheduler.core.errors import NewerVersionError

__all__ = ["SET_ASIDE_ROUNDS", "decode_or_set_aside", "decode_readable", "keep_unknown"]

_logger = structlog.stdlib.get_logger("luci_scheduler")
T = TypeVar("T")
R = TypeVar("R")
_MAX_REASON = 500  # characters


def keep_unknown(stored: str, known: str, new: str) -> str:
    """Return the JSON text ``new`` with the members of ``stored`` that this version does not know.

    Args:
        stored: the text that a record was read from.
        known: the same record, written by this version: it lacks the unknown members.
        new: the text that replaces ``stored``.
    """
    if stored == known:
        return new
    return to_json(_with_unknown(json.loads(stored), json.loads(known), json.loads(new)))


def _with_unknown(stored: Any, known: Any, new: Any) -> Any:
    match stored, known, new:
        case dict(), dict(), dict():
            kept = {name: value for name, value in stored.items() if name not in known and name not in new}
            both = stored.keys() & known.keys()
            return {
                name: _with_unknown(stored[name], known[name], value) if name in both else value
                for name, value in new.items()
            } | kept
        case list(), list(), list() if len(stored) == len(known):
            pairs = {_id(item): (item, written) for item, written in zip(stored, known, strict=True) if _id(item)}
            return [_with_unknown(*pairs.get(_id(item), (item, item)), item) for item in new]
        case _:
            return new


def _id(item: Any) -> str:
    """Return the ID of a timer or trigger in a list; empty for other items."""
    return str(item.get("id", "")) if isinstance(item, Mapping) else ""


def decode_readable(documents: Iterable[T], name: Callable[[T], str], decode: Callable[[T], R]) -> list[R]:
    """Decode documents one by one. An unreadable document is logged and left out, and so is one of a newer version.

    Use it only for lists in which a missing document does no harm: pages, and sweeps, which a newer function repeats.
    """
    found = []
    for document in documents:
        try:
            found.append(decode(document))
        except NewerVersionError as error:
            _logger.warning("document_newer", document=name(document), reason=str(error))
        except Exception as error:
            _logger.exception("document_unreadable", document=name(document), reason=repr(error))
    return found


SET_ASIDE_ROUNDS = 3
"""Reads of one list of pending triggers. Each read sets aside unreadable triggers; the next lists the others."""


def decode_or_set_aside(
    documents: Iterable[T], name: Callable[[T], str], decode: Callable[[T], R]
) -> tuple[list[R], list[tuple[T, dict[str, Any]]]]:
    """Decode documents of pending triggers one by one. An unreadable document is logged.

    Returns:
        the records; and each unreadable document, with the fields that set it aside: it is no longer pending, and keeps
        the reason.

    Raises:
        NewerVersionError: a newer function wrote a trigger, and reads it at the next delivery.
    """
    found, bad = [], []
    for document in documents:
        try:
            found.append(decode(document))
        except NewerVersionError:
            raise
        except Exception as error:
            _logger.exception("trigger_set_aside", document=name(document), reason=repr(error)[:_MAX_REASON])
            bad.append((document, {"pending": None, "unreadable": repr(error)[:_MAX_REASON]}))
    return found, bad
