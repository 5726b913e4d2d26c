"""Commit events: each job that watches a landed commit gets its trigger.

A caller that may push anywhere in a repository, for example to a code review, must not get its commit built as landed
code. So `landed_commit` checks with the repository's host that the event's ref leads to the commit. The rule holds for
commit events, emitted triggers and backfills. Polls need no check, as they read the log of the ref itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from luci_scheduler.core.commit_event import CommitEvent, gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.deferred import first_wait
from luci_scheduler.core.discards import NOT_ON_REF, NOT_SERVED, TOO_COSTLY
from luci_scheduler.core.errors import (
    ComeAgainError,
    PermanentError,
    SchedulerError,
    TransientError,
)
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import TAGS
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.pattern_budget import MESSAGE_UNITS
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine.deferral import commit_work, defer, defer_all, trigger_work
from luci_scheduler.engine.runtime import Runtime, logger
from luci_scheduler.engine.triggers import BUDGET, discard_trigger, fan_out
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError

__all__ = [
    "Refusal",
    "discard_commit",
    "find_watching",
    "has_landed",
    "landed_commit",
    "on_commit",
    "on_commits",
    "take_commit",
]


_DEFERRED_AT_ONCE = 1000
"""Deferred tasks of one message that are created at a time: a message may name 70,000 refs, and memory is limited."""

_MAX_DISCARDED = 100
"""Jobs of one project that get a discarded trigger: each costs a write, and a project may have thousands of jobs."""


@frozen
class Watching:
    """The watchers of an event's ref, and the filters that decide about its paths."""

    watchers: tuple[Watcher, ...]
    filters: CommitFilters

    def __bool__(self) -> bool:
        """Return whether the event needs any work."""
        return bool(self.watchers or self.filters.too_costly)


@frozen
class Refusal:
    """Why a commit must not be built yet."""

    reason: str
    """A text that starts with `discards.NOT_SERVED` or `discards.NOT_ON_REF`."""
    transient: bool = False
    """Whether the commit's state is unknown because the host did not answer."""


def on_commits(runtime: Runtime, events: Sequence[CommitEvent], published: Instant, key: str) -> None:
    """Handle the events of one message. On return, each is done or recorded as a deferred task. Safe to repeat.

    If a message has several events, its delivery handles the first few watched events itself. The other events, and
    failed events, get deferred tasks, so that a repeated delivery does not repeat finished events. Costly patterns do
    not delay a message: events that are undecided when the budget is used up get deferred tasks.

    Raises:
        TransientError, ComeAgainError: an event is neither done nor known to be recorded; deliver again.
        PermanentError: the only event can never be handled.
    """
    if len(events) == 1:
        on_commit(runtime, events[0], published, key)
        return
    until = Instant(runtime.clock.now() + BUDGET)
    left: list[CommitEvent] = []
    handled = 0
    for event, watching in _watched(runtime, events, until):
        # An undecided event (watching is None) is always deferred: its patterns are too costly for this delivery.
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
    """Deliver a commit's trigger to the jobs that watch its ref and paths, in parallel; safe to repeat.

    The handler first reads the commit from the repository's host. The event waits as a deferred task while the host
    does not serve the commit, or the ref does not lead to it. After ``Limits.commit_wait`` from ``published``, each
    watching job gets a discarded trigger, and the event is done.

    A job that fails gets a deferred task, so that one job's failure does not repeat the work of the others.

    Raises:
        TransientError, ComeAgainError: the event is neither done nor known to be recorded; deliver again.
    """
    watching = find_watching(event, runtime.store.watchers(event.repo))
    if watching and (refusal := take_commit(runtime, event, watching, published, key)):
        _wait_or_discard(runtime, event, watching, published, key, refusal)


def find_watching(event: CommitEvent, watchers: Sequence[Watcher]) -> Watching:
    """Return the watchers of the event's ref among those of its repository, without paused ones, and their filters."""
    filters = CommitFilters()
    found = filters.by_ref(watchers, event.ref)
    if not found and not filters.too_costly:
        logger.info("commit_unwatched", repo=event.repo, ref=event.ref, revision=event.revision)
    return Watching(tuple(watcher for watcher in found if not _is_paused(watcher, event)), filters)


def take_commit(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str
) -> Refusal | None:
    """Read a commit from its host and deliver its trigger to the watching jobs; return why the commit must wait, if so.

    Raises:
        TransientError, ComeAgainError: not done; repeat the call to continue.
    """
    commit = _watched_commit(runtime, event, watching, published)
    if isinstance(commit, Refusal):
        return commit
    # The revision of an event may be an annotated tag; builds use the commit that it names.
    event = replace(event, revision=commit.id)
    filters, failed, passed = watching.filters, [], 0
    for part in filters.by_paths(watching.watchers, commit.known_diff):
        passed += len(part)
        batches = {job_id: [trigger] for job_id, trigger in _triggers(runtime, event, part, published).items()}
        try:
            if batches:
                fan_out(runtime, batches, key, _defer_trigger(runtime, event, batches, key))
        except SchedulerError as error:  # an error of one project must not stop the others
            failed.append(error)
    if not passed:
        _log_filtered(event, watching)
    # The generator above fills in the faults while it runs, so they are known only now.
    if filters.bad or filters.too_costly:
        _record_pattern_faults(runtime, event, filters, published, key)
    _raise_first(failed)
    return None


def discard_commit(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str, reason: str
) -> None:
    """Drop a commit: each job that watches it gets a discarded trigger, and a log line raises an alert."""
    triggers = _triggers(runtime, event, watching.watchers, published)
    about = {"repo": event.repo, "ref": event.ref, "revision": event.revision}
    logger.error("commit_discarded", **about, jobs=len(triggers), reason=reason)
    for job_id, trigger in triggers.items():
        discard_trigger(runtime, job_id, trigger, key, reason)


def has_landed(gitiles: Gitiles, event: CommitEvent) -> bool:
    """Return whether the ref leads to the revision: one call.

    Raises:
        GitilesError: the call failed; NOT_FOUND if the host lacks the revision, the ref or the repository.
    """
    return not gitiles.log(RepoUrl.read_back(event.repo), event.revision, limit=1, exclude=event.ref).commits


def landed_commit(
    runtime: Runtime, event: CommitEvent, fallback: GitCommit, *, diffs: bool = False
) -> GitCommit | Refusal:
    """Return the commit of an event, or why it must wait.

    The first call checks that the ref leads to the revision. A second call reads the changed paths (``diffs``) or the
    commit that a tag names. If ``commit_wait`` is 0, the first call is omitted and the revision is trusted. With
    ``trust_publishers``, a single call checks only that the host serves the commit.

    Returns:
        The commit, or ``fallback`` if only the ref had to be checked.
    """
    limits = runtime.limits
    needs_commit = diffs or event.ref.startswith(TAGS)
    try:
        if limits.commit_wait and not limits.trust_publishers:
            if not has_landed(runtime.gitiles, event):
                return Refusal(f"{NOT_ON_REF}: {event.ref} does not lead to {event.revision}")
        elif limits.commit_wait:
            needs_commit = True
        return _fetched(runtime.gitiles, event, diffs=diffs) if needs_commit else fallback
    except GitilesError as error:
        return Refusal(f"{NOT_SERVED}: {error}", error.transient)


def _watched_commit(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant
) -> GitCommit | Refusal:
    """Return the commit that the event's watchers need; without any, only patterns that failed are recorded for it."""
    commit = GitCommit(event.revision, published)
    if not watching.watchers:
        return commit
    diffs = any(has_path_filter(watcher) for watcher in watching.watchers)
    return landed_commit(runtime, event, commit, diffs=diffs)


def _log_filtered(event: CommitEvent, watching: Watching) -> None:
    if watching.watchers and not watching.filters.too_costly:
        about = {"repo": event.repo, "ref": event.ref, "revision": event.revision}
        logger.info("commit_filtered", **about, watchers=len(watching.watchers))


def _fetched(gitiles: Gitiles, event: CommitEvent, *, diffs: bool) -> GitCommit:
    page = gitiles.log(RepoUrl.read_back(event.repo), event.revision, limit=1, diffs=diffs)
    # The log of an annotated tag's object begins with the tagged commit.
    if page.commits and (page.commits[0].id == event.revision or event.ref.startswith(TAGS)):
        return page.commits[0]
    raise GitilesError("NOT_FOUND", "the log of the revision does not begin with it", transient=False)


def _defer_trigger(
    runtime: Runtime, event: CommitEvent, batches: Mapping[JobId, Sequence[Trigger]], key: str
) -> Callable[[JobId, Instant], None]:
    def record(job_id: JobId, now: Instant) -> None:
        defer(runtime, trigger_work(job_id, batches[job_id], key, now, now, revision=event.revision))

    return record


def _raise_first(failed: Sequence[SchedulerError]) -> None:
    """Raise the error that matters most: a permanent one is acknowledged and must not hide a retryable one."""
    for kind in (TransientError, ComeAgainError, SchedulerError):
        for error in failed:
            if isinstance(error, kind):
                raise error


def _key(event: CommitEvent, key: str) -> str:
    # Each event of a message has its own key, by which the handler recognizes its commits of unknown outcome.
    return f"{key}/{event.ref}"


def _watched(
    runtime: Runtime, events: Sequence[CommitEvent], until: Instant
) -> Iterator[tuple[CommitEvent, Watching | None]]:
    """Yield the watched events; each repository's watchers are read once.

    Once the patterns have cost `MESSAGE_UNITS`, or after ``until``, the other events are yielded undecided, with None.
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
    """Handle one of several events and log a failure; return whether it is done or can never be done."""
    try:
        if refusal := take_commit(runtime, event, watching, published, key):
            _wait_or_discard(runtime, event, watching, published, key, refusal)
    except PermanentError as error:
        logger.warning("permanent_error", repo=event.repo, ref=event.ref, reason=str(error))
    except SchedulerError as error:
        logger.warning("commit_deferred", repo=event.repo, ref=event.ref, reason=str(error))
        return False
    return True


def _wait_or_discard(
    runtime: Runtime, event: CommitEvent, watching: Watching, published: Instant, key: str, refusal: Refusal
) -> None:
    """Record a refused commit as a deferred task, or discard it if it has waited long enough."""
    now, wait = runtime.clock.now(), runtime.limits.commit_wait
    if not wait and refusal.transient:
        raise TransientError(f"the commit {event.revision} of {event.repo} could not be fetched: {refusal.reason}")
    expires = Instant(published + wait)
    # While the host does not answer, it is unknown whether the commit has landed, so it is never discarded here.
    if now >= expires and not refusal.transient:
        discard_commit(runtime, event, watching, published, key, refusal.reason)
        return
    logger.info("commit_waits", repo=event.repo, ref=event.ref, revision=event.revision, reason=refusal.reason)
    defer(runtime, first_wait(commit_work(event, published, key, now, expires), now, refusal.reason))


def _is_paused(watcher: Watcher, event: CommitEvent) -> bool:
    """Return whether the watcher's gitiles trigger is paused; after it is resumed, its next poll finds the commit."""
    if watcher.paused:
        about = {"job_id": watcher.job_id, "trigger_job_id": watcher.trigger_job_id}
        logger.info("commit_watcher_paused", **about, repo=event.repo, ref=event.ref, revision=event.revision)
    return watcher.paused


def _triggers(
    runtime: Runtime, event: CommitEvent, watchers: Sequence[Watcher], published: Instant
) -> Mapping[JobId, Trigger]:
    triggers: dict[JobId, Trigger] = {}
    for watcher in watchers:
        trigger = gitiles_trigger(watcher.repo, event.ref, event.revision, published, runtime.hosts)
        triggers.setdefault(watcher.job_id, trigger)
    return triggers


def _record_pattern_faults(
    runtime: Runtime, event: CommitEvent, filters: CommitFilters, published: Instant, key: str
) -> None:
    """Log each project whose patterns failed for a commit, and give its first 100 jobs a discarded trigger.

    Safe to repeat: existing markers stay as they are.

    Raises:
        TransientError: the store failed; deliver again.
    """
    for watcher, reason in filters.bad.items():
        logger.error("bad_watcher", job_id=watcher.job_id, trigger_job_id=watcher.trigger_job_id, reason=reason)
    for project, watchers in filters.too_costly.items():
        by_job = {watcher.job_id: watcher for watcher in watchers if not watcher.paused}
        logger.warning(
            "patterns_too_costly",
            project=project,
            repo=event.repo,
            ref=event.ref,
            revision=event.revision,
            jobs=len(by_job),
        )
        for job_id in sorted(by_job)[:_MAX_DISCARDED]:
            trigger = gitiles_trigger(by_job[job_id].repo, event.ref, event.revision, published, runtime.hosts)
            discard_trigger(runtime, job_id, trigger, key, TOO_COSTLY)
