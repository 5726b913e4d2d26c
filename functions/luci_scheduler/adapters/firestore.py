"""The store on Firestore: every method has a fixed cost, and every change is one commit under preconditions.

There are no transactions and no locks. A commit states the update times of the documents that it changes. The client's
own retries are off. A retried commit that had already landed would be refused, and would look like a lost race. Retried
reads would exceed every limit. So a read is retried here, briefly, within its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from luci_scheduler.adapters import documents
from luci_scheduler.adapters.firestore_wire import Document, Wire
from luci_scheduler.adapters.google_errors import code_of
from luci_scheduler.budget import time_left
from luci_scheduler.core import debug_log
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import PermanentError, SchedulerError, StoreConflictError, TransientError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.identifiers import InvocationId, JobId, project_of
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.probe import Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.transience import google_failure
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    DeleteDeferred,
    JobList,
    PutPaused,
    PutWatchers,
    UpdateInvocation,
    Version,
    Versioned,
    Write,
    WriteWhole,
)

__all__ = ["LIMIT", "FirestoreStore"]

LIMIT = 20.0
"""Seconds for one call, including its retries. A document's read or commit takes milliseconds."""

_PAUSES = (0.1, 0.4)  # seconds before a read is retried: a short failure must not cost a redelivery
_ONCE = Retry(predicate=lambda _: False)
"""Replaces the library's own policy, which retries reads for five minutes and ignores the timeout of a call."""
_JOB_FIELDS = ("schema", "record", "enabled", "next_due")  # without the triage log, which only pages read
_MAX_IN = 30  # values of an "in" condition
_REPOSITORIES = "repositories"
_INVOCATION_FIELDS = ("schema", "definition", "state", "next_due", "expire_at")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=documents.Record)


_LOST_RACE = (exceptions.FailedPrecondition, exceptions.AlreadyExists, exceptions.NotFound, exceptions.Aborted)
"""Answers to a commit whose precondition failed. A read gets them if an index or the database is missing."""


def _translated(call: Callable[P, R]) -> Callable[P, R]:
    """Turn the client's errors into ours."""

    @wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError) as error:
            raise _error(error) from error

    return wrapper


def _error(error: Exception) -> SchedulerError:
    failure, reason = google_failure(code_of(error)), sanitized(getattr(error, "message", None) or str(error))
    if failure.transient:
        return TransientError(f"Firestore: {failure.code}: {reason}", throttled=failure.throttled)
    return PermanentError(f"Firestore refused the request: {reason}")


class FirestoreStore:
    """``ports.Store`` on a Firestore database in native mode."""

    def __init__(self, client: firestore.Client, limit: float = LIMIT) -> None:
        self._client = client
        self._wire = Wire(client)
        self._limit = limit

    def _ref(self, path: str) -> Any:
        """Return the library's reference to a document, for the condition of a query."""
        return self._client.document(path)

    def _get_expected(self, path: str, fields: Sequence[str]) -> Document | None:
        """Read a document that exists, except in rare cases; then it costs a second read."""
        return self._read(lambda timeout: self._wire.get(path, fields, timeout))

    def _get(self, path: str, fields: Sequence[str] | None = None) -> Document | None:
        return next(iter(self._get_all([path], fields)), None)

    def _get_all(self, paths: list[str], fields: Sequence[str] | None = None) -> list[Document]:
        return self._read(lambda timeout: self._wire.read(paths, fields, timeout)) if paths else []

    def _results(self, query: Any) -> list[Document]:
        """Return all results of a query. The limit also ends a stream that stalls in the middle."""
        found = self._read(lambda timeout: list(query.stream(retry=_ONCE, timeout=timeout)))
        return [Document(item.reference.path, item.to_dict() or {}, item.update_time) for item in found]

    def _read(self, read: Callable[[float], R]) -> R:
        """Read, and retry after a short failure, all within one limit. ``read`` gets the timeout of one attempt."""
        end = time.monotonic() + time_left(self._limit)
        for pause in _PAUSES:
            try:
                return read(max(0.0, end - time.monotonic()))
            except exceptions.ServiceUnavailable:
                if time.monotonic() + pause >= end:
                    raise
            time.sleep(pause)
        return read(max(0.0, end - time.monotonic()))

    @_translated
    def watchers(self, repo: str) -> Sequence[Watcher]:
        """Return the jobs that watch a repository: one query, with one read for each project."""
        first, end = documents.watchers_range(repo)
        found = self._read(lambda timeout: self._wire.range(_REPOSITORIES, first, end, timeout))
        return documents.decode_watchers((_last(document.path), document.fields) for document in found)

    @_translated
    def project(self, project: str) -> Versioned[ProjectRecord] | None:
        """Read a project's record."""
        snapshot = self._get(_path("projects", project))
        if snapshot is None:
            return None
        return _versioned(documents.decode_project(project, snapshot.fields), snapshot)

    @_translated
    def job(self, job_id: JobId) -> Versioned[Job] | None:
        """Read a job."""
        snapshot = self._get_expected(_job_path(job_id), _JOB_FIELDS)
        return None if snapshot is None else _versioned(documents.decode_job(job_id, snapshot.fields), snapshot)

    @_translated
    def projects(self) -> Sequence[ProjectRecord]:
        """Return every project's record."""
        snapshots = self._results(self._client.collection("projects"))
        return _readable(
            snapshots,
            lambda snapshot: documents.decode_project(_plain_id(snapshot.path), snapshot.fields),
        )

    @_translated
    def jobs(self, job_ids: Sequence[JobId]) -> Sequence[Job]:
        """Read many jobs in one call."""
        return _readable(self._job_snapshots(job_ids), _job_of)

    @_translated
    def found_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Versioned[Job]]:
        """Read many jobs in one call, with their versions."""
        return [_versioned(_job_of(snapshot), snapshot) for snapshot in self._job_snapshots(job_ids)]

    def _job_snapshots(self, job_ids: Sequence[JobId]) -> list[Any]:
        return self._get_all([_job_path(job_id) for job_id in job_ids], _JOB_FIELDS)

    @_translated
    def triage_log(self, job_id: JobId) -> str:
        """Read the log of a job's last triage."""
        snapshot = self._get(_job_path(job_id), ("triage_log",))
        return "" if snapshot is None else str(snapshot.fields.get("triage_log", ""))

    @_translated
    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Read a gitiles job's record of its repository."""
        snapshot = self._get(_poller_path(job_id))
        if snapshot is None:
            return None
        return _versioned(documents.decode_poller(job_id, snapshot.fields), snapshot)

    @_translated
    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Versioned[Invocation] | None:
        """Read an invocation. The field mask leaves the debug log on the server."""
        snapshot = self._get_expected(_invocation_path(job_id, invocation_id), _INVOCATION_FIELDS)
        if snapshot is None:
            return None
        return _versioned(documents.decode_invocation(job_id, invocation_id, snapshot.fields), snapshot)

    @_translated
    def invocation_with_log(
        self, job_id: JobId, invocation_id: InvocationId
    ) -> tuple[Versioned[Invocation], str] | None:
        """Read an invocation and its debug log."""
        snapshot = self._get(_invocation_path(job_id, invocation_id))
        if snapshot is None:
            return None
        document = snapshot.fields
        invocation = documents.decode_invocation(job_id, invocation_id, document)
        return _versioned(invocation, snapshot), _joined(document.get("log", ()))

    @_translated
    def invocations(
        self, job_id: JobId, limit: int, after: InvocationId | None = None, status: Status | None = None
    ) -> Sequence[Invocation]:
        """List a job's invocations, newest first."""
        ordered = self._history(job_id, status).select(_INVOCATION_FIELDS).order_by(FieldPath.document_id())
        found: list[Invocation] = []
        while (wanted := limit - len(found)) > 0:
            query = ordered.limit(wanted)
            if after is not None:
                query = query.start_after({FieldPath.document_id(): self._ref(_invocation_path(job_id, after))})
            snapshots = self._results(query)
            # An unreadable invocation leaves a gap in the page, so read on until the page is full.
            found += _readable(snapshots, _invocation_of)
            if len(snapshots) < wanted:
                break
            after = InvocationId(int(_last(snapshots[-1].path)))
        return found

    @_translated
    def count_invocations(self, job_id: JobId, status: Status, limit: int) -> int:
        """Count a job's invocations with a status."""
        return self._count(self._history(job_id, status).limit(limit))

    def _history(self, job_id: JobId, status: Status | None) -> Any:
        """Return the query that finds a job's invocations."""
        found = self._client.collection(f"{_job_path(job_id)}/invocations")
        return found if status is None else found.where(filter=FieldFilter("status", "==", str(status)))

    @_translated
    def invocations_by_id(self, keys: Sequence[tuple[JobId, InvocationId]]) -> Sequence[Invocation]:
        """Read many invocations in one call."""
        references = [_invocation_path(job_id, invocation_id) for job_id, invocation_id in keys]
        return _readable(self._get_all(references, _INVOCATION_FIELDS), _invocation_of)

    @_translated
    def trigger(self, job_id: JobId, trigger_id: str) -> Versioned[TriggerRecord] | None:
        """Read a trigger or its marker."""
        snapshot = self._get(_trigger_path(job_id, trigger_id))
        if snapshot is None:
            return None
        return _versioned(documents.decode_trigger(job_id, snapshot.fields), snapshot)

    @_translated
    def triggers(self, keys: Sequence[tuple[JobId, str]]) -> Sequence[TriggerRecord]:
        """Read many triggers or markers in one call."""
        references = [_trigger_path(job_id, trigger_id) for job_id, trigger_id in keys]
        return _readable(self._get_all(references), _trigger_of)

    @_translated
    def triggers_of_revision(self, revision: str, limit: int) -> Sequence[TriggerRecord]:
        """Return the triggers of a commit in all jobs."""
        query = self._client.collection_group("triggers").where(filter=FieldFilter("revision", "==", revision))
        return _readable(self._results(query.limit(limit)), _trigger_of)

    @_translated
    def pending_triggers(self, job_id: JobId, limit: int) -> Sequence[Versioned[TriggerRecord]]:
        """Return pending triggers, oldest first. An unreadable trigger is set aside and does not hide the others."""
        query = self._client.collection(f"{_job_path(job_id)}/triggers").where(filter=FieldFilter("pending", ">", ""))
        query = query.order_by("pending").limit(limit)
        found: list[Versioned[TriggerRecord]] = []
        for _ in range(documents.SET_ASIDE_ROUNDS):
            snapshots = self._results(query)
            found, bad = documents.decode_or_set_aside(snapshots, lambda snapshot: snapshot.path, _found_trigger)
            if not bad:
                break
            self._set_aside(bad)
        return found

    def _set_aside(self, bad: Sequence[tuple[Document, Mapping[str, Any]]]) -> None:
        for document, fields in bad:
            try:
                write = self._wire.update(document.path, fields, document.update_time)
                self._wire.commit([write], time_left(self._limit))
            except _LOST_RACE:  # the trigger has changed meanwhile: the next read decides
                continue

    @_translated
    def due_invocations(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Invocation]:
        """Return overdue invocations of all jobs."""
        query = self._client.collection_group("invocations").where(filter=FieldFilter("next_due", "<=", before))
        query = _by_due(query).select(_INVOCATION_FIELDS).limit(limit)
        if after is not None:
            query = _after(query, after.due, self._ref(_invocation_path(after.job_id, after.invocation_id)))
        return _readable(self._results(query), _invocation_of)

    @_translated
    def due_jobs(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Job]:
        """Return overdue jobs."""
        query = self._client.collection_group("jobs").where(filter=FieldFilter("next_due", "<=", before))
        query = _by_due(query).select(_JOB_FIELDS).limit(limit)
        if after is not None:
            query = _after(query, after.due, self._ref(_job_path(after.job_id)))
        return _readable(self._results(query), _job_of)

    @_translated
    def listed_jobs(self, wanted: JobList, limit: int, after: str = "") -> Sequence[Job]:
        """Return the jobs of a list by their place."""
        found = [job for query in self._lists(wanted, after) for job in self._first_jobs(query, limit)]
        return sorted(found, key=lambda job: job.place)[:limit]

    def _first_jobs(self, query: Any, limit: int) -> list[Job]:
        """Return the first jobs of a query. An unreadable job leaves a gap, so read on until the list is full."""
        query = query.select((*_JOB_FIELDS, "place", "commits"))
        found: list[Job] = []
        while (wanted := limit - len(found)) > 0:
            snapshots = self._results(query.limit(wanted))
            found += _readable(snapshots, _job_of)
            if len(snapshots) < wanted:
                break
            last = snapshots[-1].fields
            query = query.start_after({"place": last["place"], "commits": last["commits"]})
        return found

    @_translated
    def count_jobs(self, wanted: JobList, limit: int) -> int:
        """Count the jobs of a list."""
        return min(limit, sum(self._count(query.limit(limit)) for query in self._lists(wanted)))

    @_translated
    def count_job_commits(self, wanted: JobList, after: str = "", last: str = "") -> int:
        """Sum up the commits of the jobs in a part of a list."""
        queries = self._lists(wanted, after)
        if last:
            queries = [query.where(filter=FieldFilter("place", "<=", last)) for query in queries]
        return sum(self._sum_of_commits(query) for query in queries)

    @_translated
    def jobs_that_trigger(self, job_id: JobId, limit: int) -> Sequence[Job]:
        """Return the jobs that trigger a job."""
        query = self._client.collection("jobs").where(filter=FieldFilter("triggers", "array_contains", job_id))
        return sorted(_readable(self._results(query.select(_JOB_FIELDS).limit(limit)), _job_of), key=lambda job: job.id)

    def _count(self, query: Any) -> int:
        ((result,),) = self._read(lambda timeout: query.count().get(retry=_ONCE, timeout=timeout))
        return int(result.value)

    def _sum_of_commits(self, query: Any) -> int:
        ((result,),) = self._read(lambda timeout: query.sum("commits").get(retry=_ONCE, timeout=timeout))
        return int(result.value)

    def _lists(self, wanted: JobList, after: str = "") -> list[Any]:
        """Return the queries that find the jobs of a list together, each sorted by place.

        Places are unique in a project. The second sort key makes counts and sums use the index of the list.
        """
        first, end = wanted.places(after)
        query = self._client.collection("jobs").where(filter=FieldFilter("project", "==", wanted.project))
        if wanted.state is not None:
            query = query.where(filter=FieldFilter("state", "==", str(wanted.state)))
        query = query.where(filter=FieldFilter("place", ">", first))
        if end:
            query = query.where(filter=FieldFilter("place", "<", end))
        return _in_realms(query.order_by("place").order_by("commits"), wanted.realms)

    @_translated
    def deferred(self, deferred_id: str) -> Versioned[Deferred] | None:
        """Read a deferred task."""
        snapshot = self._get(_deferred_path(deferred_id))
        return None if snapshot is None else _versioned(_deferred_of(snapshot), snapshot)

    @_translated
    def probe(self, probe_id: str) -> Versioned[Probe] | None:
        """Read a probe."""
        snapshot = self._get(_path("probes", probe_id))
        if snapshot is None:
            return None
        return _versioned(documents.decode_probe(probe_id, snapshot.fields), snapshot)

    @_translated
    def due_deferred(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Deferred]:
        """Return overdue deferred tasks."""
        query = self._client.collection("deferred").where(filter=FieldFilter("next_due", "<=", before))
        query = _by_due(query).limit(limit)
        if after is not None:
            query = _after(query, after.due, self._ref(_deferred_path(after.deferred)))
        return _readable(self._results(query), _deferred_of)

    @_translated
    def deferred_of_revision(self, revision: str, limit: int) -> Sequence[Deferred]:
        """Return the deferred tasks that wait for a commit."""
        query = self._client.collection("deferred").where(filter=FieldFilter("revision", "==", revision))
        return _readable(self._results(query.limit(limit)), _deferred_of)

    @_translated
    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Apply all writes or none."""
        encoded = [self._encoded(write) for write in writes]
        try:
            # A retry is the caller's decision: after an unknown outcome it has to read first.
            versions = self._wire.commit([message for message, _ in encoded], time_left(self._limit))
        except _LOST_RACE as error:
            raise StoreConflictError(f"Firestore: {sanitized(error.message)}") from error
        return [
            documents.as_written(write, fields, version)
            for write, (_, fields), version in zip(writes, encoded, versions, strict=True)
        ]

    def _encoded(self, write: Write) -> tuple[Any, Mapping[str, Any]]:
        """Return the message of a write, and the fields that it writes."""
        match write:
            case CreateInvocation():
                return self._creation(write)
            case UpdateInvocation():
                return self._change(write)
            case PutWatchers(repo, project, watchers):
                document = documents.encode_watchers(repo, project, watchers)
                return self._wire.merge(_watchers_path(repo, project), document), document
            case PutPaused(repo, trigger_job_id, paused):
                document = documents.encode_paused(trigger_job_id, paused=paused)
                return self._wire.merge(_watchers_path(repo, project_of(trigger_job_id)), document), document
            case DeleteDeferred(deferred_id, version):
                return self._wire.delete(_deferred_path(deferred_id), version.at), {}
            case _:
                return self._put(write)

    def _creation(self, write: CreateInvocation) -> tuple[Any, Mapping[str, Any]]:
        invocation, log = write.invocation, debug_log.trim(write.log)
        document = documents.encode_invocation(invocation)
        documents.check_invocation_size(invocation, document, len(log.encode()))
        document["log"] = _chunk(invocation, log)
        return self._wire.create(_invocation_path(invocation.job_id, invocation.id), document), document

    def _change(self, write: UpdateInvocation) -> tuple[Any, Mapping[str, Any]]:
        invocation, version = write.invocation, write.version
        document = documents.encode_invocation_state(invocation, version)
        documents.check_invocation_size(invocation, document, invocation.log_size, version)
        chunk = _chunk(invocation, debug_log.trim(write.log))
        if chunk and write.replaces_log:
            document["log"] = chunk
        added = {"log": chunk} if chunk and not write.replaces_log else {}
        path = _invocation_path(invocation.job_id, invocation.id)
        return self._wire.update(path, document, version.at, added), document

    def _put(self, write: WriteWhole) -> tuple[Any, Mapping[str, Any]]:
        names, document = documents.encode_write(write)
        documents.check_size("/".join(names), document)
        path = "/".join(name if place % 2 == 0 else documents.document_id(name) for place, name in enumerate(names))
        version = None if isinstance(write, CreateTrigger) else write.version
        if version is None:
            return self._wire.create(path, document), document
        return self._wire.update(path, document, version.at), document


def _in_realms(query: Any, realms: tuple[str, ...] | None) -> list[Any]:
    """Return the queries that find the jobs of a query that are in these realms; None: in any realm."""
    if realms is None:
        return [query]
    parts = [realms[start : start + _MAX_IN] for start in range(0, len(realms), _MAX_IN)]
    return [query.where(filter=FieldFilter("realm", "in", list(part))) for part in parts]


def _by_due(query: Any) -> Any:
    return query.order_by("next_due").order_by(FieldPath.document_id())


def _after(query: Any, due: Instant, reference: Any) -> Any:
    return query.start_after({"next_due": due, FieldPath.document_id(): reference})


def _chunk(invocation: Invocation, log: str) -> list[dict[str, Any]]:
    # The number makes each chunk unique. An array transform drops an element that is already in the array.
    return [{"n": invocation.commits, "text": log}] if log else []


def _joined(chunks: Iterable[Mapping[str, Any]]) -> str:
    return debug_log.trim("".join(chunk["text"] for chunk in chunks))


def _versioned(record: T, document: Document) -> Versioned[T]:
    return documents.as_read(record, document.fields, document.update_time)


def _readable(snapshots: Iterable[Document], decode: Callable[[Document], R]) -> list[R]:
    return documents.decode_readable(snapshots, lambda snapshot: snapshot.path, decode)


def _job_of(snapshot: Document) -> Job:
    return documents.decode_job(_job_id_of(snapshot), snapshot.fields)


def _deferred_of(snapshot: Document) -> Deferred:
    return documents.decode_deferred(_plain_id(snapshot.path), snapshot.fields)


def _trigger_of(snapshot: Document) -> TriggerRecord:
    return documents.decode_trigger(_job_id_of(snapshot), snapshot.fields)


def _found_trigger(snapshot: Document) -> Versioned[TriggerRecord]:
    return _versioned(_trigger_of(snapshot), snapshot)


def _invocation_of(snapshot: Document) -> Invocation:
    job_id = _job_id_of(snapshot)
    return documents.decode_invocation(job_id, InvocationId(int(_last(snapshot.path))), snapshot.fields)


def _job_id_of(document: Document) -> JobId:
    """Return the job of a document: of the job itself, or of one of its invocations or triggers."""
    return JobId(documents.plain_id(document.path.split("/", 2)[1]))


def _plain_id(path: str) -> str:
    return documents.plain_id(_last(path))


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _path(collection: str, identifier: str) -> str:
    return f"{collection}/{documents.document_id(identifier)}"


def _job_path(job_id: JobId) -> str:
    return _path("jobs", job_id)


def _poller_path(job_id: JobId) -> str:
    return _path("pollers", job_id)


def _invocation_path(job_id: JobId, invocation_id: InvocationId) -> str:
    return f"{_job_path(job_id)}/invocations/{documents.invocation_document_id(invocation_id)}"


def _trigger_path(job_id: JobId, trigger_id: str) -> str:
    return _path(f"{_job_path(job_id)}/triggers", trigger_id)


def _deferred_path(deferred_id: str) -> str:
    return _path("deferred", deferred_id)


def _watchers_path(repo: str, project: str) -> str:
    return f"{_REPOSITORIES}/{documents.watchers_document_id(repo, project)}"
