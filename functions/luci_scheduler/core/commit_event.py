"""Commit events: the payload of the ``gitiles-commit`` topic, and the triggers that it becomes.

The schema (JSON object, no other members)::

    {"repo": "https://<host>.googlesource.com/<project>",   the repository, in any of its spellings
     "ref": "refs/heads/main",                              full name of the ref
     "revision": "<40 lower-case hex digits>"}              the commit that the ref points to now

or what a Gerrit host publishes about its repositories, of which this is read (other members are let through)::

    {"url": "https://<host>.googlesource.com/<project>",
     "refUpdateEvent": {"refUpdates": {"refs/heads/main": {
        "refName": "refs/heads/main", "updateType": "UPDATE_FAST_FORWARD", "newId": "<40 lower-case hex digits>"}}}}

At most 64 KiB as bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.core.trigger import Trigger

__all__ = ["MAX_EVENT_BYTES", "CommitEvent", "gitiles_trigger", "parse_commit_events"]

MAX_EVENT_BYTES = 64 * 1024
"""Three short strings need a few hundred bytes; this leaves room and bounds what is parsed."""

_MAX_REF = 1024
_REVISION = re.compile(r"[0-9a-f]{40}")
_NO_REVISION = "0" * 40
_GERRIT_MEMBERS = {"refUpdateEvent", "createRepoEvent", "deleteRepoEvent"}


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A ref of a repository points to a revision."""

    repo: str
    """Normalised: ``https://<host>/<project>``."""
    ref: str
    revision: str


def parse_commit_events(data: bytes) -> tuple[CommitEvent, ...]:
    """Read the payload of a commit message: one event, or what a Gerrit host tells of any number of refs.

    A deleted ref is no event, nor is a repository that was made or removed.

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
    if _GERRIT_MEMBERS & document.keys():
        return tuple(_gerrit_events(document))
    return (_plain_event(document),)


def _plain_event(document: Mapping[str, Any]) -> CommitEvent:
    if unknown := sorted(set(document) - {"repo", "ref", "revision"}):
        raise MalformedError(f"a commit event has no member {unknown[0]!r}")
    for member in ("repo", "ref", "revision"):
        if not isinstance(document.get(member), str):
            raise MalformedError(f"a commit event needs the string {member!r}")
    return _event(document, "repo", document, "ref", "revision")


def _gerrit_events(document: Mapping[str, Any]) -> list[CommitEvent]:
    update = document.get("refUpdateEvent", {})
    updates = update.get("refUpdates", {}) if isinstance(update, dict) else None
    if not isinstance(updates, dict) or not all(isinstance(entry, dict) for entry in updates.values()):
        raise MalformedError("'refUpdateEvent' must hold 'refUpdates', an object of objects")
    events = []
    for name, entry in sorted(updates.items()):
        if entry.get("updateType") == "DELETE" or entry.get("newId", _NO_REVISION) == _NO_REVISION:
            continue
        events.append(_event(document, "url", {"refName": name, **entry}, "refName", "newId"))
    return events


def _event(
    about: Mapping[str, Any], repo_member: str, change: Mapping[str, Any], ref_member: str, revision_member: str
) -> CommitEvent:
    repo, ref, revision = about.get(repo_member), change[ref_member], change[revision_member]
    if not isinstance(repo, str):
        raise MalformedError(f"a commit event needs the string {repo_member!r}")
    if not isinstance(ref, str) or not ref.startswith("refs/") or len(ref) > _MAX_REF or not ref.isprintable():
        raise MalformedError(f"{ref_member!r} must be a full ref name (refs/...) of at most {_MAX_REF} characters")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise MalformedError(f"{revision_member!r} must be 40 lower-case hexadecimal digits")
    try:
        return CommitEvent(str(parse_repo_url(repo)), ref, revision)
    except BadRepoUrlError as error:
        raise MalformedError(f"{repo_member!r}: {error}") from error


def gitiles_trigger(repo: str, ref: str, revision: str, created: Instant) -> Trigger:
    """Return the trigger that a commit is for jobs that watch ``repo``, which is written as their config writes it."""
    return Trigger(
        id=f"{repo}/+/{ref}@{revision}",
        created=created,
        kind="gitiles",
        payload={"repo": repo, "ref": ref, "revision": revision},
        title=revision,
        url=f"{repo}/+/{revision}",
    )
