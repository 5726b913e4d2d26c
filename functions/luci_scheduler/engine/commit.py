"""A commit has landed: every job that watches it gets its trigger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.deferred import first_wait
from luci_scheduler.core.errors import (
    ComeAgainError,
    PermanentError,
    SchedulerError,
    TransientError,
)
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.pattern_budget import MESSAGE_UNITS
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine.deferral import commit_work, defer, defer_all, trigger_work
from luci_scheduler.engine.discard import discard_trigger
from luci_scheduler.engine.fan_out import BUDGET, add_triggers
from luci_scheduler.engine.landing import Refusal, landed_commit
from luci_scheduler.engine.pattern_faults import record_pattern_faults
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import GitCommit

__all__ = ["discard_commit", "find_watching", "on_commit", "on_commits", "take_commit"]


_DEFERRED_AT_ONCE = 1000
"""Deferred tasks of one message that are made at a time: a message may name 70,000 refs, and memory is bounded."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The watchers of an event's ref, and the filters that decide about its paths."""

    watchers: tuple[Watcher, ...]
    filters: CommitFilters

    def __bool__(self) -> bool:
        """Whether there is anything to do for the event."""
        return bool(self.watchers or self.filters.too_costly)


def on_commits(runtime: Runtime, events: Sequence[CommitEvent], published: Instant, key: str) -> None:
    """Handle the events of one message; when this returns each is done, or recorded as a deferred task. Safe to repeat.

    Of a message with several events the first few that some job watches are handled at once. The others, and events whose
    handling fails, get deferred tasks, so that another delivery does not repeat the finished ones. Costly patterns do not
    hold a message up: the events that are undecided by then get deferred tasks.

    Raises:
        TransientError, ComeAgainError: an event is not done, and is not known to be recorded; deliver again.
        PermanentError: the only event can never be handled.
    """
    if len(events) == 1:
        on_commit(runtime, events[0], published, key)
        return
    until = Instant(runtime.clock.now() + BUDGET)
    left: list[CommitEvent] = []
    handled = 0
    for event, watching in _watched(runtime, events, until):
        is_now = watching is not None and handled < runtime.limits.events_at_once and runtime.clock.now() < until
        handled += is_now
        if not (is_now and watching and _is_done(runtime, event, watching, published, _key(event, key))):
            left.append(event)
    now = runtime.clock.now()
    expires = Instant(published + runtime.limits.commit_wait)
    for start in range(0, len(left), _DEFERRED_AT_ONCE):
        part = left[start : start + _DEFERRED_AT_ONCE]
        defer_all(runtime, [commit_work(event, published, _key(event, key), now, expires) for event in part])


def on_commit(runtime: Runtime, event: CommitEvent, published: Instant, key: str) -> None:
    """Add a commit's trigger to the jobs that watch its ref and its paths, side by side; safe to repeat.

    The handler first reads the commit from the repository's host. A commit that it does not serve yet, or that is not on its ref yet,
    waits as a deferred task, from ``published`` for as long as the limits say; then each watching job gets a discarded
    trigger, and the event is done.
    A job whose part fails gets a deferred task, so that one job's trouble does not repeat the work of the others.

    Raises:
        TransientError, ComeAgainError: the event is not done, and is not known to be recorded; deliver again.
    """
    watching = find_watching(event, runtime.store.watchers(event.repo))
    if watching:
        _take_or_wait(runtime, event, watching, published, key)


def find_watching(event: CommitEvent, watchers: Sequence[Watcher]) -> Watching:
    """Return which of a repository's watchers watch the event's ref, with their filters; paused ones are left out."""
    filters = CommitFilters()
    found = filters.by_ref(watchers, event.ref)
    if not found and not filters.too_costly:
        logger.info("commit_unwatched", repo=event.repo, ref=event.ref, revision=event.revision)
    return Watching(tuple(watcher for watcher in found if not _is_paused(watcher, event)), filters)


def take_commit(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str
) -> Refusal | None:
    """Ask the host for a commit and add its trigger to the jobs that watch it; return why the commit must wait, if it must.

    Raises:
        TransientError, ComeAgainError: not done; the same call again continues it.
    """
    diffs = any(has_path_filter(watcher) for watcher in watching.watchers)
    commit = GitCommit(event.revision, published)
    if watching.watchers:
        landed = landed_commit(runtime, event, commit, diffs=diffs)
        if isinstance(landed, Refusal):
            return landed
        commit = landed
    event = replace(event, revision=commit.id)
    failed = _add_all(runtime, event, watching, commit, published, key)
    record_pattern_faults(runtime, event, watching.filters, published, key)
    if failed:
        # A permanent error is acknowledged: it must not hide an error that needs another delivery.
        kinds = (TransientError, ComeAgainError, SchedulerError)
        raise next(error for kind in kinds for error in failed if isinstance(error, kind))
    return None


def _add_all(
    runtime: Runtime, event: CommitEvent, watching: Watching, commit: GitCommit, published: Instant, key: str
) -> list[SchedulerError]:
    """Trigger the watchers whose path filter the commit passes; return the errors, none of which stops the other projects."""
    failed: list[SchedulerError] = []
    passed = 0
    for part in watching.filters.by_paths(watching.watchers, commit.diff):
        passed += len(part)
        try:
            _add_part(runtime, event, _triggers(event, part, published), key)
        except SchedulerError as error:
            failed.append(error)
    if watching.watchers and not passed and not watching.filters.too_costly:
        about = {"repo": event.repo, "ref": event.ref, "revision": event.revision}
        logger.info("commit_filtered", **about, watchers=len(watching.watchers))
    return failed


def _add_part(runtime: Runtime, event: CommitEvent, triggers: Mapping[JobId, Trigger], key: str) -> None:
    batches = {job_id: [trigger] for job_id, trigger in triggers.items()}

    def later(job_id: JobId, now: Instant) -> None:
        defer(runtime, trigger_work(job_id, batches[job_id], key, now, now, revision=event.revision))

    if batches:
        add_triggers(runtime, batches, key, later)


def discard_commit(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str, reason: str
) -> None:
    """Give a commit up: each job that watches it gets a discarded trigger, and an event of the log raises an alert."""
    triggers = _triggers(event, watching.watchers, published)
    about = {"repo": event.repo, "ref": event.ref, "revision": event.revision}
    logger.error("commit_discarded", **about, jobs=len(triggers), reason=reason)
    for job_id, trigger in triggers.items():
        discard_trigger(runtime, job_id, trigger, key, reason)


def _key(event: CommitEvent, key: str) -> str:
    # Each event of a message has its own key: the handler recognizes a commit of unknown outcome by it.
    return f"{key}/{event.ref}"


def _watched(
    runtime: Runtime, events: Sequence[CommitEvent], until: Instant
) -> Iterator[tuple[CommitEvent, Watching | None]]:
    """Yield the events that some job watches, each repository's watchers being read once.

    Once the patterns have cost `MESSAGE_UNITS`, or at ``until``, the other events are yielded undecided, with None.
    """
    known: dict[str, Sequence[Watcher]] = {}
    spent = 0
    for event in events:
        if spent >= MESSAGE_UNITS or runtime.clock.now() >= until:
            yield event, None
            continue
        if event.repo not in known:
            known[event.repo] = runtime.store.watchers(event.repo)
        watching = find_watching(event, known[event.repo])
        spent += watching.filters.spent
        if watching:
            yield event, watching


def _is_done(runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str) -> bool:
    """Handle one event of several, and log its failure; return whether it is done or can never be."""
    try:
        _take_or_wait(runtime, event, watching, published, key)
    except PermanentError as error:
        logger.warning("permanent_error", repo=event.repo, ref=event.ref, reason=str(error))
    except SchedulerError as error:
        logger.warning("commit_deferred", repo=event.repo, ref=event.ref, reason=str(error))
        return False
    return True


def _take_or_wait(runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str) -> None:
    refusal = take_commit(runtime, event, watching, published, key)
    if refusal is None:
        return
    now, wait = runtime.clock.now(), runtime.limits.commit_wait
    if not wait and refusal.transient:
        raise TransientError(f"the commit {event.revision} of {event.repo} could not be fetched: {refusal.reason}")
    expires = Instant(published + wait)
    if now >= expires and not refusal.transient:
        discard_commit(runtime, event, watching, published, key, refusal.reason)
        return
    logger.info("commit_waits", repo=event.repo, ref=event.ref, revision=event.revision, reason=refusal.reason)
    defer(runtime, first_wait(commit_work(event, published, key, now, expires), now, refusal.reason))


def _is_paused(watcher: Watcher, event: CommitEvent) -> bool:
    """Whether the trigger that leads to a job lets nothing through; resumed, its next poll takes up the commit."""
    if watcher.paused:
        about = {"job_id": watcher.job_id, "trigger_job_id": watcher.trigger_job_id}
        logger.info("commit_watcher_paused", **about, repo=event.repo, ref=event.ref, revision=event.revision)
    return watcher.paused


def _triggers(event: CommitEvent, watchers: Sequence[Watcher], published: Instant) -> Mapping[JobId, Trigger]:
    triggers: dict[JobId, Trigger] = {}
    for watcher in watchers:
        trigger = gitiles_trigger(watcher.repo, event.ref, event.revision, published)
        triggers.setdefault(watcher.job_id, trigger)
    return triggers
