"""A commit has landed: every job that watches it gets its trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.discards import NOT_SERVED
from luci_scheduler.core.errors import ComeAgainError, SchedulerError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.fan_out import BUDGET, bring
from luci_scheduler.engine.outbox import trigger_task
from luci_scheduler.engine.pattern_faults import record_pattern_faults
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.ports import Commit, CreateTrigger, GitilesError, TriggerRecord, Watcher

__all__ = ["on_commit", "on_commits"]

_TAGS = "refs/tags/"


def on_commits(runtime: Runtime, events: Sequence[CommitEvent], published: Instant, key: str) -> None:
    """Handle the events of one message; one that fails does not keep the others. Safe to repeat.

    Events that there is no time for are left to the next delivery, to which the earlier ones are duplicates.

    Raises:
        TransientError, ComeAgainError: something is left to do; deliver again.
        PermanentError: nothing is left but what is hopeless.
    """
    failed: list[SchedulerError] = []
    until = Instant(runtime.clock.now() + BUDGET)
    for place, event in enumerate(events):
        if place and runtime.clock.now() >= until:
            failed.append(ComeAgainError(f"there was no time for {len(events) - place} of {len(events)} events"))
            break
        try:
            # Each event has a key of its own: a commit of unknown outcome is recognised by it.
            on_commit(runtime, event, published, key if len(events) == 1 else f"{key}/{event.ref}")
        except SchedulerError as error:
            failed.append(error)
    _raise_one(failed)


def _raise_one(failed: Sequence[SchedulerError]) -> None:
    """Raise the error that asks for another delivery, if there is one: a hopeless error is acknowledged and would lose it."""
    if failed:
        kinds = (TransientError, ComeAgainError, SchedulerError)
        raise next(error for kind in kinds for error in failed if isinstance(error, kind))


def on_commit(runtime: Runtime, event: CommitEvent, published: Instant, key: str) -> None:
    """Bring a commit to the jobs that watch its ref and its paths, side by side; safe to repeat.

    The repository's host is asked for the commit first, and so for the one behind a tag: that is what triggers are for. One
    that it does not serve is waited for, from ``published`` for as long as the limits say; then each watching job gets a
    discarded trigger, and the event is done with.
    A job whose part fails gets a task of its own, so that one job's trouble does not repeat the work of the others. A project whose
    patterns cost too much gets discarded triggers; other projects do not wait for it.

    Raises:
        ComeAgainError: the commit is not served yet.
        TransientError: who watches, or the commit, could not be read, or even the queue failed; deliver again.
    """
    filters = CommitFilters()
    watching = filters.by_ref(runtime.store.watchers(event.repo), event.ref)
    if not watching and not filters.too_costly:
        logger.info("commit_unwatched", repo=event.repo, ref=event.ref, revision=event.revision)
    watching = [watcher for watcher in watching if not _is_paused(watcher, event)]
    is_filtered = any(has_path_filter(watcher) for watcher in watching)
    commit = Commit(event.revision, published)
    if watching and (runtime.limits.commit_wait or is_filtered or event.ref.startswith(_TAGS)):
        try:
            commit = _fetch(runtime, event, diffs=is_filtered)
        except GitilesError as error:
            _wait_or_discard(runtime, event, watching, published, key, error)
            watching = []
    event = replace(event, revision=commit.id)
    failed = _bring_all(runtime, event, filters, watching, commit, published, key)
    record_pattern_faults(runtime, event, filters, published, key)
    _raise_one(failed)


def _bring_all(
    runtime: Runtime,
    event: CommitEvent,
    filters: CommitFilters,
    watching: Sequence[Watcher],
    commit: Commit,
    published: Instant,
    key: str,
) -> list[SchedulerError]:
    """Trigger the watchers whose path filter the commit passes; return the errors, none of which stops the other projects."""
    failed: list[SchedulerError] = []
    passed = 0
    for part in filters.by_paths(watching, commit.diff):
        passed += len(part)
        try:
            _bring_to(runtime, _triggers(event, part, published), key)
        except SchedulerError as error:
            failed.append(error)
    if watching and not passed and not filters.too_costly:
        logger.info("commit_filtered", repo=event.repo, ref=event.ref, revision=event.revision, watchers=len(watching))
    return failed


def _bring_to(runtime: Runtime, triggers: Mapping[JobId, Trigger], key: str) -> None:
    batches = {job_id: [trigger] for job_id, trigger in triggers.items()}
    if batches:
        bring(runtime, batches, key, lambda job_id, now: trigger_task(job_id, batches[job_id], key, now))


def _is_paused(watcher: Watcher, event: CommitEvent) -> bool:
    """Whether the trigger that leads to a job lets nothing through; resumed, its next poll takes up the commit."""
    if watcher.paused:
        about = {"job_id": watcher.job_id, "trigger_job_id": watcher.trigger_job_id}
        logger.info("commit_watcher_paused", **about, repo=event.repo, ref=event.ref, revision=event.revision)
    return watcher.paused


def _triggers(event: CommitEvent, watching: Sequence[Watcher], published: Instant) -> Mapping[JobId, Trigger]:
    triggers: dict[JobId, Trigger] = {}
    for watcher in watching:
        trigger = gitiles_trigger(watcher.repo, event.ref, event.revision, published)
        triggers.setdefault(watcher.job_id, trigger)
    return triggers


def _fetch(runtime: Runtime, event: CommitEvent, *, diffs: bool) -> Commit:
    page = runtime.gitiles.log(parse_repo_url(event.repo), event.revision, limit=1, diffs=diffs)
    # The log of an annotated tag's object begins with the commit behind it.
    if page.commits and (page.commits[0].id == event.revision or event.ref.startswith(_TAGS)):
        return page.commits[0]
    raise GitilesError("NOT_FOUND", "the log of the revision does not begin with it", transient=False)


def _wait_or_discard(
    runtime: Runtime,
    event: CommitEvent,
    watching: Sequence[Watcher],
    published: Instant,
    key: str,
    error: GitilesError,
) -> None:
    """Have the event delivered again; when it has waited long enough for its commit, discard its triggers visibly.

    Markers that exist already, by an earlier delivery or another event, are left as they are.
    """
    about = f"{event.revision} of {event.repo}"
    if error.transient:
        raise TransientError(f"the commit {about} could not be fetched: {error}") from error
    now = runtime.clock.now()
    if now < published + runtime.limits.commit_wait:
        raise ComeAgainError(f"the commit {about} is not served yet: {error}") from error
    reason = f"{NOT_SERVED}: {error}"
    for job_id, trigger in _triggers(event, watching, published).items():
        record = TriggerRecord(
            job_id,
            trigger,
            discarded=reason,
            resolved=now,
            expires=runtime.limits.expiry(now),
            deliveries=(key,),
            refused=True,  # a poll may find the commit later
        )
        try:
            runtime.store.commit([CreateTrigger(record)])
        except StoreConflictError:
            continue
        logger.warning("trigger_discarded", job_id=job_id, trigger_id=trigger.id, reason=reason)
