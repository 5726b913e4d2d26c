"""Whether a commit has landed on the ref that is named with it: the rule that every door asks.

A person who may push somewhere in a repository, to a code review for instance, must not have that commit built as landed code.
Commit events and emitted triggers ask here, and so do backfills. Polls need not: they take commits from the log of the ref.
"""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.discards import NOT_ON_REF, NOT_SERVED
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import Commit, Gitiles, GitilesError

__all__ = ["Refusal", "has_landed", "landed_commit"]

_TAGS = "refs/tags/"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a commit must not be built, for now."""

    reason: str
    """In words; it begins with `discards.NOT_SERVED` or `discards.NOT_ON_REF`."""
    transient: bool = False
    """Whether the host could not be asked, so that it has said nothing about the commit."""


def has_landed(gitiles: Gitiles, event: CommitEvent) -> bool:
    """Return whether the ref leads to the revision: one call.

    Raises:
        GitilesError: the host does not say; NOT_FOUND if it has not the revision, the ref or the repository.
    """
    return not gitiles.log(parse_repo_url(event.repo), event.revision, limit=1, exclude=event.ref).commits


def landed_commit(runtime: Runtime, event: CommitEvent, fallback: Commit, *, diffs: bool = False) -> Commit | Refusal:
    """Return the commit of an event, or why it must wait.

    The host is asked once whether the revision is on the ref, and once more where that is not all: for the paths
    (``diffs``), and for the commit behind a tag. Where no commit is waited for (``commit_wait`` is 0) the revision is
    believed, and only those two need the host. ``trust_publishers`` leaves out the question about the ref.

    Returns:
        The commit; ``fallback`` where only the ref was in question.
    """
    limits = runtime.limits
    needs_commit = diffs or event.ref.startswith(_TAGS)
    try:
        if limits.commit_wait and not limits.trust_publishers:
            if not has_landed(runtime.gitiles, event):
                return Refusal(f"{NOT_ON_REF}: {event.ref} does not lead to {event.revision}")
        elif limits.commit_wait:
            needs_commit = True
        return _fetched(runtime.gitiles, event, diffs=diffs) if needs_commit else fallback
    except GitilesError as error:
        return Refusal(f"{NOT_SERVED}: {error}", error.transient)


def _fetched(gitiles: Gitiles, event: CommitEvent, *, diffs: bool) -> Commit:
    page = gitiles.log(parse_repo_url(event.repo), event.revision, limit=1, diffs=diffs)
    # The log of an annotated tag's object begins with the commit behind it.
    if page.commits and (page.commits[0].id == event.revision or event.ref.startswith(_TAGS)):
        return page.commits[0]
    raise GitilesError("NOT_FOUND", "the log of the revision does not begin with it", transient=False)
