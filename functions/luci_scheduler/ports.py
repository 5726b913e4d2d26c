"""Ports: protocols for everything outside the process, with the records that they exchange.

The package ``adapters`` implements them for the cloud, ``emulator.memory`` in memory. Every method may raise
``TransientError``, which means that a repetition may succeed. Times are instants, durations are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import FAILING_PLACES, Job, JobState
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.probe import Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.queue_tasks import Task
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher

if TYPE_CHECKING:
    from luci_scheduler.core.commit_status import CommitStatus

__all__ = [
    "Buildbucket",
    "BuildbucketError",
    "CheckedWrite",
    "Clock",
    "CloudBuild",
    "CloudBuildError",
    "CommitStatuses",
    "ConfigFile",
    "ConfigSource",
    "CreateInvocation",
    "CreateTrigger",
    "DeleteDeferred",
    "Entropy",
    "Fetch",
    "FetchError",
    "Fetched",
    "GitCommit",
    "Gitiles",
    "GitilesError",
    "Headers",
    "HostQuota",
    "HostQuotas",
    "JobList",
    "LogPage",
    "Pollers",
    "PutDeferred",
    "PutJob",
    "PutPaused",
    "PutPoller",
    "PutProbe",
    "PutProject",
    "PutWatchers",
    "Queue",
    "QueueTask",
    "ServiceError",
    "Store",
    "Topic",
    "Turns",
    "UpdateInvocation",
    "UpdateTrigger",
    "Version",
    "Versioned",
    "Write",
    "WriteWhole",
]

T = TypeVar("T")

Version = Any
"""Identifies one state of a document. It is opaque: a caller passes it back and compares it for equality, and does
nothing else with it."""


@frozen
class Versioned(Generic[T]):
    """A document as read, with its version, which is the precondition of a later write."""

    value: T
    version: Version


@frozen
class CreateInvocation:
    """Create an invocation with its first log lines; refused if the ID is taken."""

    invocation: Invocation
    log: str = ""


@frozen
class UpdateInvocation:
    """Replace an invocation's record and append ``log`` to its log; refused if the version changed."""

    invocation: Invocation
    version: Version
    log: str = ""
    replaces_log: bool = False
    """Whether ``log`` replaces the stored log instead of extending it."""


@frozen
class PutJob:
    """Write a job; refused if the version changed. Version None: the job must not exist yet."""

    job: Job
    version: Version | None
    triage_log: str | None = None
    """The log of the triage that ends with this write; None keeps the log of the last triage."""


@frozen
class CreateTrigger:
    """Create a trigger; refused if the job has a trigger or marker with this ID."""

    record: TriggerRecord


@frozen
class UpdateTrigger:
    """Replace a trigger; refused if the version changed."""

    record: TriggerRecord
    version: Version


@frozen
class PutProject:
    """Write a project's record; refused if the version changed. Version None: it must not exist yet."""

    record: ProjectRecord
    version: Version | None


@frozen
class PutWatchers:
    """Replace one project's watchers of a repository (normalized URL); other projects have documents for theirs."""

    repo: str
    project: str
    watchers: tuple[Watcher, ...]


@frozen
class PutPaused:
    """Set or clear a gitiles trigger's paused mark on a repository (normalized URL)."""

    repo: str
    trigger_job_id: JobId
    paused: bool


@frozen
class PutPoller:
    """Write a gitiles job's record; refused if the version changed. Version None: the record must not exist yet."""

    record: PollerRecord
    version: Version | None


@frozen
class PutProbe:
    """Write a probe; refused if the version changed. Version None: it must not exist yet."""

    record: Probe
    version: Version | None


@frozen
class PutDeferred:
    """Write a deferred task; refused if the version changed. Version None: it must not exist yet."""

    record: Deferred
    version: Version | None


@frozen
class DeleteDeferred:
    """Delete a finished deferred task; refused if the version changed or the document is gone."""

    id: str
    version: Version


WriteWhole = PutJob | CreateTrigger | UpdateTrigger | PutProject | PutPoller | PutProbe | PutDeferred
"""Writes of a whole document; `adapters.documents.encode_write` encodes them."""

CheckedWrite = WriteWhole | CreateInvocation | UpdateInvocation | DeleteDeferred
"""Writes with a precondition on the stored document."""

Write = CheckedWrite | PutWatchers | PutPaused
"""All writes. Watchers and paused marks have no precondition: each write replaces only its own part of the document."""


@frozen
class JobList:
    """The jobs of a list: the enabled jobs of a project that meet every condition."""

    project: str
    realms: tuple[str, ...] | None = None
    """Only jobs in these realms; None: in any realm. Above 30 realms a list costs one more query for each 30."""
    state: JobState | None = None
    """Only jobs in this state; None: in any state."""
    failing: bool = False
    """Only failing jobs."""

    def places(self, after: str = "") -> tuple[str, str]:
        """Return the places between which the jobs after a place are; both are exclusive, and no end is empty."""
        first, end = FAILING_PLACES if self.failing else ("", "")
        return max(first, after), end


class Pollers(Protocol):
    """The part of the store that gitiles jobs read directly; they write through their controller."""

    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Read a gitiles job's record of its repository: one read."""


class Store(Pollers, Protocol):
    """Documents with optimistic concurrency.

    Every method but `commit` costs one read per document, and at least one. Lists of jobs, invocations, triggers or
    projects skip and log the documents that cannot be decoded.
    """

    def watchers(self, repo: str) -> Sequence[Watcher]:
        """Return the jobs that watch a repository (normalized URL), sorted by project.

        A job whose trigger is paused is marked as paused.

        Costs one read for each project that watches the repository or once did, at least one. A project whose watchers
        cannot be decoded is skipped and logged.
        """

    def project(self, project: str) -> Versioned[ProjectRecord] | None:
        """Read the record of a project's config."""

    def job(self, job_id: JobId) -> Versioned[Job] | None:
        """Read a job."""

    def projects(self) -> Sequence[ProjectRecord]:
        """Return the records of all projects, sorted by project."""

    def jobs(self, job_ids: Sequence[JobId]) -> Sequence[Job]:
        """Read many jobs in one call, in no order; missing jobs are left out."""

    def found_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Versioned[Job]]:
        """Read many jobs in one call, in no order, each with its version; missing jobs are left out.

        Raises:
            ValueError: a document cannot be decoded, as `job` does. The caller, who changes jobs, must not treat it as
                missing.
        """

    def triage_log(self, job_id: JobId) -> str:
        """Read the log of a job's last triage, for people; empty if there is none. `job` does not read it."""

    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Versioned[Invocation] | None:
        """Read an invocation without its debug log, so that the cost does not grow with the log."""

    def invocation_with_log(
        self, job_id: JobId, invocation_id: InvocationId
    ) -> tuple[Versioned[Invocation], str] | None:
        """Read an invocation with its debug log, for people; the log is trimmed as LUCI trims it."""

    def invocations(
        self, job_id: JobId, limit: int, after: InvocationId | None = None, status: Status | None = None
    ) -> Sequence[Invocation]:
        """List a job's invocations without their logs, newest first, starting after ``after``.

        ``status`` selects invocations with this status. It misses invocations that ended under older functions,
        which did not store the status for queries.
        Skipped documents do not count: a result of fewer than ``limit`` invocations is the end of the list.
        """

    def count_invocations(self, job_id: JobId, status: Status, limit: int) -> int:
        """Return how many of a job's invocations have a status, as `invocations` finds them; at most ``limit``.

        Costs one read for each 1,000 counted invocations, and at least one.
        """

    def invocations_by_id(self, keys: Sequence[tuple[JobId, InvocationId]]) -> Sequence[Invocation]:
        """Read many invocations in one call, in no order, without their logs; missing ones are left out."""

    def trigger(self, job_id: JobId, trigger_id: str) -> Versioned[TriggerRecord] | None:
        """Read a trigger or its marker."""

    def triggers(self, keys: Sequence[tuple[JobId, str]]) -> Sequence[TriggerRecord]:
        """Read many triggers or markers by job and trigger ID, in one call, in no order; missing ones are left out."""

    def triggers_of_revision(self, revision: str, limit: int) -> Sequence[TriggerRecord]:
        """Return the triggers and markers of all jobs for the commit with this hash, in no order."""

    def pending_triggers(self, job_id: JobId, limit: int) -> Sequence[Versioned[TriggerRecord]]:
        """Return a job's pending triggers, the oldest first by (created, order in batch, ID)."""

    def due_invocations(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Invocation]:
        """Return the invocations of all jobs that are due at ``before``, earliest first, starting after ``after``."""

    def due_jobs(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Job]:
        """Return the jobs that are due at ``before``, the earliest first, starting after ``after``."""

    def listed_jobs(self, wanted: JobList, limit: int, after: str = "") -> Sequence[Job]:
        """Return the jobs of a list by their `Job.place`, starting after the place ``after``.

        Skipped documents do not count: a result of fewer than ``limit`` jobs is the end of the list.
        """

    def count_jobs(self, wanted: JobList, limit: int) -> int:
        """Return the number of jobs of a list, or ``limit`` if there are more.

        Costs one read for each 1,000 counted jobs, and at least one.
        """

    def count_job_commits(self, wanted: JobList, after: str = "", last: str = "") -> int:
        """Return the sum of `Job.commits` over the jobs of a list from the place after ``after`` to ``last``.

        An empty ``last`` is the end of the list. Each change of one of these jobs raises the sum. Costs one read for
        each 1,000 jobs, and at least one.
        """

    def jobs_that_trigger(self, job_id: JobId, limit: int) -> Sequence[Job]:
        """Return the jobs that trigger a job, sorted by ID, at most ``limit``. Some may be disabled."""

    def deferred(self, deferred_id: str) -> Versioned[Deferred] | None:
        """Read a deferred task."""

    def probe(self, probe_id: str) -> Versioned[Probe] | None:
        """Read a probe."""

    def due_deferred(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Deferred]:
        """Return the deferred tasks that are due at ``before``, the earliest first, starting after ``after``."""

    def deferred_of_revision(self, revision: str, limit: int) -> Sequence[Deferred]:
        """Return the deferred tasks that wait for the commit with this hash, in no order."""

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Apply all writes or none, and return the new version of each document, in the order of ``writes``.

        Raises:
            StoreConflictError: a precondition did not hold, and nothing was written. It is also raised if an earlier
                attempt of the same commit landed but its answer was lost: the caller reads again and recognizes its
                commit by ``last_event``.
            PermanentError: a document would exceed the store's size limit; nothing was written or sent.
        """


@frozen
class QueueTask:
    """A delayed call of the function ``on_task``."""

    kind: str
    """The last part of the called path; selects the handler."""
    payload: Mapping[str, Any]
    """The body, as JSON."""
    eta: Instant
    """The earliest time of the call."""
    name: str = ""
    """Deduplicates tasks: the queue silently drops a second task with this name, even after the first one has run.
    Empty: none."""

    @classmethod
    def of(cls, task: Task, eta: Instant, name: str = "") -> Self:
        """Return the call that delivers ``task`` at ``eta``."""
        return cls(task.kind, task.payload(), eta, name=name)


class Queue(Protocol):
    """The task queue: at least once, in no order, perhaps late, perhaps a little early."""

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue; on return it is durable, or a task with its name was there before.

        Raises:
            TransientError: the task may not be on the queue.
        """


class Topic(Protocol):
    """The Pub/Sub topic that announces invocations: at least once, in no order."""

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Publish a message; on return it is stored.

        Raises:
            TransientError: the message may not be stored.
            PermanentError: the message itself is refused.
        """


class CommitStatuses(Protocol):
    """The marks beside commits on their hosts, which show how invocations fare."""

    def report(self, status: CommitStatus, page: str) -> None:
        """Show a status with a link to ``page``, instead of an earlier status with its context.

        Raises:
            GitilesError: the host does not take it. If the error is not transient, it never will.
            TransientError: the delivery has no time left.
        """


class Turns(Protocol):
    """Lets deliveries in one process change a document one after the other.

    Turns only spare lost races. The preconditions of the store alone keep a commit from overwriting another one.
    """

    def of(self, subject: str) -> AbstractContextManager[None]:
        """Hold the turn of a subject inside ``with``, or go on without it after a bounded wait.

        Raises:
            TransientError: the delivery has no time left.
        """


class Clock(Protocol):
    """The only source of time, and the only way to wait."""

    def now(self) -> Instant:
        """Return the current instant."""

    def sleep(self, nanoseconds: int) -> None:
        """Block for that long; return at once if it is not positive."""


class Entropy(Protocol):
    """The only source of randomness."""

    def invocation_suffix(self) -> int:
        """Draw the 16 random bits of an invocation's ID; a process does not repeat them within a millisecond."""

    def nonce(self) -> int:
        """Draw a positive number of 63 bits, to identify a cron tick or a commit, or to spread a pause."""

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw whole seconds, uniformly from [low, high)."""


class ServiceError(Exception):
    """A call to a service failed; the base class of each service's error.

    The text quotes the service, on one line and without secrets (see `core.foreign_text.sanitized`). ``throttled`` and
    ``retry_after`` mean the same as in `core.errors.TransientError`.
    """

    def __init__(
        self, code: str, message: str, *, transient: bool, throttled: bool = False, retry_after: int = 0
    ) -> None:
        super().__init__(sanitized(f"{code}: {message}" if message else code))
        self.code = code
        self.transient = transient
        self.throttled = throttled
        self.retry_after = retry_after


class BuildbucketError(ServiceError):
    """A call to Buildbucket failed; ``code`` is a gRPC code's name in v2 (``NOT_FOUND``), an HTTP status in v1."""


class Buildbucket(Protocol):
    """The transport to Buildbucket servers. Requests and answers are JSON values; the task manager interprets them.

    A call ends at its deadline, or at ``until`` if that is sooner, and nothing is sent after that. A missing answer and
    an HTTP or gRPC error raise ``BuildbucketError``.
    """

    def v1(
        self,
        server: str,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call ``/_ah/api/buildbucket/v1/`` + ``path``; the API reports its own errors as ``{"error": ...}``."""

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Call a method of ``buildbucket.v2.Builds``."""


class CloudBuildError(ServiceError):
    """A call to Cloud Build failed; ``code`` is a gRPC code's name (``NOT_FOUND``).

    ``reason`` is the service's own word for the cause, such as ``SERVICE_DISABLED``; mostly empty.
    """

    def __init__(self, code: str, message: str, *, reason: str = "", **named: Any) -> None:
        super().__init__(code, message, **named)
        self.reason = reason


class CloudBuild(Protocol):
    """The transport to the Cloud Build API. Requests and answers are JSON values; the task manager interprets them."""

    def call(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        seconds: float,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call a method of the API in one attempt.

        Args:
            http_method: ``GET`` or ``POST``.
            path: the path below the host; it begins with ``/v1/``, and its parts are safe in a URL.
            body: the message to send; None sends none.
            query: the parameters of the query, not yet percent-encoded.
            seconds: the limit of the call, until the last byte of its answer.
            until: an earlier end of the call. Nothing is sent after it.

        Raises:
            CloudBuildError: no answer, or an error. If it is transient, the service may have acted all the same.
        """


@frozen
class ConfigFile:
    """A project's config file, as read from its source."""

    project: str
    text: str | bytes
    """The content; undecoded bytes, which need not be UTF-8, where the source holds bytes."""
    revision: str
    """Identifies this state of the file."""
    revision_url: str = ""
    """A page that shows the file; empty if there is none."""
    error: str = ""
    """Why the file could not be read; empty if it was. With an error, ``text`` is empty and the active config stays."""


class ConfigSource(Protocol):
    """A place that holds the configs of projects."""

    def configs(self, active_revision: Callable[[str], str], /) -> Sequence[ConfigFile]:
        """Read the configs; a file that cannot be read is returned with its ``error``.

        Args:
            active_revision: returns the active revision of a project's config; empty: none, or the file must be read
                again. A source that learns the revision without reading the file skips a file whose revision is active.
                The source calls it once for each project that it holds: the caller treats other projects of the source
                as removed.

        Raises:
            SchedulerError: the source could not be listed, so its projects are unknown.
        """


class GitilesError(ServiceError):
    """A call to a commit host failed; ``code`` is a gRPC code's name (``NOT_FOUND``)."""


@frozen
class GitCommit:
    """A commit in the log of a repository."""

    id: str
    """The hash: 40 lower-case hexadecimal digits, or 64 in a repository with SHA-256."""
    committed: Instant
    """The commit time, by the committer's clock."""
    diff: tuple[tuple[str, str], ...] = ()
    """The old and the new path of each change, empty where the file is new or deleted; only if requested. On Gitiles a
    merge has none; on GitHub it has its changes against its first parent."""
    author: str = ""
    """The author's name: one line without control characters, at most 100 characters; empty if it is unreadable."""
    subject: str = ""
    """The first line of the message: one line without control characters, at most 200 characters."""
    diff_cut: bool = False
    """Whether the commit has more changes than its host lists in ``diff``."""

    @property
    def known_diff(self) -> tuple[tuple[str, str], ...] | None:
        """The changes; None if only a part is known, so that any path may be among them."""
        return None if self.diff_cut else self.diff


@frozen
class LogPage:
    """A page of a log, newest first."""

    commits: tuple[GitCommit, ...]
    next: str = ""
    """The first commit of the next page; empty if this page is the last."""


class Gitiles(Protocol):
    """Git repositories on Gitiles servers and other commit hosts. Each call is one attempt, with a deadline."""

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        """Return the refs below a folder such as ``refs/heads``: full name → hash.

        For an annotated tag, it is the hash of the tag object. The result may include a ref named ``prefix`` itself.

        Raises:
            GitilesError: the server did not answer, or answered with an error.
        """

    def resolve(self, repo: RepoUrl, expression: str) -> str:
        """Return the hash of the commit that an expression names, in the form of `GitCommit.id`.

        Args:
            repo: the repository.
            expression: a hash or the beginning of one, a branch, a tag, a full ref or ``HEAD``, perhaps followed by
                ``~N`` or ``^N``, as git reads them. The caller has checked its syntax (see `api.revisions`).

        Raises:
            GitilesError: the server did not answer, or answered with an error: NOT_FOUND if the repository has no such
                commit, INVALID_ARGUMENT if several objects have a hash that begins so.
        """

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        """Return up to ``limit`` commits of the line of ``revision``, itself included, newest first.

        On Gitiles the line has all ancestors; on GitHub it has the first parents alone, so a merge is one commit.

        Args:
            repo: the repository.
            revision: a hash or a full ref.
            limit: the size of the page, 1 to 10,000.
            exclude: a hash or ref; it and its ancestors are left out.
            start: the first commit of the page, ``LogPage.next`` of a call with the same ``revision`` and ``exclude``.
            diffs: whether to list the paths that each commit changed.

        Raises:
            GitilesError: the server did not answer, or answered with an error: NOT_FOUND if ``revision``, ``exclude``
                or the repository does not exist.
        """


@frozen
class HostQuota:
    """How many requests a commit host still answers us."""

    limit: int
    """In an hour."""
    left: int
    renewed: Instant
    """When the hour ends."""


class HostQuotas(Protocol):
    """The quotas of commit hosts of the kind GitHub. Each call is one attempt, with a deadline."""

    def quota(self, host: str) -> HostQuota | None:
        """Return the quota of our credentials at a host; None if the host limits no requests. Costs none of it.

        Raises:
            GitilesError: the host refuses the credentials, or answers no request now.
        """


class FetchError(Exception):
    """A fetch failed: it was refused, or there was no valid HTTP answer. The text holds neither the URL nor secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(sanitized(message))


@frozen
class Fetched:
    """The answer to a fetch, after redirects."""

    code: int
    status: str
    """Code and reason, as in the status line: ``200 OK``."""
    headers: tuple[tuple[str, str], ...]
    """All headers in the order received; a name may occur several times."""
    body: bytes
    """The first bytes of the body, not decompressed; fewer if reading failed on the way."""
    content_length: int | None
    """The length of the whole body, if the answer's header has it."""


class Fetch(Protocol):
    """Fetches URLs that configs name: without credentials, and only from public addresses or allowed hosts."""

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        """Fetch a URL and follow redirects, in one attempt.

        Args:
            url: an absolute URL, not validated yet.
            timeout: the limit of the whole fetch, in nanoseconds.
            max_bytes: how many bytes of the body to read.

        Raises:
            FetchError: there is no answer. An HTTP error status is an answer.
        """


class Headers(Protocol):
    """The headers of an HTTP request; names are case-insensitive."""

    def get(self, name: str, default: str, /) -> str:
        """Return the value of a header, or ``default`` if the request has none."""
