"""The store in memory, with the preconditions and size limits of the one on Firestore."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from luci_scheduler.adapters import documents
from luci_scheduler.core import debug_log
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import PermanentError, StoreConflictError
from luci_scheduler.core.identifiers import NO_INVOCATION, InvocationId, JobId, project_of
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.probe import Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import (
    CheckedWrite,
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

__all__ = ["MemoryStore"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Stored:
    document: dict[str, Any]
    version: int
    log: tuple[str, ...] = ()


Path = tuple[str, ...]

_FIRESTORE_LIMIT = 1_048_576
_CHUNK = 16  # bytes of a chunk of the log without its text


class MemoryStore:
    """``ports.Store`` in memory; thread-safe, each commit is atomic.

    Documents are kept in the encoding of the real store, so that a value without an encoding also fails here.
    """

    def __init__(self) -> None:
        self._documents: dict[Path, _Stored] = {}
        # Dictionaries without values replace sets, because their order is the same in every run.
        self._folders: dict[Path, dict[Path, None]] = {}
        """Collection → its documents, so that the cost of a listing does not grow with other collections."""
        self._pending: dict[Path, dict[Path, None]] = {}
        """Collection of triggers → its pending documents."""
        self._by_revision: dict[str, dict[Path, None]] = {}
        """Commit → its triggers, and the deferred tasks that wait for it."""
        self._due: dict[Path, None] = {}
        """Documents that are due at some time."""
        self._lock = threading.RLock()
        self._versions = itertools.count(1)

    def kept(self) -> list[tuple[Path, dict[str, Any], tuple[str, ...]]]:
        """Return the path, the fields and the log of each document; `keep` takes them."""
        with self._lock:
            return [(path, stored.document, stored.log) for path, stored in self._documents.items()]

    def keep(self, rows: Iterable[tuple[Path, dict[str, Any], tuple[str, ...]]]) -> None:
        """Add the documents of an earlier store, under new versions."""
        with self._lock:
            for path, document, log in rows:
                self._documents[path] = _Stored(document, next(self._versions), log)
                self._index(path, document)

    def watchers(self, repo: str) -> Sequence[Watcher]:
        """Return the jobs that watch a repository."""
        with self._lock:
            paths = self._under("repositories", repo)
            return documents.decode_watchers((path[2], self._documents[path].document) for path in paths)

    def project(self, project: str) -> Versioned[ProjectRecord] | None:
        """Read a project's record."""
        stored = self._get("projects", project)
        return None if stored is None else _versioned(documents.decode_project(project, stored.document), stored)

    def job(self, job_id: JobId) -> Versioned[Job] | None:
        """Read a job."""
        stored = self._get("jobs", job_id)
        return None if stored is None else _versioned(documents.decode_job(job_id, stored.document), stored)

    def projects(self) -> Sequence[ProjectRecord]:
        """Return every project's record."""
        with self._lock:
            return self._readable(sorted(self._under("projects"), key=_name), lambda path: self.project(path[1]))

    def jobs(self, job_ids: Sequence[JobId]) -> Sequence[Job]:
        """Read many jobs at once."""
        with self._lock:
            return self._readable([_named("jobs", job_id) for job_id in dict.fromkeys(job_ids)], self._job_at)

    def found_jobs(self, job_ids: Sequence[JobId]) -> Sequence[Versioned[Job]]:
        """Read many jobs at once, with their versions."""
        with self._lock:
            found = [self.job(job_id) for job_id in dict.fromkeys(job_ids)]
        return [item for item in found if item is not None]

    def triage_log(self, job_id: JobId) -> str:
        """Read the log of a job's last triage."""
        stored = self._get("jobs", job_id)
        return str(stored.document.get("triage_log", "")) if stored else ""

    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Read a gitiles job's record of its repository."""
        stored = self._get("pollers", job_id)
        return None if stored is None else _versioned(documents.decode_poller(job_id, stored.document), stored)

    def invocation(self, job_id: JobId, invocation_id: InvocationId) -> Versioned[Invocation] | None:
        """Read an invocation without its log."""
        stored = self._get("jobs", job_id, "invocations", documents.invocation_document_id(invocation_id))
        if stored is None:
            return None
        return _versioned(documents.decode_invocation(job_id, invocation_id, stored.document), stored)

    def invocation_with_log(
        self, job_id: JobId, invocation_id: InvocationId
    ) -> tuple[Versioned[Invocation], str] | None:
        """Read an invocation and its debug log."""
        with self._lock:
            found = self.invocation(job_id, invocation_id)
            stored = self._get("jobs", job_id, "invocations", documents.invocation_document_id(invocation_id))
        if found is None or stored is None:
            return None
        return found, debug_log.trim("".join(stored.log))

    def invocations(
        self, job_id: JobId, limit: int, after: InvocationId | None = None, status: Status | None = None
    ) -> Sequence[Invocation]:
        """List a job's invocations, newest first."""
        with self._lock:
            left = sorted(self._history(job_id, status))
            if after is not None:
                left = left[bisect_right(left, _path_of(job_id, after)) :]
            found: list[Invocation] = []
            while left and len(found) < limit:
                wanted = limit - len(found)
                found += self._readable(left[:wanted], self._invocation_at)
                left = left[wanted:]
            return found

    def count_invocations(self, job_id: JobId, status: Status, limit: int) -> int:
        """Count a job's invocations with a status."""
        with self._lock:
            return min(limit, len(self._history(job_id, status)))

    def _history(self, job_id: JobId, status: Status | None) -> list[Path]:
        """Return the documents of a job's invocations, in no order."""
        paths = self._under(*_named("jobs", job_id, "invocations"))
        if status is None:
            return paths
        return [path for path in paths if self._documents[path].document.get("status") == status]

    def invocations_by_id(self, keys: Sequence[tuple[JobId, InvocationId]]) -> Sequence[Invocation]:
        """Read many invocations at once."""
        with self._lock:
            return self._readable([_path_of(*key) for key in dict.fromkeys(keys)], self._invocation_at)

    def trigger(self, job_id: JobId, trigger_id: str) -> Versioned[TriggerRecord] | None:
        """Read a trigger or its marker."""
        stored = self._get("jobs", job_id, "triggers", trigger_id)
        return None if stored is None else _versioned(documents.decode_trigger(job_id, stored.document), stored)

    def triggers(self, keys: Sequence[tuple[JobId, str]]) -> Sequence[TriggerRecord]:
        """Read many triggers or markers at once."""
        with self._lock:
            paths = [_named("jobs", job_id, "triggers", trigger_id) for job_id, trigger_id in dict.fromkeys(keys)]
            return self._readable(paths, self._trigger_at)

    def triggers_of_revision(self, revision: str, limit: int) -> Sequence[TriggerRecord]:
        """Return the triggers of a commit in all jobs."""
        with self._lock:
            paths = self._of_revision(revision, "jobs")
            return self._readable(paths[:limit], self._trigger_at)

    def pending_triggers(self, job_id: JobId, limit: int) -> Sequence[Versioned[TriggerRecord]]:
        """Return pending triggers, the oldest first; an undecodable trigger is set aside."""
        with self._lock:
            found: list[Versioned[TriggerRecord]] = []
            for _ in range(documents.SET_ASIDE_ROUNDS):
                waiting = self._waiting(job_id)[:limit]
                found, bad = documents.decode_or_set_aside(waiting, "/".join, self._found_trigger)
                if not bad:
                    break
                for path, fields in bad:
                    document = {**self._documents[path].document, **fields}
                    self._documents[path] = _Stored(document, next(self._versions))
                    self._index(path, document)
            return found

    def _waiting(self, job_id: JobId) -> list[Path]:
        paths = self._pending.get(_named("jobs", job_id, "triggers"), {})
        # Equal keys are in the order of the documents' names, as in Firestore.
        places = {(self._documents[path].document["pending"], _encoded(path[-1])): path for path in paths}
        return [places[place] for place in sorted(places)]

    def _found_trigger(self, path: Path) -> Versioned[TriggerRecord]:
        stored = self._documents[path]
        return _versioned(documents.decode_trigger(JobId(path[1]), stored.document), stored)

    def _trigger_at(self, path: Path) -> Versioned[TriggerRecord] | None:
        return self.trigger(JobId(path[1]), path[3])

    def due_invocations(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Invocation]:
        """Return overdue invocations of all jobs."""
        with self._lock:
            due = [path for path in self._due if path[2:3] == ("invocations",) and self._is_due(path, before)]
            return self._readable(self._by_due(due, after)[:limit], self._invocation_at)

    def due_jobs(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Job]:
        """Return overdue jobs."""
        with self._lock:
            due = [path for path in self._due if _is_job(path) and self._is_due(path, before)]
            return self._readable(self._by_due(due, after)[:limit], self._job_at)

    def listed_jobs(self, wanted: JobList, limit: int, after: str = "") -> Sequence[Job]:
        """Return the jobs of a list by their place."""
        with self._lock:
            return self._readable(self._listed(wanted, after), self._job_at)[:limit]

    def count_jobs(self, wanted: JobList, limit: int) -> int:
        """Count the jobs of a list."""
        with self._lock:
            return min(limit, len(self._listed(wanted)))

    def count_job_commits(self, wanted: JobList, after: str = "", last: str = "") -> int:
        """Sum up the commits of the jobs in a part of a list."""
        with self._lock:
            found = [self._documents[path].document for path in self._listed(wanted, after)]
        return sum(document["commits"] for document in found if not last or document["place"] <= last)

    def jobs_that_trigger(self, job_id: JobId, limit: int) -> Sequence[Job]:
        """Return the jobs that trigger a job."""
        with self._lock:
            paths = [
                path for path in self._under("jobs") if job_id in self._documents[path].document.get("triggers", ())
            ]
            found = self._readable(sorted(paths, key=_name)[:limit], self._job_at)
        return sorted(found, key=lambda job: job.id)

    def _listed(self, wanted: JobList, after: str = "") -> list[Path]:
        """Return the documents of a list's jobs, sorted by place."""
        first, end = wanted.places(after)
        found = [
            (document["place"], path)
            for path, document in self._jobs_in(wanted.project, wanted.realms)
            if wanted.state in (None, document["state"])
            and first < (document["place"] or "")
            and (not end or document["place"] < end)
        ]
        return [path for _, path in sorted(found)]

    def _jobs_in(self, project: str, realms: tuple[str, ...] | None) -> list[tuple[Path, Mapping[str, Any]]]:
        """Return the jobs of a project and of these realms; None: of any realm."""
        jobs = [(path, self._documents[path].document) for path in self._under("jobs")]
        return [
            (path, document)
            for path, document in jobs
            if document.get("project") == project and (realms is None or document["realm"] in realms)
        ]

    def deferred(self, deferred_id: str) -> Versioned[Deferred] | None:
        """Read a deferred task."""
        stored = self._get("deferred", deferred_id)
        return None if stored is None else _versioned(documents.decode_deferred(deferred_id, stored.document), stored)

    def probe(self, probe_id: str) -> Versioned[Probe] | None:
        """Read a probe."""
        stored = self._get("probes", probe_id)
        return None if stored is None else _versioned(documents.decode_probe(probe_id, stored.document), stored)

    def due_deferred(self, before: Instant, limit: int, after: DueCursor | None = None) -> Sequence[Deferred]:
        """Return overdue deferred tasks."""
        with self._lock:
            due = [path for path in self._due if path[0] == "deferred" and self._is_due(path, before)]
            placed = {(self._documents[path].document["next_due"], _encoded(path[1])): path for path in due}
            end = (after.due, _encoded(after.deferred)) if after else None
            paths = [placed[place] for place in sorted(placed) if end is None or place > end]
            return self._readable(paths[:limit], lambda path: self.deferred(path[1]))

    def deferred_of_revision(self, revision: str, limit: int) -> Sequence[Deferred]:
        """Return the deferred tasks that wait for a commit."""
        with self._lock:
            paths = self._of_revision(revision, "deferred")
            return self._readable(paths[:limit], lambda path: self.deferred(path[1]))

    def _of_revision(self, revision: str, collection: str) -> list[Path]:
        """Return the documents of a commit in the order of Firestore, which decides where a limit cuts."""
        return sorted((path for path in self._by_revision.get(revision, ()) if path[0] == collection), key=_name)

    def _readable(self, paths: Iterable[Path], read: Callable[[Path], Versioned[T] | None]) -> list[T]:
        found = documents.decode_readable(paths, "/".join, read)
        return [item.value for item in found if item is not None]

    def _job_at(self, path: Path) -> Versioned[Job] | None:
        return self.job(JobId(path[1]))

    def _invocation_at(self, path: Path) -> Versioned[Invocation] | None:
        return self.invocation(JobId(path[1]), InvocationId(int(path[3])))

    def _by_due(self, due: Iterable[Path], after: DueCursor | None) -> list[Path]:
        """Return the documents after ``after``, in the order in which they are due."""
        placed = {_place(self._documents[path].document["next_due"], path): path for path in due}
        end = (after.due, _encoded(after.job_id), after.invocation_id) if after else None
        return [placed[place] for place in sorted(placed) if end is None or place > end]

    def commit(self, writes: Sequence[Write]) -> Sequence[Version]:
        """Apply all writes or none."""
        with self._lock:
            version = next(self._versions)
            changes: dict[Path, _Stored] = {}
            written: list[tuple[Write, Path, dict[str, Any]]] = []
            for write in writes:
                if isinstance(write, PutWatchers | PutPaused):
                    path, stored = self._merged(write, version, changes)
                else:
                    path, stored = self._prepared(write, version)
                changes[path] = stored
                written.append((write, path, stored.document))
            changes = {path: _kept_if_equal(self._documents.get(path), stored) for path, stored in changes.items()}
            for path, stored in changes.items():
                if stored.document:
                    self._documents[path] = stored
                    self._index(path, stored.document)
                else:
                    self._drop(path)
            return [documents.as_written(write, fields, changes[path].version) for write, path, fields in written]

    def _merged(
        self, write: PutWatchers | PutPaused, version: int, changes: Mapping[Path, _Stored]
    ) -> tuple[Path, _Stored]:
        """Return the document of a project's watchers after the write, and after earlier writes of the same commit."""
        if isinstance(write, PutWatchers):
            project, document = write.project, documents.encode_watchers(write.repo, write.project, write.watchers)
        else:
            project = project_of(write.trigger_job_id)
            document = documents.encode_paused(write.trigger_job_id, paused=write.paused)
        path = ("repositories", write.repo, documents.watchers_document_id(write.repo, project))
        before = (changes.get(path) or self._documents.get(path) or _Stored({}, 0)).document
        if "paused" in document:
            document = {**document, "paused": {**before.get("paused", {}), **document["paused"]}}
        changed = _Stored({**before, **document}, version)
        _refuse_like_firestore(path, changed)
        return path, changed

    def _prepared(self, write: CheckedWrite, version: int) -> tuple[Path, _Stored]:
        match write:
            case CreateInvocation(invocation, log):
                path = _invocation_path(invocation)
                document, log = documents.encode_invocation(invocation), debug_log.trim(log)
                documents.check_invocation_size(invocation, document, len(log.encode()))
                self._require(path, None)
                return path, _Stored(document, version, (log,) if log else ())
            case UpdateInvocation(invocation, expected, log, replaces_log):
                path = _invocation_path(invocation)
                state = documents.encode_invocation_state(invocation, expected)
                documents.check_invocation_size(invocation, state, invocation.log_size, expected)
                before = self._require(path, expected)
                kept = () if replaces_log else before.log
                chunks = (*kept, debug_log.trim(log)) if log else kept
                changed = _Stored({**before.document, **state}, version, chunks)
                _refuse_like_firestore(path, changed)
                return path, changed
            case DeleteDeferred(deferred_id, expected):
                self._require(("deferred", deferred_id), expected)
                return ("deferred", deferred_id), _Stored({}, version)
            case _:
                return self._put(write, version)

    def _put(self, write: WriteWhole, version: int) -> tuple[Path, _Stored]:
        path, document = documents.encode_write(write)
        documents.check_size("/".join(path), document)
        before = self._require(path, None if isinstance(write, CreateTrigger) else write.version)
        changed = _Stored({**before.document, **document}, version)
        _refuse_like_firestore(path, changed)
        return path, changed

    def _require(self, path: Path, expected: Version | None) -> _Stored:
        stored = self._documents.get(path)
        if (stored.version if stored else None) != (expected.at if expected else None):
            raise StoreConflictError(f"{'/'.join(path)} is not in the state that the commit requires")
        return replace(stored) if stored else _Stored({}, 0)

    def _get(self, *path: str) -> _Stored | None:
        with self._lock:
            return self._documents.get(_named(*path))

    def _under(self, *prefix: str) -> list[Path]:
        return list(self._folders.get(prefix, ()))

    def _index(self, path: Path, document: dict[str, Any]) -> None:
        self._folders.setdefault(path[:-1], {})[path] = None
        _keep(self._due, path, wanted=document.get("next_due") is not None)
        if revision := document.get("revision"):
            self._by_revision.setdefault(revision, {})[path] = None
        if "pending" in document:
            _keep(self._pending.setdefault(path[:-1], {}), path, wanted=bool(document["pending"]))

    def _drop(self, path: Path) -> None:
        document = self._documents.pop(path).document
        self._folders[path[:-1]].pop(path, None)
        self._due.pop(path, None)
        if revision := document.get("revision"):
            self._by_revision[revision].pop(path, None)

    def _is_due(self, path: Path, before: Instant) -> bool:
        due = self._documents[path].document["next_due"]
        return due is not None and due <= before


R = TypeVar("R", bound=documents.Record)


def _versioned(record: R, stored: _Stored) -> Versioned[R]:
    return documents.as_read(record, stored.document, stored.version)


def _kept_if_equal(before: _Stored | None, after: _Stored) -> _Stored:
    """Return a document after a commit. As in Firestore, a commit that does not change a document keeps its version."""
    is_equal = before is not None and (before.document, before.log) == (after.document, after.log)
    return replace(after, version=before.version) if before is not None and is_equal else after


def _is_job(path: Path) -> bool:
    return path[0] == "jobs" and len(path) == 2  # noqa: PLR2004


_encoded = lru_cache(1 << 16)(documents.document_id)


def _name(path: Path) -> Path:
    """Return a path as Firestore has it. Its order is that of equal documents in a query."""
    return tuple(name if place % 2 == 0 else _encoded(name) for place, name in enumerate(path))


Place = tuple[int, str, int]


def _place(due: int, path: Path) -> Place:
    return due, _encoded(path[1]), int(path[3]) if len(path) > 2 else NO_INVOCATION  # noqa: PLR2004


def _refuse_like_firestore(path: Path, stored: _Stored) -> None:
    """Refuse a document that is too large together with the fields that an update keeps, as Firestore does."""
    log = len("".join(stored.log).encode()) + _CHUNK * len(stored.log)
    size = documents.stored_size(stored.document) + log
    if size > _FIRESTORE_LIMIT:
        raise PermanentError(f"{'/'.join(path)} would have {size} bytes, Firestore takes {_FIRESTORE_LIMIT}")


def _invocation_path(invocation: Invocation) -> Path:
    return _path_of(invocation.job_id, invocation.id)


def _path_of(job_id: JobId, invocation_id: InvocationId) -> Path:
    return _named("jobs", job_id, "invocations", documents.invocation_document_id(invocation_id))


def _named(*path: str) -> Path:
    """Return a path, and refuse empty names as Firestore's adapter does."""
    if not all(path):
        documents.document_id("")
    return path


def _keep(index: dict[Path, None], path: Path, *, wanted: bool) -> None:
    if wanted:
        index[path] = None
    else:
        index.pop(path, None)
