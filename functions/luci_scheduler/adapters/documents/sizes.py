"""Sizes of documents, which are checked before a commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.adapters.documents.records import encode_invocation
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES
from luci_scheduler.core.untrusted import storable

__all__ = ["check_invocation_size", "check_size", "stored_size"]


def check_size(what: str, document: Mapping[str, Any], extra: int = 0) -> None:
    """Check that a document fits into the store.

    Args:
        what: names the document in the error.
        document: the fields.
        extra: bytes of the log, which is not part of ``document``.

    Raises:
        PermanentError: the document is too large, or holds a text that is not valid Unicode.
    """
    try:
        size = extra + stored_size(document)
    except UnicodeEncodeError as error:
        raise PermanentError(f"{storable(what)} holds half of a surrogate pair, which cannot be stored") from error
    if size > MAX_DOCUMENT_BYTES:
        raise PermanentError(f"{what} would have {size} bytes, a document can hold {MAX_DOCUMENT_BYTES}")


def stored_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes the values of a document take in the store."""
    return sum(_size(value) for value in document.values())


def check_invocation_size(invocation: Invocation, log_bytes: int) -> None:
    """Check that the whole document of an invocation fits into the store. The parts that an update keeps count as well.

    Raises:
        PermanentError: it does not fit.
    """
    check_size(f"invocation {invocation.id} of {invocation.job_id}", encode_invocation(invocation), log_bytes)


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case Mapping():
            return sum(len(name.encode()) + 1 + _size(item) for name, item in value.items())
        case _:
            return 16
