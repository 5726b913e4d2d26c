"""The grid of a project: its latest commits of a ref, by the jobs that watch the ref."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field

from luci_scheduler.api.access import Permission
from luci_scheduler.api.commit_titles import remember_titles
from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, invalid
from luci_scheduler.budget import limited, time_left
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.commit_filters import CommitFilters
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId, project_of
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.ref_validation import named_ref
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import GitCommit, GitilesError, LogPage

__all__ = ["MAX_READS", "Cell", "Choice", "Grid", "GridQuery", "grid_choices", "grid_of"]

_JOBS = 20  # columns of a page
_LOOKED_AT = 500  # jobs that are read for the columns of a caller who sees only some realms of a project
_COMMITS = 20  # rows of a page
_MARKERS = _JOBS * _COMMITS  # triggers that a page reads for cells without a known result: one for each cell
_INVOCATIONS = 100  # invocations that a page reads
_REPOS = 8  # repositories whose refs are offered
_SECONDS = 5.0  # for the log with the changed files

MAX_READS = _JOBS + _MARKERS + _INVOCATIONS
"""Reads of a grid, at most, and one more for each project that watches the repository.

For a caller who sees only some realms of the project, the columns cost up to 500 reads instead of 40.
"""


@frozen
class GridQuery:
    """The part of a project's grid to return."""

    project: str
    repo: str
    """The repository, in any spelling."""
    ref: str
    """Full name of a ref that jobs of the project watch."""
    jobs_from: str = ""
    """`Grid.next_jobs` of the previous columns; empty for the first ones."""
    commits_from: str = ""
    """`Grid.next_commits` of the newer rows; empty for the latest ones."""


@frozen
class Cell:
    """The outcome of a commit in a job."""

    state: str
    """The status of an invocation; or ``PENDING``, ``FILTERED`` (by path), ``DISCARDED``, ``TAKEN`` (in an invocation
    whose status was not read), ``NONE`` (no trigger is stored), ``UNREAD``."""
    invocation_id: InvocationId = NO_INVOCATION


@frozen
class Grid:
    """A part of a project's grid."""

    jobs: tuple[Job, ...] = ()
    """The columns, sorted by ID."""
    commits: tuple[GitCommit, ...] = ()
    """The rows, newest first."""
    cells: Mapping[tuple[str, JobId], Cell] = field(default_factory=dict)
    """Revision and job → the outcome; every cell of the part."""
    next_jobs: str = ""
    next_commits: str = ""
    problem: str = ""
    """Why the repository's host did not return the commits; empty if it did."""


@frozen
class Choice:
    """A repository and a ref that jobs of a project watch."""

    repo: str
    ref: str
    watchers: int


def grid_choices(context: Context, project: str) -> list[Choice]:
    """Return the refs of the project's repositories that configs name, the most watched first, in a config's spelling.

    A caller who does not see the whole project gets none, because refs may be those of hidden jobs. Costs one read for
    the project, and one for each project that watches one of its first eight repositories.

    Raises:
        ApiError: NOT_FOUND: the caller sees nothing in such a project.
    """
    store = context.runtime.store
    found = store.project(project) if context.sees_some(project) else None
    if found is None:
        raise ApiError(Code.NOT_FOUND, "No such project or no permission to view it.")
    if not context.sees_all(project):
        return []
    counts: Counter[tuple[str, str]] = Counter()
    for repo in found.value.repos[:_REPOS]:
        watchers = [one for one in store.watchers(repo) if project_of(one.job_id) == project]
        spelled = watchers[0].repo if watchers else repo
        counts.update((spelled, ref) for one in watchers for ref in filter(None, map(named_ref, one.refs)))
    return [Choice(*pair, number) for pair, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def grid_of(context: Context, query: GridQuery) -> Grid:
    """Return a part of the grid: up to 20 commits by up to 20 jobs.

    Results come from the documents of the jobs, which keep the last ten. Other cells are looked up by the IDs of the
    commits' triggers, the newest commits first, until `MAX_READS`; the remaining ones are ``UNREAD``. The number of
    reads depends neither on the number of jobs nor on the length of the history. The host is called once.

    Raises:
        ApiError: INVALID_ARGUMENT; NOT_FOUND: no visible job of the project watches the ref.
    """
    repo = _repo(query, context.runtime.hosts)
    watching = _watching(context, query, repo)
    jobs, following = _columns(context, query, watching)
    if not jobs and not following:
        raise ApiError(Code.NOT_FOUND, f"No job of this project that you can see watches {query.ref} of {repo}.")
    try:
        page = _log(context, query, repo)
    except GitilesError as error:
        return Grid(jobs, problem=str(error), next_jobs=following)
    remember_titles(context, repo, page.commits)
    cells = _Cells(context, query.ref, watching, jobs, page.commits).all()
    return Grid(jobs, page.commits, cells, following, page.next)


def _repo(query: GridQuery, hosts: CommitHosts) -> RepoUrl:
    if not query.ref.startswith("refs/"):
        raise invalid("ref must be a full ref name (refs/...)")
    try:
        return hosts.parse(query.repo)
    except BadRepoUrlError as error:
        raise invalid(f"repo: {error}") from error


def _watching(context: Context, query: GridQuery, repo: RepoUrl) -> Mapping[JobId, list[Watcher]]:
    """Return how each job of the project watches the ref."""
    if not context.sees_some(query.project):
        return {}
    own = [one for one in context.runtime.store.watchers(str(repo)) if project_of(one.job_id) == query.project]
    by_job: dict[JobId, list[Watcher]] = {}
    for watcher in CommitFilters().by_ref(own, query.ref):
        by_job.setdefault(watcher.job_id, []).append(watcher)
    return by_job


def _columns(context: Context, query: GridQuery, watching: Collection[JobId]) -> tuple[tuple[Job, ...], str]:
    """Return the jobs of the columns, and the first job after them, which the caller sees as well; empty for none."""
    ids = sorted(job_id for job_id in watching if job_id >= query.jobs_from)
    sees_all = context.sees_all(query.project)
    read = ids[: _JOBS if sees_all else _LOOKED_AT]
    found = context.runtime.store.jobs(read) if read else []
    visible = sorted((job for job in found if job.enabled and context.may(Permission.GET, job)), key=lambda job: job.id)
    following = ids[_JOBS:] if sees_all else [job.id for job in visible[_JOBS:]]
    return tuple(visible[:_JOBS]), following[0] if following else ""


def _log(context: Context, query: GridQuery, repo: RepoUrl) -> LogPage:
    try:
        with limited(time_left(_SECONDS)):
            return context.runtime.gitiles.log(repo, query.ref, limit=_COMMITS, start=query.commits_from, diffs=True)
    except TransientError as error:
        raise GitilesError("DEADLINE_EXCEEDED", str(error), transient=True) from error


class _Cells:
    """Finds the cells of one part of a grid."""

    def __init__(
        self,
        context: Context,
        ref: str,
        watching: Mapping[JobId, Sequence[Watcher]],
        jobs: Sequence[Job],
        commits: Sequence[GitCommit],
    ) -> None:
        self._store = context.runtime.store
        self._ref = ref
        self._watching = watching
        self._jobs = jobs
        self._commits = commits
        self._cells: dict[tuple[str, JobId], Cell] = {}
        self._status: dict[tuple[JobId, InvocationId], str] = {}
        """The status of each known invocation."""
        self._left = _INVOCATIONS

    def all(self) -> Mapping[tuple[str, JobId], Cell]:
        """Return every cell."""
        self._take_results()
        self._take_active()
        self._take_filtered()
        self._take_markers()
        return {
            (commit.id, job.id): self._cells.get((commit.id, job.id), Cell("UNREAD"))
            for commit in self._commits
            for job in self._jobs
        }

    def _take_results(self) -> None:
        for job in self._jobs:
            for result in job.recent:  # newest first: a rerun hides the result before it
                self._status[(job.id, result.invocation_id)] = str(result.status)
                for revision in result.revisions:
                    self._cells.setdefault((revision, job.id), Cell(str(result.status), result.invocation_id))

    def _take_active(self) -> None:
        active = [(job.id, one) for job in self._jobs for one in job.active_invocations]
        for invocation in self._read(active):
            cell = Cell(str(invocation.status), invocation.id)
            for trigger in invocation.incoming_triggers:
                self._cells[(str(trigger.payload.get("revision")), invocation.job_id)] = cell

    def _take_filtered(self) -> None:
        for commit in self._commits:
            missing = [job.id for job in self._jobs if (commit.id, job.id) not in self._cells]
            watchers = [one for job_id in missing for one in self._watching[job_id]]
            excluded = CommitFilters().excluded_by_paths(watchers, commit.known_diff)
            self._cells |= {(commit.id, job_id): Cell("FILTERED") for job_id in excluded}

    def _take_markers(self) -> None:
        """Look up the triggers of the other cells, the newest commits first."""
        missing = [
            (commit.id, job.id)
            for commit in self._commits
            for job in self._jobs
            if (commit.id, job.id) not in self._cells
        ]
        asked: dict[tuple[JobId, str], tuple[str, JobId]] = {}
        for revision, job_id in missing:
            keys = dict.fromkeys(
                (job_id, gitiles_trigger(one.repo, self._ref, revision, Instant(0)).id)
                for one in self._watching[job_id]
            )
            if len(asked) + len(keys) > _MARKERS:
                break
            asked |= dict.fromkeys(keys, (revision, job_id))
        records = self._store.triggers(list(asked)) if asked else []
        self._cells |= {place: Cell("NONE") for place in asked.values()}
        self._take_records(records)

    def _take_records(self, records: Collection[TriggerRecord]) -> None:
        taken = [(one.job_id, one.invocation_id) for one in records if one.invocation_id]
        self._read([key for key in dict.fromkeys(taken) if key not in self._status])
        for record in records:
            place = (str(record.trigger.payload.get("revision")), record.job_id)
            self._cells[place] = self._of_record(record)

    def _of_record(self, record: TriggerRecord) -> Cell:
        if record.invocation_id:
            status = self._status.get((record.job_id, record.invocation_id), "TAKEN")
            return Cell(status, record.invocation_id)
        return Cell("PENDING" if record.is_pending else "DISCARDED")

    def _read(self, keys: Iterable[tuple[JobId, InvocationId]]) -> Sequence[Invocation]:
        """Read invocations, as far as the limit allows."""
        wanted = list(keys)[: self._left]
        self._left -= len(wanted)
        found = self._store.invocations_by_id(wanted) if wanted else []
        self._status |= {(one.job_id, one.id): str(one.status) for one in found}
        return found
