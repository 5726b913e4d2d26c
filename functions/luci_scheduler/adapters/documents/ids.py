"""IDs of documents: each identifier becomes a name that Firestore accepts."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import quote, unquote

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId

__all__ = ["document_id", "invocation_document_id", "plain_id", "watchers_document_id", "watchers_range"]

_MAX_ID_BYTES = 1_000  # Firestore's limit is 1,500 bytes
_MAX_CACHED = 300  # characters: the cache must not keep the long texts that a sender may invent


def document_id(identifier: str) -> str:
    """Encode an identifier as a document ID: no slashes, no leading dots or underscores, bounded length.

    Raises:
        PermanentError: the identifier is empty, or is not valid Unicode.
    """
    return _cached(identifier) if len(identifier) <= _MAX_CACHED else _encode(identifier)


def _encode(identifier: str) -> str:
    try:
        encoded = quote(identifier, safe="")
    except UnicodeEncodeError as error:
        raise PermanentError(f"the identifier {identifier[:200]!a} holds half of a surrogate pair") from error
    if not encoded:
        raise PermanentError("an empty identifier names no document")
    if len(encoded) > _MAX_ID_BYTES:
        return "sha256-" + hashlib.sha256(identifier.encode()).hexdigest()
    if encoded[:1] in "._":
        return f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return encoded


_cached = lru_cache(4096)(_encode)  # the names of jobs and triggers recur; all entries take at most some megabytes


def plain_id(encoded: str) -> str:
    """Return the identifier that a document ID encodes. A hashed ID (identifier over 1,000 bytes) cannot be decoded."""
    return unquote(encoded)


def invocation_document_id(invocation_id: InvocationId) -> str:
    """Encode an invocation's ID so that names sort like numbers: newest first."""
    return f"{invocation_id:019d}"


def watchers_document_id(repo: str, project: str) -> str:
    """Return the name of the document with one project's watchers of a repository.

    Older functions kept one document for all projects of a repository. Its name is the part before the exclamation
    mark. No encoded identifier contains that mark, so one range of names covers the older document and the documents of
    all projects.
    """
    return f"{document_id(repo)}!{document_id(project)}"


def watchers_range(repo: str) -> tuple[str, str]:
    """Return the range of names of a repository's watcher documents: its first name, and the first name after it."""
    # The double quote is the ASCII character after the exclamation mark.
    return document_id(repo), f'{document_id(repo)}"'
