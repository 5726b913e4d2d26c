"""The server and the builder that a task names. The job's realm supplies a missing project or bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote

__all__ = ["builder_id", "canonical_bucket", "server_of"]

_EVERY_HOST = "*"
ServerT = TypeVar("ServerT")

_NO_BUCKET = ("@legacy", "@root")


def builder_id(realm_id: str, bucket: str, builder: str) -> tuple[str, str, str]:
    """Return project, bucket and builder; ``realm_id`` is ``<project>:<realm>``.

    Raises:
        PermanentError: the builder is missing, the bucket does not follow from the realm, or it has its old, long form.
    """
    if not builder:
        raise PermanentError("'builder' field is required")
    project, _, realm = realm_id.partition(":")
    if not bucket:
        if realm in _NO_BUCKET:
            raise PermanentError(f"'bucket' field for jobs in {quote(realm)} realm is required")
        return project, realm, builder
    if ":" in bucket:
        other, _, name = bucket.partition(":")
        return other, name, builder
    if bucket.startswith("luci."):
        raise PermanentError(f"'bucket' value {quote(bucket)} is no longer allowed: {_new_form(bucket, project)}")
    return project, bucket, builder


def server_of(servers: Mapping[str, ServerT], host: str) -> ServerT | None:
    """Return the server at a host: its own, or that of ``*``, which only the local cloud has; None without a host."""
    return servers.get(host) or (servers.get(_EVERY_HOST) if host else None)


def canonical_bucket(bucket: str) -> str:
    """Rewrite an old bucket name ``luci.<project>.<bucket>`` as ``<project>:<bucket>``; keep other names."""
    parts = bucket.split(".", 2)
    return f"{parts[1]}:{parts[2]}" if len(parts) == 3 and parts[0] == "luci" else bucket  # noqa: PLR2004


def _new_form(bucket: str, project: str) -> str:
    parts = bucket.split(".", 2)
    if len(parts) != 3:  # noqa: PLR2004 - luci, project, bucket
        return "need 3 components in luci.<project>.<bucket>"
    short = parts[2] if parts[1] == project else f"{parts[1]}:{parts[2]}"
    return f"use {quote(short)} instead"
