"""Explanations of why a commit has no trigger in a job."""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.api.access import Permission
from luci_scheduler.api.context import Context
from luci_scheduler.api.explanation import CommitQuery, Explanation, Reason, WatchingJob, paused_by
from luci_scheduler.api.waiting import WaitingCommits, waiting_sentence
from luci_scheduler.core.commit_filters import CommitFilters, has_path_filter
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import DAY
from luci_scheduler.core.job import Job
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import GitCommit, GitilesError

__all__ = ["AbsenceExplainer"]


class AbsenceExplainer:
    """Explains for each job why it has no trigger for one commit; calls Gitiles at most once."""

    def __init__(self, context: Context, query: CommitQuery) -> None:
        """Make an explainer of one commit.

        Args:
            context: the caller's context.
            query: the commit.
        """
        self._context = context
        self._query = query
        self._waiting = WaitingCommits(context.runtime.store, str(query.repo), query.revision)
        self._fetched: GitCommit | GitilesError | None = None
        self._filters = CommitFilters()

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
        return self._deferred(job, active) or self._filtered(job, active) or self._never_arrived(job)

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

    def _filtered(self, job: Job, watching: Sequence[Watcher]) -> Explanation | None:
        """Return an explanation if the job's path filters, or the repository's host, kept the commit away."""
        if not all(has_path_filter(watcher) for watcher in watching):
            return None
        commit = self._commit()
        if isinstance(commit, GitilesError):
            return _not_fetched(job, commit)
        passed, undecided = self._filters.quick_by_paths(watching, commit.diff)
        if undecided:
            return _too_costly(job)
        if passed:
            return None
        return Explanation(job.id, Reason.PATH_FILTERED, "No file that it changed passes the job's path filter.")

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

    def _commit(self) -> GitCommit | GitilesError:
        if self._fetched is None:
            self._fetched = self._fetch_commit()
        return self._fetched

    def _fetch_commit(self) -> GitCommit | GitilesError:
        query = self._query
        try:
            page = self._context.runtime.gitiles.log(query.repo, query.revision, limit=1, diffs=True)
        except GitilesError as error:
            return error
        return page.commits[0] if page.commits else GitilesError("NOT_FOUND", "", transient=False)


def _not_fetched(job: Job, error: GitilesError) -> Explanation:
    if error.transient:
        sentence = f"No trigger for it has reached the job, and the repository's host could not be queried: {error}."
        return Explanation(job.id, Reason.NEVER_ARRIVED, sentence)
    return Explanation(job.id, Reason.NOT_SERVED, f"The repository's host does not serve the commit: {error}.")


def _too_costly(job: Job) -> Explanation:
    sentence = (
        "No trigger for it has reached the job. The project's ref and path patterns cost too much to check here "
        "whether the commit matches them: simplify them in luci-scheduler.cfg."
    )
    return Explanation(job.id, Reason.PATTERNS_TOO_COSTLY, sentence)
