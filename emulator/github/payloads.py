"""The bodies of webhooks, in the shape of GitHub's webhook schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from emulator.github.deliveries import HOOK_ID
from emulator.github.names import Found
from emulator.github.objects import repository_to_json
from emulator.gitiles.commits import Commit, Signature, read_commits, tree_diffs
from emulator.gitiles.git import GitError, git
from emulator.gitiles.refs import RefChange, read_refs
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339

__all__ = ["ping_payload", "push_payloads"]

_ZERO = "0" * 40
_SHORT = 12
_LOGIN = "local-user"
_PERSON = {"name": _LOGIN, "email": "local-user@example.com"}
_SENDER = {"login": _LOGIN, "id": 100_001, "node_id": "U_local", "type": "User", "site_admin": False}
_TAGS = 3
"""More tags than these in one push cause no event, as GitHub documents."""

_BRANCHES = 5_000
"""More branches than these in one push cause no event."""

_COMMITS = 2_048
_FILES = 3_000  # of each of a commit's lists
_HEADS, _TAG_FOLDER = "refs/heads/", "refs/tags/"


@dataclass(frozen=True, slots=True)
class _Pushed:
    """A repository after a push.

    Attributes:
        found: the repository.
        site: the host.
        refs: the refs after the push.
        known: the hashes that the refs had before.
        peeled: the commit behind each new hash; a hash without a commit is left out.
        now: the time of the push.
    """

    found: Found
    site: str
    refs: Mapping[str, str]
    known: Sequence[str]
    peeled: Mapping[str, str]
    now: Instant

    @property
    def path(self) -> Path:
        """The repository's folder."""
        return self.found.path

    @property
    def url(self) -> str:
        """The repository's address on its host."""
        return f"https://{self.site}/{self.found.name}"


def ping_payload(url: str) -> dict[str, Any]:
    """Return the body of the event ``ping``."""
    config = {"content_type": "json", "insecure_ssl": "0", "url": url}
    hook = {"type": "Repository", "id": HOOK_ID, "name": "web", "active": True, "events": ["push"], "config": config}
    return {"zen": "Commits arrive one at a time.", "hook_id": HOOK_ID, "hook": hook, "sender": _SENDER}


def push_payloads(found: Found, site: str, changes: Sequence[RefChange], now: Instant) -> list[dict[str, Any]]:
    """Return the body of the event ``push`` for each changed branch and tag for which GitHub sends one."""
    refs = read_refs(found.path)
    changed = {change.ref for change in changes}
    known = {value for ref, value in refs.items() if ref not in changed} | {change.old for change in changes}
    peeled = _peeled(found.path, [change.new for change in changes if change.new])
    pushed = _Pushed(found, site, refs, sorted(known - {""}), peeled, now)
    branches = [change for change in changes if change.ref.startswith(_HEADS)]
    tags = [change for change in changes if change.ref.startswith(_TAG_FOLDER)]
    sent = (branches if len(branches) <= _BRANCHES else []) + (tags if len(tags) <= _TAGS else [])
    return [_push(pushed, change) for change in sent]


def _peeled(path: Path, values: Sequence[str]) -> dict[str, str]:
    if not values:
        return {}
    names = "".join(f"{value}^{{commit}}\n" for value in values)
    lines = git(path, "cat-file", "--batch-check", stdin=names.encode()).decode().splitlines()
    rows = [line.split(" ") for line in lines]
    return {value: row[0] for value, row in zip(values, rows, strict=True) if len(row) > 1 and row[1] == "commit"}


def _push(pushed: _Pushed, change: RefChange) -> dict[str, Any]:
    owner = pushed.found.name.partition("/")[0]
    repository = repository_to_json(pushed.found, pushed.site, pushed.now)
    seconds = pushed.now // SECOND
    repository |= {"pushed_at": seconds, "created_at": seconds, "url": pushed.url}
    repository["owner"] |= {"name": owner}
    old, new = change.old or _ZERO, change.new or _ZERO
    return {
        "ref": change.ref,
        "before": old,
        "after": new,
        "repository": repository,
        "pusher": _PERSON,
        "organization": {"login": owner, "id": repository["owner"]["id"]},
        "sender": _SENDER,
        "created": not change.old,
        "deleted": not change.new,
        "forced": _is_forced(pushed, change),
        "base_ref": _base_ref(pushed, change),
        "compare": f"{pushed.url}/compare/{old[:_SHORT]}...{new[:_SHORT]}",
        **_commits(pushed, change),
    }


def _commits(pushed: _Pushed, change: RefChange) -> dict[str, Any]:
    """Return the members ``commits``, the oldest first, and ``head_commit``."""
    head = pushed.peeled.get(change.new)
    if head is None:
        return {"commits": [], "head_commit": None}
    ids = _new_commits(pushed, change, head) if change.ref.startswith(_HEADS) else []
    commits = read_commits(pushed.path, [*ids, head])
    diffs = tree_diffs(pushed.path, commits)
    views = [_commit(pushed, commit, diffs[commit.id]) for commit in commits]
    return {"commits": views[:-1], "head_commit": views[-1]}


def _new_commits(pushed: _Pushed, change: RefChange, head: str) -> list[str]:
    """Return the commits that a push adds to a branch; of a new branch, the commits that no other ref had."""
    seen = [change.old] if change.old else pushed.known
    arguments = ("rev-list", "--reverse", f"--max-count={_COMMITS}", "--stdin")
    text = "".join(f"{line}\n" for line in [head, *(f"^{value}" for value in seen)])
    return git(pushed.path, *arguments, stdin=text.encode()).decode().split()


def _is_forced(pushed: _Pushed, change: RefChange) -> bool:
    """Return whether a ref has left its old line."""
    if not change.old or not change.new:
        return False
    try:
        git(pushed.path, "merge-base", "--is-ancestor", change.old, change.new)
    except GitError:
        return True
    return False


def _base_ref(pushed: _Pushed, change: RefChange) -> str | None:
    """Return a branch at the commit of a new tag."""
    if change.old or not change.new or not change.ref.startswith(_TAG_FOLDER):
        return None
    head = pushed.peeled.get(change.new)
    return next((ref for ref, value in pushed.refs.items() if value == head and ref.startswith(_HEADS)), None)


def _commit(pushed: _Pushed, commit: Commit, diff: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": commit.id,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message.rstrip("\n"),
        "timestamp": _time(commit.committer),
        "url": f"{pushed.url}/commit/{commit.id}",
        "author": _person(commit.author),
        "committer": _person(commit.committer),
        "added": _paths(diff, "new_path", "add", "rename", "copy"),
        "removed": _paths(diff, "old_path", "delete", "rename"),
        "modified": _paths(diff, "new_path", "modify"),
    }


def _paths(diff: Sequence[Mapping[str, Any]], side: str, *kinds: str) -> list[str]:
    return [change[side] for change in diff if change["type"] in kinds][:_FILES]


def _person(signature: Signature) -> dict[str, str]:
    return {"name": signature.name, "email": signature.email, "username": _LOGIN}


def _time(signature: Signature) -> str:
    """Return a time in its own zone, as webhooks show it."""
    if not signature.offset:
        return format_rfc3339(Instant(signature.seconds * SECOND))
    moment = datetime.fromtimestamp(signature.seconds, UTC)
    return moment.astimezone(timezone(timedelta(minutes=signature.offset))).isoformat()
