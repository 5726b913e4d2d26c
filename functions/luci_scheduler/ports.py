"""What the scheduler needs from outside, as protocols; ``adapters`` implement them for the cloud, ``emulator`` in memory.

Errors that every method may raise: ``TransientError`` when trying again may help. Times are instants (nanoseconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Job
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher

__all__ = [
    "Buildbucket",
    "BuildbucketError",
    "CheckedWrite",
    "Clock",
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
    "LogPage",
    "Pollers",
    "PutDeferred",
    "PutJob",
    "PutPaused",
    "PutPoller",
    "PutProject",
    "PutWatchers",
    "Queue",
    "QueueTask",
    "ServiceError",
    "Store",
    "UpdateInvocation",
    "UpdateTrigger",
    "Version",
    "Versioned",
    "Write",
    "WriteWhole",
]

T = TypeVar("T")

Version = Any
"""Names the state of a document that was read or written; opaque, comparable for equality only."""


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A document that was read, with the version to state as the precondition of its change."""

    value: T
    version: Version


@dataclass(frozen=True, slots=True)
class CreateInvocation:
    """Write a new invocation with its first log lines; refused if the ID is taken."""

    invocation: Invocation
    log: str = ""


@dataclass(frozen=True, slots=True)
class UpdateInvocation:
    """Replace an invocation's record but not its log, to which ``log`` is appended; refused if its version moved."""

    invocation: Invocation
    version: Version
    log: str = ""
    replaces_log: bool = False
    """Whether ``log`` is the whole log and takes the place of what is stored."""


@dataclass(frozen=True, slots=True)
class PutJob:
    """Write a job; refused if its version moved. Version None: the job must not exist yet."""

    job: Job
    version: Version | None
    triage_log: str | None = None
    """The log of the triage that this write ends; None leaves the last one as it is."""


@dataclass(frozen=True, slots=True)
class CreateTrigger:
    """Write a trigger; refused if one with its ID exists under the job."""

    record: TriggerRecord


@dataclass(frozen=True, slots=True)
class UpdateTrigger:
    """Replace a trigger; refused if its version moved."""

    record: TriggerRecord
    version: Version


@dataclass(frozen=True, slots=True)
class PutProject:
    """Write a project's record; refused if its version moved. Version None: it must not exist yet."""

    record: ProjectRecord
    version: Version | None


@dataclass(frozen=True, slots=True)
class PutWatchers:
    """Replace the watchers of one repository (normalised URL) that one project has; those of other projects are other documents."""

    repo: str
    project: str
    watchers: tuple[Watcher, ...]


@dataclass(frozen=True, slots=True)
class PutPaused:
    """Mark a gitiles trigger as paused for its watchers of a repository (normalized URL), or remove the mark."""

    repo: str
    trigger_job_id: JobId
    paused: bool


@dataclass(frozen=True, slots=True)
class PutPoller:
    """Write what a gitiles job knows; refused if its version moved. Version None: there must be no record yet."""

    record: PollerRecord
    version: Version | None


@dataclass(frozen=True, slots=True)
class PutDeferred:
    """Write a deferred task; refused if its version moved. Version None: there must be no such document yet."""

    record: Deferred
    version: Version | None


@dataclass(frozen=True, slots=True)
class DeleteDeferred:
    """Delete a deferred task that is done; refused if its version moved or the document is gone."""

    id: str
    version: Version


WriteWhole = PutJob | CreateTrigger | UpdateTrigger | PutProject | PutPoller | PutDeferred
"""Writes of a whole document, which `adapters.documents.put` encodes."""

CheckedWrite = WriteWhole | CreateInvocation | UpdateInvocation | DeleteDeferred
"""Writes that the state of their document may refuse."""

Write = CheckedWrite | PutWatchers | PutPaused


class Pollers(Protocol):
    """The part of the store that gitiles jobs read themselves; what they change goes through their controller."""

    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Read what a gitiles job knows of its repository: one read."""


class Store(Pollers, Protocol):
    """Documents under compare-and-swap; all but ``commit`` cost a read per document, at least one. Lists of jobs, invocations or projects leave out, and log, what cannot be read."""

    def watchers(self, repo: str) -> Sequence[Watcher]:
        """Return the jobs that watch a repository (normalised URL), sorted by project, those of paused triggers marked.

        Costs one read for each project that watches it or once did, at least one. A project whose watchers cannot be read is left
        out, and logged.
        """

    def project(self, project: str) -> Versioned[ProjectRecord] | None:
        """Read what is known of a project's config."""

    def job(self, job_id: JobId) -> Versioned[Job] | None:
        """Read a job."""

    def projects(self) -> Sequence[ProjectRecord]:
        """Return what is known of every project's config, sorted by project."""

    def jobs(self, job_ids: Sequence[JobId]) -> Sequence[Job]:
        """Read many jobs in one call, in no order; those that do not exist are left out."""

    def found_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Versioned[Job]]:
        """Read many jobs in one call, each with the version to state when it is changed; those that do not exist are left out.

        One that cannot be read raises ValueError, as it does of `job`: whoever changes jobs must not take it for none.
        """

    def triage_log(self, job_id: JobId) -> str:
        """Read the log of a job's last triage, for people; empty if there is none. `job` leaves it out."""

    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Versioned[Invocation] | None:
        """Read an invocation without its debug log: the cost does not grow with the log."""

    def invocation_with_log(
        self, job_id: JobId, invocation_id: InvocationId
    ) -> tuple[Versioned[Invocation], str] | None:
        """Read an invocation and its debug log, trimmed as the original trims it: for people."""

    def invocations(self, job_id: JobId, limit: int, after: InvocationId | None = None) -> Sequence[Invocation]:
        """List a job's invocations, newest first, without their logs, beginning behind ``after``.

        Those that cannot be read are left out and do not count: fewer than ``limit`` are the last ones.
        """

    def invocations_by_id(self, keys: Sequence[tuple[JobId, InvocationId]]) -> Sequence[Invocation]:
        """Read many invocations, without their logs, in one call, in no order; absent ones are left out."""

    def trigger(self, job_id: JobId, trigger_id: str) -> Versioned[TriggerRecord] | None:
        """Read a trigger or its marker."""

    def triggers(self, keys: Sequence[tuple[JobId, str]]) -> Sequence[TriggerRecord]:
        """Read many triggers or markers, by job and trigger ID, in one call, in no order; absent ones are left out."""

    def triggers_of_revision(self, revision: str, limit: int) -> Sequence[TriggerRecord]:
        """Return the triggers and markers of all jobs, in no order, that tell of a commit with this hash."""

    def pending_triggers(self, job_id: JobId, limit: int) -> Sequence[Versioned[TriggerRecord]]:
        """Return pending triggers of a job, the oldest first by (created, order in batch, ID)."""

    def due_invocations(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Invocation]:
        """Return invocations of all jobs whose ``next_due`` is not after ``before``, the most overdue first, beginning behind ``after``."""

    def due_jobs(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Job]:
        """Return jobs whose ``next_due`` is not after ``before``, the most overdue first, beginning behind ``after``."""

    def deferred(self, deferred_id: str) -> Versioned[Deferred] | None:
        """Read a deferred task."""

    def due_deferred(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Deferred]:
        """Return deferred tasks whose ``next_due`` is not after ``before``, the most overdue first, beginning behind ``after``."""

    def deferred_of_revision(self, revision: str, limit: int) -> Sequence[Deferred]:
        """Return the deferred tasks, in no order, that wait for a commit with this hash."""

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Carry out all writes or none, and return each document's new version, in the order of ``writes``.

        Raises:
            StoreConflictError: a precondition did not hold; nothing was written. Also raised for a commit that
                had landed under a lost answer: the re-read shows it by ``last_event``.
            PermanentError: a document would exceed the store's size limit; nothing was written or sent.
        """


@dataclass(frozen=True, slots=True)
class QueueTask:
    """A delayed call of ``on_task``: a path, a JSON body and when."""

    kind: str
    payload: Mapping[str, Any]
    eta: Instant
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    """A name that the queue takes once: a second task under it, even after the first has run, is dropped silently."""


class Queue(Protocol):
    """The task queue: at least once, in no order, perhaps late, perhaps a little early."""

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue; on success it is durable, or was under its name before.

        Raises:
            PermanentError: the task is larger than the queue takes; one with less than 97,000 bytes of payload never is.
        """


class Clock(Protocol):
    """The one place where time is read, and where it is waited for."""

    def now(self) -> Instant:
        """Return the present instant."""

    def sleep(self, nanoseconds: int) -> None:
        """Return when that much time has passed; at once if it is not positive."""


class Entropy(Protocol):
    """The one source of randomness."""

    def invocation_suffix(self) -> int:
        """Draw the 16 random bits of an invocation's ID; one process does not draw the same again within a millisecond."""

    def nonce(self) -> int:
        """Draw a positive number of 63 bits: it tells a cron tick from its echoes and a commit from others, or spreads a pause."""

    def check_delay_seconds(self, low: int, high: int) -> int:
        """Draw whole seconds, uniformly from [low, high)."""


class ServiceError(Exception):
    """A call to a service failed; base of the errors of each service.

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
    """A call to Buildbucket failed; ``code`` is the gRPC code's name in v2 (``NOT_FOUND``) and the HTTP status in v1."""


class Buildbucket(Protocol):
    """The wire to Buildbucket servers; requests and answers are JSON values, what they mean is the manager's to know.

    A call is over at its deadline, or at ``until`` if that is sooner: nothing is sent after that. No answer, or an error of HTTP or
    gRPC, raises ``BuildbucketError``.
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
        """Call the v1 REST API (``path`` behind ``/_ah/api/buildbucket/v1/``); its own errors come back as ``{"error": ...}``."""

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Call a method of ``buildbucket.v2.Builds``."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A project's config as its source holds it."""

    project: str
    text: str | bytes
    """What the file holds; bytes as they are, they may be no UTF-8."""
    revision: str
    """Names this state of the file."""
    revision_url: str = ""
    """Where people see it; empty if nowhere."""
    trouble: str = ""
    """Why the file could not be read; ``text`` means nothing then, and the config in force stays."""


class ConfigSource(Protocol):
    """Where projects' configs are kept."""

    def configs(self, in_force: Callable[[str], str]) -> Sequence[ConfigFile]:
        """Read the configs; what cannot be read comes with its ``trouble``, nothing is raised for it.

        Args:
            in_force: tells the revision of a project's config that is in force (empty: none, or it needs another look).
                A source that can tell the revision without the file leaves out a file whose revision is in force. To ask
                says that the source holds the project.

        Raises:
            SchedulerError: what projects the source holds cannot be told.
        """


class GitilesError(ServiceError):
    """A call to Gitiles failed; ``code`` is the gRPC code's name (``NOT_FOUND``)."""


@dataclass(frozen=True, slots=True)
class GitCommit:
    """A commit as a log shows it."""

    id: str
    """Its hash, 40 lower-case hexadecimal digits."""
    committed: Instant
    """When it was committed, by the committer's clock."""
    diff: tuple[tuple[str, str], ...] = ()
    """The old and the new path of each change, the empty text where there is none; only if it was asked for. A merge has none."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of a log, newest first."""

    commits: tuple[GitCommit, ...]
    next: str = ""
    """The first commit behind this part; empty if nothing is behind it."""


class Gitiles(Protocol):
    """Git repositories, as Gitiles servers show them. One attempt per call, with a deadline."""

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        """Return the refs below a folder such as ``refs/heads``: full name → hash (of the tag object for annotated tags).

        A ref of the very name ``prefix`` may be among them.

        Raises:
            GitilesError: no answer or an error.
        """

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        """Return up to ``limit`` commits that lead to ``revision``, newest first.

        Args:
            repo: the repository.
            revision: a hash.
            limit: size of the page, 1 to 10,000.
            exclude: leave out this hash, or what this ref points to, and what leads to it.
            start: begin with this commit instead of the newest: ``LogPage.next`` of an earlier call with the same ends.
            diffs: tell which paths each commit changed.

        Raises:
            GitilesError: no answer or an error; NOT_FOUND if ``revision``, ``exclude`` or the repository is not there.
        """


class FetchError(Exception):
    """A URL was not fetched: refused, no answer, or one that is no HTTP. The text holds neither the URL nor secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(sanitized(message))


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer to a URL fetch, after redirects."""

    code: int
    status: str
    """Code and reason as the status line has them: ``200 OK``."""
    headers: tuple[tuple[str, str], ...]
    """As they came, in order; a name may come several times."""
    body: bytes
    """The first bytes of the body, as it was sent (never decompressed); what came until reading failed, if it did."""
    content_length: int | None
    """Length of the whole body if the answer's header tells it."""


class Fetch(Protocol):
    """Fetching of URLs that configs name: without credentials, and only from where anybody may fetch."""

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        """Fetch a URL, following redirects; one attempt.

        Args:
            url: an absolute URL; nothing is assumed of it.
            timeout: of everything together, in nanoseconds.
            max_bytes: how much of the body is read.

        Raises:
            FetchError: there is no answer. An HTTP error is an answer.
        """


class Headers(Protocol):
    """The headers of an HTTP request; their names are looked up whatever their case."""

    def get(self, name: str, default: str, /) -> str:
        """Return the value of a header, or ``default`` if the request has none."""
