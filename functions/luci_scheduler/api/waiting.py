"""Deferred tasks that wait for a commit, for explanations."""

from __future__ import annotations

from functools import cached_property

from luci_scheduler.core.commit_event import CommitEvent, checked_commit
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.ports import Store

__all__ = ["WaitingCommits", "waiting_sentence"]

_MAX = 100
"""Deferred tasks of one commit that are read, at most."""


class WaitingCommits:
    """The deferred tasks that wait for one commit of a repository; the first use costs one query."""

    def __init__(self, store: Store, hosts: CommitHosts, repo: str, revision: str) -> None:
        self._store = store
        self._hosts = hosts
        self._repo = repo
        self._revision = revision

    @cached_property
    def _works(self) -> list[tuple[Deferred, CommitEvent, str]]:
        """The tasks, each with its commit and its job (empty: every job that watches the ref)."""
        works = []
        for work in self._store.deferred_of_revision(self._revision, _MAX):
            payload = work.payload
            for entry in [payload, *(trigger.get("payload", {}) for trigger in payload.get("triggers", ()))]:
                try:
                    members = (entry.get(name) for name in ("repo", "ref", "revision"))
                    event = checked_commit(*members, hosts=self._hosts)
                except MalformedError:
                    continue
                if (event.repo, event.revision) == (self._repo, self._revision):
                    works.append((work, event, str(payload.get("job", ""))))
        return works

    def of_job(self, job_id: JobId, ref: str) -> tuple[Deferred, CommitEvent] | None:
        """Return the task that will give a job its trigger for the commit on a ref (empty: on any ref)."""
        for work, event, wanted in self._works:
            if wanted in ("", job_id) and ref in ("", event.ref):
                return work, event
        return None


def waiting_sentence(work: Deferred) -> str:
    """Return a sentence about how long and why a commit has been waiting, and the next attempt."""
    since, due = _shown(work.created), _shown(work.next_due)
    if not work.reason:
        return f"It has been on its way to the job since {since}. Next attempt: {due}."
    return (
        f"It has been waiting since {since} for the repository to serve the commit. Next attempt: {due}. "
        f"The scheduler gives up at {_shown(work.expires)}. Result of the last attempt: {work.reason}."
    )


def _shown(instant: Instant) -> str:
    return format_rfc3339(Instant(instant // SECOND * SECOND))
