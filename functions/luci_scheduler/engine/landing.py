"""Whether a commit has landed on the ref that is named with it: one rule for events, emitted triggers and backfills.

A person who may push somewhere in a repository, to a code review for instance, must not have that commit built as landed code.
Polls do not need the rule: they take commits from the log of the ref.
"""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.discards import NOT_ON_REF, NOT_SERVED
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.engine.runtime import Runtime
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError

__all__ = ["Refusal", "has_landed", "landed_commit"]

_TAGS = "refs/tags/"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a commit must not be built, for now."""

    reason: str
    """In words; it begins with `discards.NOT_SERVED` or `discards.NOT_ON_REF`."""
    transient: bool = False
    """Whether the host did not answer, so that nothing is known about the commit."""


def has_landed(gitiles: Gitiles, event: CommitEvent) -> bool:
    """Return whether the ref leads to the revision: one call.

    Raises:
        GitilesError: the call failed; NOT_FOUND if the host lacks the revision, the ref or the repository.
    """
    return not gitiles.log(parse_repo_url(event.repo), event.revision, limit=1, exclude=event.ref).commits


def landed_commit(
    runtime: Runtime, event: CommitEvent, fallback: GitCommit, *, diffs: bool = False
) -> GitCommit | Refusal:
    """Return the commit of an event, or why it must wait.

    The first call asks whether the revision is on the ref. A second call reads the paths (``diffs``) or the commit behind a
    tag. If no commit waits (``commit_wait`` is 0) the first call is left out and the revision is believed. With
    ``trust_publishers`` the one call asks only whether the host serves the commit.

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


def _fetched(gitiles: Gitiles, event: CommitEvent, *, diffs: bool) -> GitCommit:
    page = gitiles.log(parse_repo_url(event.repo), event.revision, limit=1, diffs=diffs)
    # The log of an annotated tag's object begins with the commit behind it.
    if page.commits and (page.commits[0].id == event.revision or event.ref.startswith(_TAGS)):
        return page.commits[0]
    raise GitilesError("NOT_FOUND", "the log of the revision does not begin with it", transient=False)
