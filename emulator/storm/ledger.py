"""The documents of a run after each commit, replayed from its history.

Writes are recognized by the names of their classes, because the last release has separate classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from emulator.storm.history import Commit
from luci_scheduler.core.instants import Instant

__all__ = ["Change", "Key", "Ledger", "may_triage"]

Key = tuple[Any, ...]
"""The kind of a document and its name: ``("invocation", job ID, invocation ID)``, ``("job", job ID)``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write of a commit."""

    key: Key
    before: Any
    """The record before the commit; None if there was none."""
    after: Any
    """The record after it; None if it was deleted."""
    log: str = ""
    replaces_log: bool = False

    @property
    def kind(self) -> str:
        """The kind of the document."""
        return str(self.key[0])

    @property
    def subject(self) -> str:
        """The name of the document, for people."""
        return " ".join(map(str, self.key))


_KEYS: dict[str, Callable[[Any], tuple[Key, Any]]] = {
    "CreateInvocation": lambda w: (("invocation", w.invocation.job_id, w.invocation.id), w.invocation),
    "UpdateInvocation": lambda w: (("invocation", w.invocation.job_id, w.invocation.id), w.invocation),
    "PutJob": lambda w: (("job", w.job.id), w.job),
    "CreateTrigger": lambda w: (("trigger", w.record.job_id, w.record.trigger.id), w.record),
    "UpdateTrigger": lambda w: (("trigger", w.record.job_id, w.record.trigger.id), w.record),
    "PutDeferred": lambda w: (("deferred", w.record.id), w.record),
    "DeleteDeferred": lambda w: (("deferred", w.id), None),
    "PutProject": lambda w: (("project", w.record.id), w.record),
    "PutPoller": lambda w: (("poller", w.record.job_id), w.record),
    "PutProbe": lambda w: (("probe", w.record.id), w.record),
    "PutWatchers": lambda w: (("watchers", w.repo, w.project), w.watchers),
    "PutPaused": lambda w: (("paused", w.repo, w.trigger_job_id), w.paused),
}


class Ledger:
    """The latest version of each document."""

    def __init__(self) -> None:
        self.documents: dict[Key, Any] = {}
        self.active: dict[str, dict[int, None]] = defaultdict(dict)
        """Job → its unfinished invocations."""
        self.pending: dict[str, dict[str, Instant]] = defaultdict(dict)
        """Job → its pending triggers, each with the instant of its record."""

    def apply(self, commit: Commit) -> list[Change]:
        """Apply a commit, and return its changes."""
        changes = [self._change(write) for write in commit.writes]
        for change in changes:
            self._index(change, commit.at)
        return changes

    def of_kind(self, kind: str) -> Iterator[tuple[Key, Any]]:
        """Yield the documents of a kind."""
        return ((key, record) for key, record in self.documents.items() if key[0] == kind)

    def job(self, job_id: str) -> Any:
        """Return a job's record; None if there is none."""
        return self.documents.get(("job", job_id))

    def _change(self, write: Any) -> Change:
        key, after = _KEYS[type(write).__name__](write)
        before = self.documents.get(key)
        if after is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = after
        return Change(key, before, after, getattr(write, "log", ""), getattr(write, "replaces_log", False))

    def _index(self, change: Change, at: Instant) -> None:
        if change.kind == "invocation":
            _, job_id, invocation_id = change.key
            if change.after.status.is_final:
                self.active[job_id].pop(invocation_id, None)
            else:
                self.active[job_id][invocation_id] = None
        elif change.kind == "trigger":
            _, job_id, trigger_id = change.key
            if change.after.is_pending:
                self.pending[job_id].setdefault(trigger_id, at)
            else:
                self.pending[job_id].pop(trigger_id, None)


def may_triage(job: Any) -> bool:
    """Return whether a job has a free slot, or discards pending triggers because it is paused or disabled."""
    is_free = len(job.active_invocations) < job.definition.policy.max_concurrent_invocations
    return is_free or job.paused or not job.enabled
