"""The tags of a build, by which people and look-ups find it. Pure."""

from __future__ import annotations

import hashlib
import re

from luci_scheduler.core.identifiers import InvocationId

__all__ = ["TAG", "invocation_tag", "named_tag"]

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""The form of a tag that Cloud Build accepts."""

_MAX = 128
_KEPT = 119  # characters of a tag that is too long; a hyphen and eight digits of a hash follow
_HASH_DIGITS = 8
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")


def invocation_tag(invocation_id: InvocationId) -> str:
    """Return the tag that identifies the build of an invocation."""
    return f"scheduler-invocation-{invocation_id}"


def named_tag(prefix: str, identifier: str) -> str:
    """Return a tag with an ID, which may have characters that no tag has, and may be too long."""
    tag = prefix + _FOREIGN.sub("-", identifier.replace("/", "__"))
    if len(tag) <= _MAX:
        return tag
    digest = hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()
    return f"{tag[:_KEPT]}-{digest[:_HASH_DIGITS]}"
