"""Explanations of why a commit has no trigger in a job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

from luci_scheduler.api.access import Permission
from luci_scheduler.api.commit_host import CommitHost
from luci_scheduler.api.context import Context
from luci_scheduler.api.explain_paths import filter_sentence
from luci_scheduler.api.explain_polls import Polls
from luci_scheduler.api.explanation import CommitQuery, Explanation, Reason, WatchingJob, paused_by
from luci_scheduler.api.waiting import WaitingCommits, waiting_sentence
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.commit_hosts import HostKind
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import DAY
from luci_scheduler.core.job import Job
from luci_scheduler.core.ref_validation import named_ref
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import GitCommit, GitilesError

__all__ = ["AbsenceExplainer"]

_MAX_TRIED = 4
"""Refs on which the host is asked for the commit."""

_NAMED = 3  # refs in a sentence
_NO_ACCESS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
"""Codes of a host that says nothing about the commit, because it refuses our account."""


class AbsenceExplainer:
    """Explains for each job why it has no trigger for one commit. The host is asked a bounded number of questions."""

    def __init__(
        self,
        context: Context,
        query: CommitQuery,
        host: CommitHost,
        watching: Sequence[WatchingJob],
        refs: Sequence[str],
    ) -> None:
        """Make an explainer of one commit.

        Args:
            context: the caller's context.
            query: the commit.
            host: the repository's host.
            watching: all jobs that watch the repository.
            refs: the refs on which triggers of visible jobs say that the commit landed.
        """
        self._context = context
        self._query = query
        self._host = host
        self._watching = watching
        self._refs = refs
        self._waiting = WaitingCommits(context.runtime.store, context.runtime.hosts, str(query.repo), query.revision)
        self._filters = CommitFilters()
        self._polls = Polls(context, query, host)

    @property
    def is_known(self) -> bool:
        """Whether the commit has reached a visible job, or is on a ref that such a job watches."""
        return bool(self._refs or self.landed)

    @cached_property
    def landed(self) -> Collection[str]:
        """The refs that are known to lead to the commit: of triggers, or of the host for the first watched refs."""
        tried = [self._query.ref] if self._query.ref else self._literal_refs()
        asked = [ref for ref in tried if ref not in self._refs][:_MAX_TRIED]
        return dict.fromkeys([*self._refs, *(ref for ref in asked if self._host.leads(ref))])

    def explain(self, item: WatchingJob) -> Explanation:
        """Return why the job has no trigger for the commit."""
        job, ref = item.job, self._query.ref
        if not job.enabled:
            return Explanation(job.id, Reason.JOB_DISABLED, "The config has removed or disabled the job.")
        watching = self._filters.by_ref(item.watchers, ref) if ref else list(item.watchers)
        if project_of(job.id) in self._filters.too_costly:
            return _too_costly(job)
        if not watching:
            return Explanation(job.id, Reason.REF_NOT_WATCHED, f"The job does not watch {ref} of the repository.")
        active = [watcher for watcher in watching if not watcher.paused]
        if not active:
            return Explanation(job.id, Reason.TRIGGER_PAUSED, self._paused_sentence(watching))
        return self._deferred(job, active) or self._by_host(job, active)

    def _deferred(self, job: Job, watching: Sequence[Watcher]) -> Explanation | None:
        """Return an explanation if a deferred task waits for the commit on behalf of the job."""
        found = self._waiting.of_job(job.id, self._query.ref)
        if not found:
            return None
        work, event = found
        if not self._filters.by_ref(watching, event.ref):
            return None
        sentence = waiting_sentence(work)
        return Explanation(job.id, Reason.WAITING_FOR_COMMIT, sentence, ref=event.ref, since=work.created)

    def _by_host(self, job: Job, watching: Sequence[Watcher]) -> Explanation:
        commit = self._host.commit
        if isinstance(commit, GitilesError):
            return self._not_fetched(job, commit)
        refs = {ref: found for ref in self.landed if (found := self._filters.by_ref(watching, ref))}
        if project_of(job.id) in self._filters.too_costly:
            return _too_costly(job)
        if not refs and (elsewhere := self._not_on_its_refs(job, watching)):
            return elsewhere
        if filtered := self._filtered(job, watching, commit, is_landed=bool(refs)):
            return filtered
        for ref, found in refs.items():
            if polled := self._polls.explain(job, ref, [watcher.trigger_job_id for watcher in found]):
                return polled
        return self._never_arrived(job)

    def _not_fetched(self, job: Job, error: GitilesError) -> Explanation:
        if error.transient or error.code in _NO_ACCESS:
            fault = "refuses the scheduler's account" if error.code in _NO_ACCESS else "could not be queried"
            sentence = f"No trigger for it has reached the job, and the repository's host {fault}: {error}."
            return Explanation(job.id, Reason.NEVER_ARRIVED, sentence)
        is_on_github = self._context.runtime.hosts.kind(self._query.repo) is HostKind.GITHUB
        hidden = " GitHub also answers so if the credentials may not read the repository." if is_on_github else ""
        sentence = f"The repository's host does not serve the commit: {error}.{hidden}"
        return Explanation(job.id, Reason.NOT_SERVED, sentence)

    def _not_on_its_refs(self, job: Job, watching: Sequence[Watcher]) -> Explanation | None:
        """Return an explanation if the commit is known to be elsewhere than on the job's refs."""
        named = self._query.ref
        entries = [ref for watcher in watching for ref in watcher.refs]
        refs = [named] if named else list(dict.fromkeys(named_ref(ref) or ref for ref in entries))
        watched = _named(refs)
        if self.landed and not named:
            text = f"The commit is on {_named(list(self.landed))}. The job watches only {watched}."
            return Explanation(job.id, Reason.REF_NOT_WATCHED, text)
        if not all(map(self._does_not_lead, refs)):
            return None
        return Explanation(job.id, Reason.NOT_ON_REF, f"The commit is not on {watched}, which the job watches.")

    def _does_not_lead(self, ref: str) -> bool:
        """Whether the host said that a ref does not lead to the commit; patterns and many refs are not asked."""
        return ref in self._asked and self._host.leads(ref) is False

    @cached_property
    def _asked(self) -> Collection[str]:
        return [self._query.ref] if self._query.ref else self._literal_refs()[:_MAX_TRIED]

    def _literal_refs(self) -> list[str]:
        """Return the refs that the configs of the jobs name, the most watched first."""
        entries = [ref for item in self._watching for one in item.watchers for ref in one.refs]
        refs = [ref for ref in map(named_ref, entries) if ref]
        return sorted(dict.fromkeys(refs), key=lambda ref: (-refs.count(ref), ref))

    def _filtered(
        self, job: Job, watching: Sequence[Watcher], commit: GitCommit, *, is_landed: bool
    ) -> Explanation | None:
        """Return an explanation if the job's path filters kept the commit away."""
        if not all(has_path_filter(watcher) for watcher in watching):
            return None
        passed, undecided = self._filters.quick_by_paths(watching, commit.known_diff)
        if undecided:
            return _too_costly(job)
        if passed:
            return None
        # The patterns belong to the gitiles job, and the files to a commit that the caller may be unable to read.
        visible = {found.id for found in self._polls.visible(watcher.trigger_job_id for watcher in watching)}
        readable = next((watcher for watcher in watching if watcher.trigger_job_id in visible), None)
        if not readable or not is_landed:
            return Explanation(job.id, Reason.PATH_FILTERED, "No file that it changed passes the job's path filter.")
        text = filter_sentence(readable, commit.diff, self._context.runtime.hosts.kind(self._query.repo))
        return Explanation(job.id, Reason.PATH_FILTERED, text)

    def _never_arrived(self, job: Job) -> Explanation:
        days = self._context.runtime.limits.retention // DAY
        sentence = (
            "No trigger for it has reached the job. Either the commit was not announced and no poll found it, "
            f"or it landed before the job watched the ref, or it landed more than {days} days ago."
        )
        return Explanation(job.id, Reason.NEVER_ARRIVED, sentence)

    def _paused_sentence(self, watching: Sequence[Watcher]) -> str:
        """Return the sentence about paused gitiles jobs; it names only the visible jobs."""
        ids = sorted({watcher.trigger_job_id for watcher in watching})
        jobs = sorted(self._context.runtime.store.jobs(ids), key=lambda job: job.id)
        visible = [job for job in jobs if self._context.may(Permission.GET, job)]
        named = "; ".join(f"{job.id} was paused{paused_by(job)}" for job in visible)
        about = f": {named}" if named else ""
        until = "commits reach the job only after it is resumed and polls again"
        return f"The job's gitiles trigger is paused, so {until}{about}."


def _named(refs: Sequence[str]) -> str:
    more = len(refs) - _NAMED
    shown = ", ".join(refs[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _too_costly(job: Job) -> Explanation:
    sentence = (
        "No trigger for it has reached the job. The project's ref and path patterns cost too much to check here "
        "whether the commit matches them: simplify them in luci-scheduler.cfg."
    )
    return Explanation(job.id, Reason.PATTERNS_TOO_COSTLY, sentence)
