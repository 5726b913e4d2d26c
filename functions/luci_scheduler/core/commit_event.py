"""Commit events: the payload of the ``gitiles-commit`` topic, and the triggers made from it.

The schema (JSON object, no other members)::

    {"repo": "https://<host>.googlesource.com/<project>",   the repository on a commit host, in any of its spellings
     "ref": "refs/heads/main",                              full name of the ref
     "revision": "<40 lower-case hex digits>"}              the commit that the ref points to now

A Gerrit host's event about its repositories is also accepted. These members are read, others are ignored::

    {"url": "https://<host>.googlesource.com/<project>",
     "refUpdateEvent": {"refUpdates": {"refs/heads/main": {
        "refName": "refs/heads/main", "updateType": "UPDATE_FAST_FORWARD", "newId": "<40 lower-case hex digits>"}}}}

The first form has at most 64 KiB, the second at most 10 MB, which is Pub/Sub's limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from sys import intern
from typing import Any

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.untrusted import check_values

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_GERRIT_BYTES",
    "CommitEvent",
    "checked_commit",
    "gitiles_trigger",
    "is_deletion",
    "parse_commit_events",
    "trigger_commit",
]

MAX_EVENT_BYTES = 64 * 1024
"""The limit of a plain event. Three short strings need a few hundred bytes."""
MAX_GERRIT_BYTES = 10_000_000
"""The limit of a Gerrit host's event, which may name thousands of refs: the largest message that Pub/Sub accepts."""

_MAX_REF = 1024  # characters
_REF = re.compile(r"refs/(?!.*(\.\.|@\{))[^\s\x00-\x20\x7f~^:?*\[\\]+")
"""The names that git allows for a ref. In a range of commits, none of them has another meaning."""
_NO_REVISION = "0" * 40
_DELETIONS = (_NO_REVISION, "0" * 64)
_GERRIT_MEMBERS = {"refUpdateEvent", "createRepoEvent", "deleteRepoEvent"}


@frozen
class CommitEvent:
    """A ref of a repository points to a revision."""

    repo: str
    """Normalized by its host: ``https://<host>/<project>``."""
    ref: str
    revision: str


def is_deletion(revision: str) -> bool:
    """Whether the revision says that the ref was deleted. Git then writes zeros."""
    return revision in _DELETIONS


def checked_commit(
    repo: Any,
    ref: Any,
    revision: Any,
    *,
    names: tuple[str, str, str] = ("'repo'", "'ref'", "'revision'"),
    hosts: CommitHosts = DEFAULT_HOSTS,
) -> CommitEvent:
    """Return a commit on a ref, from outside values. Every entry point uses this rule.

    Args:
        repo: the repository, in any of its spellings.
        ref: full name of the ref.
        revision: the commit's hash.
        names: the names of the three members in error messages.
        hosts: the commit hosts of the installation.

    Raises:
        MalformedError: a member violates the schema. The message names it.
    """
    if not isinstance(repo, str):
        raise MalformedError(f"a commit event needs the string {names[0]}")
    if not is_hash(revision):
        raise MalformedError(f"{names[2]} must be 40 lower-case hexadecimal digits, or 64")
    if not isinstance(ref, str) or len(ref) > _MAX_REF or not ref.isprintable() or not _REF.fullmatch(ref):
        raise MalformedError(f"{names[1]} must be a full ref name (refs/...) of at most {_MAX_REF} characters")
    try:
        # Interned: the thousands of refs of one event share the text.
        return CommitEvent(intern(str(hosts.parse(repo))), ref, revision)
    except BadRepoUrlError as error:
        raise MalformedError(f"{names[0]}: {error}") from error


def trigger_commit(trigger: Trigger, hosts: CommitHosts = DEFAULT_HOSTS) -> CommitEvent:
    """Return the commit that a gitiles trigger names.

    Raises:
        MalformedError: its payload violates the schema. The message names the member.
    """
    return checked_commit(*(trigger.payload.get(member) for member in ("repo", "ref", "revision")), hosts=hosts)


def parse_commit_events(data: bytes, hosts: CommitHosts = DEFAULT_HOSTS) -> tuple[CommitEvent, ...]:
    """Read the payload of a commit message: one event, or the refs that a Gerrit host names.

    The repository must be on Gitiles, or on one of ``hosts``.

    A deleted ref yields no event, and neither does a created or deleted repository.

    Raises:
        MalformedError: too large, not JSON, or a violation of the schema above. The message names the member.
    """
    # Count the values before parsing: a small message can expand to far more memory than the function has.
    if len(data) > MAX_GERRIT_BYTES:
        raise _too_large(data, MAX_GERRIT_BYTES)
    is_small = len(data) <= MAX_EVENT_BYTES
    # Only a Gerrit event may be this large. The search is cheap, and spares the parsing of other payloads.
    if not is_small and b'"refUpdateEvent"' not in data:
        raise _too_large(data, MAX_EVENT_BYTES)
    try:
        check_values(data)
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"a commit event must be JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedError(f"a commit event must be a JSON object, not {type(document).__name__}")
    if _GERRIT_MEMBERS & document.keys():
        return tuple(_gerrit_events(document, hosts))
    if not is_small:
        raise _too_large(data, MAX_EVENT_BYTES)
    event = _plain_event(document, hosts)
    return () if is_deletion(event.revision) else (event,)


def _too_large(data: bytes, most: int) -> MalformedError:
    return MalformedError(f"a commit event has at most {most} bytes, this one has {len(data)}")


def _plain_event(document: Mapping[str, Any], hosts: CommitHosts) -> CommitEvent:
    if unknown := sorted(set(document) - {"repo", "ref", "revision"}):
        raise MalformedError(f"a commit event has no member {unknown[0]!r}")
    for member in ("repo", "ref", "revision"):
        if not isinstance(document.get(member), str):
            raise MalformedError(f"a commit event needs the string {member!r}")
    return checked_commit(document["repo"], document["ref"], document["revision"], hosts=hosts)


def _gerrit_events(document: Mapping[str, Any], hosts: CommitHosts) -> list[CommitEvent]:
    update = document.get("refUpdateEvent", {})
    updates = update.get("refUpdates", {}) if isinstance(update, dict) else None
    if not isinstance(updates, dict) or not all(isinstance(entry, dict) for entry in updates.values()):
        raise MalformedError("'refUpdateEvent' must hold 'refUpdates', an object of objects")
    events = []
    # A fixed order: a redelivery must produce the same triggers in the same order.
    for name, entry in sorted(updates.items()):
        revision = entry.get("newId", _NO_REVISION)
        if entry.get("updateType") == "DELETE" or is_deletion(revision):
            continue
        ref, names = entry.get("refName", name), ("'url'", "'refName'", "'newId'")
        events.append(checked_commit(document.get("url"), ref, revision, names=names, hosts=hosts))
    return events


def gitiles_trigger(
    repo: str, ref: str, revision: str, created: Instant, hosts: CommitHosts = DEFAULT_HOSTS
) -> Trigger:
    """Return the trigger of a commit for jobs that watch ``repo``, in the spelling of their config.

    The ID is a key, not a link, and has the same form for all hosts.
    """
    return Trigger(
        id=f"{repo}/+/{ref}@{revision}",
        created=created,
        kind=PayloadKind.GITILES,
        payload={"repo": repo, "ref": ref, "revision": revision},
        title=revision,
        url=hosts.commit_link(repo, revision),
    )
