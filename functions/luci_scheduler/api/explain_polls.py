"""Explanations from the polls of gitiles jobs, for a commit that has reached no job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from luci_scheduler.api.access import Permission
from luci_scheduler.api.commit_host import CommitHost
from luci_scheduler.api.context import Context
from luci_scheduler.api.explanation import CommitQuery, Explanation, Reason
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import TAGS
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import DAY, SECOND, Instant, format_rfc3339
from luci_scheduler.core.job import Job, Result, Status
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.schedule import DISTANT_FUTURE

__all__ = ["MAX_POLLERS", "Polls"]

MAX_POLLERS = 20
"""The largest number of gitiles jobs whose polls one answer examines; each costs two reads."""


@frozen
class _Poller:
    """A gitiles job that the caller may see, and its record."""

    job: Job
    record: PollerRecord | None
    """None before the first poll, and for a record of another repository."""

    @property
    def next_poll(self) -> Instant | None:
        """When it polls next; None if no poll is scheduled."""
        tick = self.job.cron.last_tick_when
        return None if tick == DISTANT_FUTURE or self.job.paused else tick

    @property
    def failed(self) -> Result | None:
        """The last poll, if it failed."""
        last = next(iter(self.job.recent), None)
        return last if self.job.failed_polls and last and last.status is Status.FAILED else None


class Polls:
    """Explains from the polls why a commit on a watched ref has no trigger."""

    def __init__(self, context: Context, query: CommitQuery, host: CommitHost) -> None:
        self._context = context
        self._query = query
        self._host = host
        self._known: dict[JobId, _Poller | None] = {}

    def visible(self, ids: Iterable[JobId]) -> list[Job]:
        """Return the gitiles jobs that the caller may see, of the first `MAX_POLLERS` that are asked for."""
        return [found.job for found in map(self._poller, sorted(set(ids))) if found]

    def explain(self, job: Job, ref: str, ids: Iterable[JobId]) -> Explanation | None:
        """Return the explanation of a commit on a ref, from the job's gitiles jobs; None if they do not know it."""
        pollers = [found for found in map(self._poller, sorted(set(ids))) if found]
        for poller in pollers:
            if not self._has_seen(poller, ref) and (found := self._unseen(job, ref, poller)):
                return found
        for poller in pollers:
            if self._has_seen(poller, ref):
                return self._seen(job, ref, poller)
        return None

    def _poller(self, job_id: JobId) -> _Poller | None:
        if job_id not in self._known and len(self._known) < MAX_POLLERS:
            self._known[job_id] = self._read(job_id)
        return self._known.get(job_id)

    def _read(self, job_id: JobId) -> _Poller | None:
        store = self._context.runtime.store
        job = store.job(job_id)
        if job is None or not self._context.may(Permission.GET, job.value):
            return None
        found = store.poller(job_id)
        is_ours = found is not None and found.value.repo == str(self._query.repo)
        return _Poller(job.value, found.value if found and is_ours else None)

    def _has_seen(self, poller: _Poller, ref: str) -> bool | None:
        """Whether a poll has taken the ref up to the commit or further; None if that is unknown."""
        known = poller.record.known.get(ref) if poller.record else None
        return False if known is None else self._host.leads(known)

    def _unseen(self, job: Job, ref: str, poller: _Poller) -> Explanation | None:
        if self._has_seen(poller, ref) is None:
            return None
        now, due, name = self._context.runtime.clock.now(), poller.next_poll, poller.job.id
        base: Mapping[str, object] = {"ref": ref, "poll_job": name, "next_poll": due}
        if poller.job.active_invocations:
            running = poller.job.active_invocations[0]
            text = f"A poll of {name} is running: invocation {running}. It finds the commit, unless it began too early."
            return Explanation(job.id, Reason.NOT_POLLED, text, **base, poll_invocation=running)  # type: ignore[arg-type]
        if due is None:
            days = self._context.runtime.limits.retention // DAY
            text = (
                f"The commit was not announced or landed more than {days} days ago, "
                f"and {name} polls only when it is triggered."
            )
            return Explanation(job.id, Reason.NEVER_ARRIVED, text, ref=ref, poll_job=name)
        later = f"The next poll is due at {_shown(due)}{_in(due, now)}."
        if last := poller.failed:
            why = f": {last.summary}" if last.summary else ""
            earlier = poller.job.failed_polls - 1
            count = f", as did the {earlier} polls before it" if earlier > 1 else ""
            text = f"The last poll of {name} failed at {_shown(last.finished)}{count}{why.rstrip('.')}. {later}"
            return Explanation(job.id, Reason.POLL_FAILED, text, **base, poll_invocation=last.invocation_id)  # type: ignore[arg-type]
        text = f"{name} has not polled since the commit landed on {ref}. {later}"
        return Explanation(job.id, Reason.NOT_POLLED, text, **base)  # type: ignore[arg-type]

    def _seen(self, job: Job, ref: str, poller: _Poller) -> Explanation:
        name = poller.job.id
        if ref.startswith(TAGS) and self._context.runtime.era_of(poller.job.definition.task) is Era.V2:
            text = (
                f"{name} knows {ref}. A tag that exists when a poll first matches it gets no trigger: "
                "backfill the commit to run it."
            )
            return Explanation(job.id, Reason.TAG_EXISTED, text, ref=ref, poll_job=name)
        days = self._context.runtime.limits.retention // DAY
        text = (
            f"{name} knows {ref} beyond this commit, and no trigger for it is stored. The commit landed before the job "
            f"watched the ref, or more than {days} days ago, or a poll left it out because too many commits landed at "
            "once."
        )
        return Explanation(job.id, Reason.NEVER_ARRIVED, text, ref=ref, poll_job=name)


def _shown(instant: Instant) -> str:
    return format_rfc3339(Instant(instant // SECOND * SECOND))


def _in(due: Instant, now: Instant) -> str:
    left = (due - now) // SECOND * SECOND
    return f" (in {format_duration(left)})" if left > 0 else " (now)"
