"""A push that GitHub's webhook delivers: the proof of its sender, and the commit event that follows from it. Pure.

The form of the payload is that of GitHub's page "Webhook events and payloads", event ``push``. The form of the proof is
that of "Validating webhook deliveries".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core.commit_event import CommitEvent, checked_commit, is_deletion
from luci_scheduler.core.commit_hosts import CommitHosts, HostKind
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import TAGS
from luci_scheduler.core.instants import DAY, SECOND, Instant
from luci_scheduler.core.repo_url import BadRepoUrlError

__all__ = ["MAX_PAYLOAD_BYTES", "Ignored", "Push", "event_of", "has_form", "is_genuine", "message_of", "read_push"]

MAX_PAYLOAD_BYTES = 26_214_400
"""The limit of a payload: GitHub does not deliver an event of more than 25 MB."""

_OLDEST = 7 * DAY
"""A push of more than this age is a replay. A redelivery by hand is possible for a few days only."""
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_LAST_SECOND = 1 << 33  # epoch seconds in the year 2242; a larger number does not fit into an instant


@frozen
class Push:
    """The members of a push that decide about its commit event."""

    repo: str
    """The page of the repository, as GitHub spells it."""
    ref: str
    """The full name of the ref."""
    after: str
    """The hash of the ref after the push: 40 zeros if the ref was deleted, a tag object for an annotated tag."""
    head: str
    """The hash of the commit that the ref leads to; empty if it leads to no commit."""
    created: bool
    """Whether the ref is new."""
    deleted: bool
    """Whether the ref is gone."""
    forced: bool
    """Whether the ref has left its old history."""
    has_commits: bool
    """Whether the payload lists a commit."""
    pushed: Instant
    """The time of the push, in whole seconds."""


@frozen
class Ignored:
    """A push without a commit event."""

    reason: str


def has_form(signature: str | None) -> bool:
    """Whether the header ``X-Hub-Signature-256`` can be a signature. The older header with SHA-1 proves nothing."""
    return signature is not None and _SIGNATURE.fullmatch(signature) is not None


def is_genuine(secrets: Sequence[str], body: bytes, signature: str) -> bool:
    """Whether one of the secrets has signed the raw bytes of a body.

    All secrets are compared, so the time does not depend on the secret that has signed.
    """
    given = signature.encode(errors="replace")
    made = [f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}".encode() for secret in secrets]
    return sum(hmac.compare_digest(one, given) for one in made) > 0


def read_push(document: Mapping[str, Any]) -> Push:
    """Return the push of a payload.

    Raises:
        MalformedError: a member is missing, or has a wrong type. The message names it.
    """
    repository, head = _member(document, "repository", dict), document.get("head_commit")
    return Push(
        repo=_member(repository, "html_url", str),
        ref=_member(document, "ref", str),
        after=_member(document, "after", str),
        head="" if head is None else _member(_member(document, "head_commit", dict), "id", str),
        created=_member(document, "created", bool),
        deleted=_member(document, "deleted", bool),
        forced=_member(document, "forced", bool),
        has_commits=bool(_member(document, "commits", list)),
        pushed=_seconds(_member(repository, "pushed_at", int)),
    )


def event_of(push: Push, hosts: CommitHosts, now: Instant) -> CommitEvent | Ignored:
    """Return the commit event of a push: the head of its ref. The poller finds the commits before the head.

    Raises:
        MalformedError: the repository, the ref or the hash is none. The message names the member.
    """
    if reason := _ignored(push, hosts, now):
        return Ignored(reason)
    revision = push.head if push.ref.startswith(TAGS) else push.after
    names = ("'repository.html_url'", "'ref'", "'head_commit.id'" if revision == push.head else "'after'")
    return checked_commit(push.repo, push.ref, revision, names=names, hosts=hosts)


def message_of(push: Push, event: CommitEvent) -> bytes:
    """Return the data of the message for the topic of commits. Its repository is spelled as GitHub spells it."""
    members = {"repo": push.repo, "ref": event.ref, "revision": event.revision}
    return json.dumps(members, separators=(",", ":")).encode()


def _ignored(push: Push, hosts: CommitHosts, now: Instant) -> str:
    """Return why a push has no commit event; empty if it has one."""
    is_tag = push.ref.startswith(TAGS)
    reasons = {
        "its host is not a configured GitHub host": not _may_be_on_github(push.repo, hosts),
        "it was pushed more than seven days ago": now - push.pushed > _OLDEST,
        "it deletes the ref": push.deleted or is_deletion(push.after),
        "the tag leads to no commit": is_tag and not push.head,
        # A tag's push lists no commits, so the list shows nothing about a tag that was moved.
        "it rewinds the branch": not is_tag and push.forced and not push.created and not push.has_commits,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _may_be_on_github(repo: str, hosts: CommitHosts) -> bool:
    """Return whether a repository's host is a GitHub host, even if the URL is no repository there."""
    try:
        return hosts.kind(hosts.parse(repo)) is HostKind.GITHUB
    except BadRepoUrlError:
        return hosts.knows(repo)


def _member(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    # ``True`` is an integer to Python.
    if type(value) is not kind:
        raise MalformedError(f"a push needs the member {name!r} of the type {_TYPES[kind]}")
    return value


_TYPES: Mapping[type, str] = {dict: "object", list: "list", str: "text", bool: "boolean", int: "integer"}


def _seconds(value: int) -> Instant:
    if not 0 <= value < _LAST_SECOND:
        raise MalformedError("the member 'pushed_at' must be a time in epoch seconds")
    return Instant(value * SECOND)
