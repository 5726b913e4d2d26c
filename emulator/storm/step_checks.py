"""The invariants of single commits: each compares the documents before a commit with those after it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.storm.history import Commit
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.ledger import Change, Ledger
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["Step", "check_step"]

_FORGOTTEN = 30 * MINUTE - 20 * SECOND
"""How long the ID of a resolved trigger is a duplicate (`Limits.deduplication`), less the skew of two clocks."""
_RANKS = {"STARTING": 0, "RETRYING": 0, "RUNNING": 1}


@dataclass(frozen=True, slots=True)
class Step:
    """A commit with its changes, and the documents after it."""

    commit: Commit
    changes: Sequence[Change]
    ledger: Ledger

    def found(self, invariant: Invariant, subject: str, text: str) -> Violation:
        """Return a violation by this commit."""
        by = f"{text} (commit {self.commit.number} of {self.commit.handler})"
        return Violation(invariant, self.commit.at, subject, by)


def check_step(step: Step) -> Iterator[Violation]:
    """Yield the violations of one commit."""
    for change in step.changes:
        yield from _counters(step, change)
        yield from _outbox(step, change)
    yield from _active(step)
    yield from _slots(step)
    yield from _triggers(step)


def _counters(step: Step, change: Change) -> Iterator[Violation]:
    check = {"invocation": _invocation_grows, "job": _job_grows, "deferred": _work_grows}.get(change.kind)
    if check is not None and change.after is not None:
        for text in check(change):
            yield step.found(Invariant.COUNTERS, change.subject, text)


def _invocation_grows(change: Change) -> Iterator[str]:
    after, before = change.after, change.before
    yield from _log_size(change)
    if before is None:
        return
    if after.commits != before.commits + 1:
        yield f"the counter of commits went from {before.commits} to {after.commits}"
    for name in ("mutations", "attempts", "dispatched", "last_line"):
        if getattr(after, name) < getattr(before, name):
            yield f"{name} fell from {getattr(before, name)} to {getattr(after, name)}"
    if after.attempts > before.attempts + 1:
        yield f"attempts rose from {before.attempts} to {after.attempts} in one commit"
    if before.status.is_final and (after.status, after.finished) != (before.status, before.finished):
        yield f"it had ended as {before.status}, and became {after.status}"
    if _RANKS.get(after.status, 2) < _RANKS.get(before.status, 2):
        yield f"the status went back from {before.status} to {after.status}"
    if not after.attempts and before.status.is_initial and after.status == "RUNNING":
        yield "it runs without a claimed attempt"


def _log_size(change: Change) -> Iterator[str]:
    """The recorded size of the log is the size of the stored lines, so that no append needs to read it."""
    before = 0 if change.before is None or change.replaces_log else change.before.log_size
    size = before + len(change.log.encode())
    if change.after.log_size != size:
        yield f"the log has {size} bytes, and the document says {change.after.log_size}"


def _job_grows(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if before is not None and after.commits != before.commits + 1:
        yield f"the counter of commits went from {before.commits} to {after.commits}"


def _work_grows(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if before is not None and after.tries < before.tries:
        yield f"the number of tries fell from {before.tries} to {after.tries}"


def _outbox(step: Step, change: Change) -> Iterator[Violation]:
    after = change.after
    if change.kind == "invocation" and after.next_due is None:
        if not after.status.is_final:
            yield step.found(Invariant.OUTBOX, change.subject, f"it is {after.status} and has no due time")
        elif after.cleanup is not None or after.has_undispatched:
            yield step.found(Invariant.OUTBOX, change.subject, "it ended with work left and has no due time")


def _active(step: Step) -> Iterator[Violation]:
    jobs = dict.fromkeys(change.key[1] for change in step.changes if change.kind in ("invocation", "job"))
    for job_id in jobs:
        job = step.ledger.job(job_id)
        listed = () if job is None else tuple(job.active_invocations)
        unfinished = step.ledger.active[job_id]
        if len(listed) != len(unfinished) or set(listed) != set(unfinished):
            text = f"it lists {list(listed)}, and {list(unfinished)} are unfinished"
            yield step.found(Invariant.ACTIVE, f"job {job_id}", text)


def _slots(step: Step) -> Iterator[Violation]:
    started = [c.key[1] for c in step.changes if c.kind == "invocation" and c.before is None]
    for job_id in dict.fromkeys(started):
        job = step.ledger.job(job_id)
        limit = job.definition.policy.max_concurrent_invocations if job else 0
        if job is None or len(job.active_invocations) > limit:
            text = f"{len(job.active_invocations) if job else 1} invocations are unfinished, at most {limit} may be"
            yield step.found(Invariant.ACTIVE, f"job {job_id}", text)


def _triggers(step: Step) -> Iterator[Violation]:
    """The consumed triggers of a commit are the incoming triggers of its new invocations."""
    taken: dict[tuple[str, str], int] = {}
    for change in step.changes:
        if change.kind == "invocation" and change.before is None:
            for trigger in change.after.incoming_triggers:
                key = (change.key[1], trigger.id)
                if key in taken:
                    yield step.found(Invariant.TRIGGER_ONCE, change.subject, f"{trigger.id} is in two new invocations")
                taken[key] = change.after.id
    for change in step.changes:
        if change.kind == "trigger":
            yield from (
                step.found(Invariant.TRIGGER_ONCE, change.subject, text)
                for text in _fate(change, taken, step.commit.at)
            )
    for (job_id, trigger_id), invocation_id in taken.items():
        record = step.ledger.documents.get(("trigger", job_id, trigger_id))
        if record is not None and record.invocation_id != invocation_id:
            text = f"invocation {invocation_id} consumed it, and its marker says {record.invocation_id}"
            yield step.found(Invariant.TRIGGER_ONCE, f"trigger {job_id} {trigger_id}", text)


def _fate(change: Change, taken: Mapping[tuple[str, str], int], at: Instant) -> Iterator[str]:
    after, before = change.after, change.before
    consumer = taken.get((change.key[1], change.key[2]))
    if after.is_pending and consumer is not None:
        yield f"it is pending although invocation {consumer} consumed it"
    if not after.is_pending and bool(after.discarded) == bool(after.invocation_id):
        yield f"it was resolved, and has invocation {after.invocation_id} and the reason {after.discarded!r}"
    if after.invocation_id and after.invocation_id != consumer and _is_new_fate(before, after):
        yield f"its marker names invocation {after.invocation_id}, which this commit does not create"
    if before is not None and not before.is_pending and not before.refused:
        yield from _again(before, after, at)


def _is_new_fate(before: Any, after: Any) -> bool:
    return before is None or before.invocation_id != after.invocation_id


def _again(before: Any, after: Any, at: Instant) -> Iterator[str]:
    """A resolved trigger counts as new only in another delivery, half an hour later."""
    if at - before.resolved < _FORGOTTEN:
        yield f"it counted as new again {(at - before.resolved) // SECOND} s after its end"
    repeated = set(after.deliveries[-1:]) & set(before.deliveries)
    if repeated:
        yield f"the repeated delivery {repeated.pop()} of it counted as a new trigger"
