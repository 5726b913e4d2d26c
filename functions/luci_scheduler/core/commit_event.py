"""Commit events: the payload of the ``gitiles-commit`` topic, and the triggers that it becomes.

The schema (JSON object, no other members)::

    {"repo": "https://<host>.googlesource.com/<project>",   the repository, in any of its spellings
     "ref": "refs/heads/main",                              full name of the ref
     "revision": "<40 lower-case hex digits>"}              the commit that the ref points to now

At most 64 KiB as bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.core.trigger import Trigger

__all__ = ["MAX_EVENT_BYTES", "CommitEvent", "gitiles_trigger", "parse_commit_event"]

MAX_EVENT_BYTES = 64 * 1024
"""Three short strings need a few hundred bytes; this leaves room and bounds what is parsed."""

_MAX_REF = 1024
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A ref of a repository points to a revision."""

    repo: str
    """Normalised: ``https://<host>/<project>``."""
    ref: str
    revision: str


def parse_commit_event(data: bytes) -> CommitEvent:
    """Read the payload of a commit message.

    Raises:
        MalformedError: too large, not JSON, or not of the schema above; the message names the member.
    """
    if len(data) > MAX_EVENT_BYTES:
        raise MalformedError(f"a commit event has at most {MAX_EVENT_BYTES} bytes, this one has {len(data)}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"a commit event must be JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedError(f"a commit event must be a JSON object, not {type(document).__name__}")
    if unknown := sorted(set(document) - {"repo", "ref", "revision"}):
        raise MalformedError(f"a commit event has no member {unknown[0]!r}")
    for member in ("repo", "ref", "revision"):
        if not isinstance(document.get(member), str):
            raise MalformedError(f"a commit event needs the string {member!r}")
    repo, ref, revision = document["repo"], document["ref"], document["revision"]
    if not ref.startswith("refs/") or len(ref) > _MAX_REF or not ref.isprintable():
        raise MalformedError(f"'ref' must be a full ref name (refs/...) of at most {_MAX_REF} characters")
    if not _REVISION.fullmatch(revision):
        raise MalformedError("'revision' must be 40 lower-case hexadecimal digits")
    try:
        return CommitEvent(str(parse_repo_url(repo)), ref, revision)
    except BadRepoUrlError as error:
        raise MalformedError(f"'repo': {error}") from error


def gitiles_trigger(repo: str, event: CommitEvent, created: Instant) -> Trigger:
    """Return the trigger that a commit is for jobs that watch ``repo``, which is written as their config writes it."""
    return Trigger(
        id=f"{repo}/+/{event.ref}@{event.revision}",
        created=created,
        kind="gitiles",
        payload={"repo": repo, "ref": event.ref, "revision": event.revision},
        title=event.revision,
        url=f"{repo}/+/{event.revision}",
    )
