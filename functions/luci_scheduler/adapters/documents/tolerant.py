"""Tolerant reading of lists: one unreadable document does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog

__all__ = ["SET_ASIDE_ROUNDS", "decode_or_set_aside", "decode_readable"]

_logger = structlog.stdlib.get_logger("luci_scheduler")
T = TypeVar("T")
R = TypeVar("R")
_MAX_REASON = 500  # characters


def decode_readable(documents: Iterable[T], name: Callable[[T], str], decode: Callable[[T], R]) -> list[R]:
    """Decode documents one by one. An unreadable document is logged and left out.

    A newer version of the functions may have written such a document, before a deployment was rolled back.
    """
    found = []
    for document in documents:
        try:
            found.append(decode(document))
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
    """
    found, bad = [], []
    for document in documents:
        try:
            found.append(decode(document))
        except Exception as error:
            _logger.exception("trigger_set_aside", document=name(document), reason=repr(error)[:_MAX_REASON])
            bad.append((document, {"pending": None, "unreadable": repr(error)[:_MAX_REASON]}))
    return found, bad
