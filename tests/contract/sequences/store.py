"""Sequences for the store: every method and every kind of write, on documents that also other versions wrote."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from emulator.memory.store import MemoryStore
from luci_scheduler.adapters import documents
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.cron_machine import CronState
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Flavor, Job, JobDefinition, JobState, Result, TaskDefinition
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.probe import Mark, Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    DeleteDeferred,
    JobList,
    PutDeferred,
    PutJob,
    PutPaused,
    PutPoller,
    PutProbe,
    PutProject,
    PutWatchers,
    Store,
    UpdateInvocation,
    UpdateTrigger,
    Version,
    Versioned,
    Write,
)
from tests.contract.sequences.harness import Operation, Side

__all__ = ["draw", "draw_large", "store_sides"]

# Few names, so that operations meet. The encodings of some sort differently from the names themselves.
_JOBS = (JobId("a/x"), JobId("a-b/x"), JobId("a/x (1)"), JobId("b/é"))
_TRIGGERS = ("t", "../é", "__u__", "é" * 600)
_PROJECTS = ("a", "a-b", "b")
_REPOS = ("https://r.googlesource.com/x", "https://r.googlesource.com/x.git")
_WORKS = ("commit-1", "trigger-2", "abort~3")
_PROBES = ("p", "q")
_REVISIONS = ("a" * 40, "b" * 40)
_STATUSES = (Status.STARTING, Status.RUNNING, Status.SUCCEEDED, Status.FAILED)
_REALMS = ("ci", "try")
_TASK = TaskDefinition("buildbucket", {"server": "s", "tags": ["a:b"]})
_TIMEOUT = 60.0  # seconds; a busy machine takes long
_NUMBERS = 5  # invocations of a job
_LATEST = 12  # due times

Path = tuple[str, ...]
Key = tuple[str, ...]
"""A kind of document, and its names."""


def _invocation_id(number: str) -> InvocationId:
    return InvocationId(8_000_000_000_000_000_000 + int(number) * 16)


# Records --------------------------------------------------------------------------------------------------------------


def _entropy(key: Key, variant: int) -> random.Random:
    return random.Random(f"{key} {variant}")  # noqa: S311 - to be drawn again


def _due(entropy: random.Random) -> Instant | None:
    return entropy.choice([None, *(Instant(at) for at in range(1, _LATEST))])


def _expiry(entropy: random.Random) -> Instant | None:
    return entropy.choice([None, Instant(1_900_000_000_000_000_000)])


def _job(key: Key, entropy: random.Random, padding: str) -> Job:
    status = entropy.choice(_STATUSES)
    definition = JobDefinition(
        TaskDefinition("noop", {"padding": padding}) if padding else _TASK,
        realm=entropy.choice(_REALMS),
        flavor=entropy.choice(list(Flavor)),
        triggered_jobs=tuple(sorted(entropy.sample(_JOBS, entropy.randint(0, 2)))),
    )
    return Job(
        JobId(key[1]),
        definition,
        enabled=entropy.random() < 0.8,
        paused=entropy.random() < 0.3,
        failed_polls=entropy.randint(0, 1),
        cron=CronState(last_tick_when=entropy.choice([None, Instant(9)])),
        triage_due=_due(entropy),
        active_invocations=tuple(_invocation_id(str(n)) for n in range(entropy.randint(0, 2))),
        recent=(Result(_invocation_id("1"), status, Instant(1), Instant(2), revisions=_REVISIONS[:1]),),
        commits=entropy.randint(0, 9),
    )


def _trigger(name: str, entropy: random.Random, padding: str = "") -> Trigger:
    revision = entropy.choice([*_REVISIONS, "main"])
    payload = {"repo": _REPOS[0], "ref": "refs/heads/main", "revision": revision, "properties": {"x": [1, ["é"]]}}
    kind = entropy.choice([PayloadKind.GITILES, PayloadKind.GITILES, PayloadKind.NOOP])
    created, order = Instant(entropy.randint(1, 4)), entropy.randint(0, 2)
    return Trigger(name, created, kind, payload, order_in_batch=order, title=padding or "<t>")


def _invocation(key: Key, entropy: random.Random, padding: str) -> Invocation:
    status = entropy.choice(_STATUSES)
    return Invocation(
        _invocation_id(key[2]),
        JobId(key[1]),
        Instant(1_600_000_000_123_456_000),
        _TASK,
        status=status,
        properties={"padding": padding},
        incoming_triggers=(_trigger("t/é", entropy),),
        pending_timers=(Timer("a/x:1:2:0", "check", Instant(1), Instant(1_600_000_000_000_000_001)),),
        commits=entropy.randint(0, 9),
        next_due=_due(entropy),
        expires=_expiry(entropy) if status.is_final else None,
    )


def _trigger_record(key: Key, entropy: random.Random, padding: str) -> TriggerRecord:
    pending = entropy.random() < 0.6
    return TriggerRecord(
        JobId(key[1]),
        _trigger(key[2], entropy, padding),
        resolved=None if pending else Instant(7),
        expires=None if pending else _expiry(entropy),
        deliveries=("d",) * entropy.randint(0, 2),
    )


def _deferred(key: Key, entropy: random.Random, padding: str) -> Deferred:
    due = Instant(entropy.randint(1, _LATEST))
    revision = entropy.choice([*_REVISIONS, ""])
    payload = {"x": [1, ["nested"]], "padding": padding}
    return Deferred(key[1], "trigger", payload, Instant(1), due, Instant(99), entropy.randint(0, 3), revision)


def _poller(key: Key, entropy: random.Random, padding: str) -> PollerRecord:
    known = {f"refs/heads/b{n}": entropy.choice(_REVISIONS) for n in range(entropy.randint(0, 3))}
    backlog = {"refs/heads/b1": Backlog(_REVISIONS[0], 7)} if entropy.random() < 0.3 else {}
    return PollerRecord(JobId(key[1]), _REPOS[0] + padding, known, ("refs/heads/.*",), entropy.randint(0, 9), backlog)


def _probe(key: Key, entropy: random.Random, padding: str) -> Probe:
    mark = Mark(Instant(5), padding, 1, 1, "token", ("on_task",))
    return Probe(key[1], Instant(entropy.randint(1, 9)), {"on_task": mark}, done=entropy.random() < 0.5)


def _project(key: Key, entropy: random.Random, padding: str) -> ProjectRecord:
    return ProjectRecord(key[1], f"rev{entropy.randint(0, 3)}", padding, (_JOBS[0],), warning_count=1)


_RECORDS: Mapping[str, Callable[[Key, random.Random, str], Any]] = {
    "job": _job,
    "invocation": _invocation,
    "trigger": _trigger_record,
    "deferred": _deferred,
    "poller": _poller,
    "probe": _probe,
    "project": _project,
}


def _path(key: Key) -> Path:
    """Return the path of a document as the store in memory has it."""
    kind, *names = key
    match kind:
        case "invocation":
            return ("jobs", names[0], "invocations", documents.invocation_document_id(_invocation_id(names[1])))
        case "trigger":
            return ("jobs", names[0], "triggers", names[1])
        case "watchers":
            return ("repositories", names[0], documents.watchers_document_id(*names))
        case "deferred":
            return ("deferred", names[0])
        case _:
            return (f"{kind}s", names[0])


def _encoded(path: Path) -> str:
    """Return the path of a document as Firestore has it."""
    if path[0] == "repositories":
        return f"repositories/{path[2]}"
    return "/".join(name if place % 2 == 0 else documents.document_id(name) for place, name in enumerate(path))


# Drawing --------------------------------------------------------------------------------------------------------------


def _key(entropy: random.Random, kind: str = "") -> Key:
    kind = kind or entropy.choice(["job", "job", "invocation", "invocation", "trigger", "trigger", *_RECORDS])
    names = {"deferred": _WORKS, "probe": _PROBES, "project": _PROJECTS}.get(kind, _JOBS)
    key: Key = (kind, entropy.choice(names))
    if kind == "invocation":
        return (*key, str(entropy.randrange(_NUMBERS)))
    return (*key, entropy.choice(_TRIGGERS)) if kind == "trigger" else key


def _write(entropy: random.Random) -> tuple[Any, ...]:
    """Return a write: its kind, the document, the version that it requires, and the number of its record."""
    roll = entropy.random()
    if roll < 0.12:
        return ("watchers", entropy.choice(_REPOS), entropy.choice(_PROJECTS), entropy.randint(0, 3))
    if roll < 0.2:
        return ("paused", entropy.choice(_REPOS), entropy.choice(_PROJECTS), entropy.random() < 0.5)
    key, version = _key(entropy), entropy.choices(["none", "latest", "first", "foreign"], [10, 8, 2, 1])[0]
    if key[0] == "deferred" and roll > 0.6:
        return ("delete", key, version)
    log = entropy.choice(["", "a line\n", "é\n" * 3, "replaced\n"])
    return ("put", key, version, entropy.randint(0, 20), 0, log)


def _writes(entropy: random.Random) -> Operation:
    return Operation("commit", (tuple(_write(entropy) for _ in range(entropy.choice([1, 1, 1, 2, 3, 4]))),))


def _limit(entropy: random.Random) -> int:
    return entropy.choice([1, 2, 3, 50])


def _read(entropy: random.Random) -> Operation:
    keys = tuple(_key(entropy, entropy.choice(list(_RECORDS))) for _ in range(3))
    return Operation(*entropy.choice([("read", (keys[0],)), ("read_many", (keys[0][0], keys))]))


def _listing(entropy: random.Random) -> Operation:
    job, limit, due = entropy.choice(_JOBS), _limit(entropy), Instant(entropy.randint(0, _LATEST))
    status = entropy.choice([None, *_STATUSES])
    choices: list[tuple[str, tuple[Any, ...]]] = [
        ("watchers", (entropy.choice(_REPOS),)),
        ("projects", ()),
        ("invocations", (job, limit, entropy.choice([None, *range(_NUMBERS)]), status)),
        ("count_invocations", (job, status or Status.FAILED, limit)),
        ("pending_triggers", (job, limit)),
        ("triggers_of_revision", (entropy.choice(_REVISIONS), limit)),
        ("deferred_of_revision", (entropy.choice(_REVISIONS), limit)),
        ("due", (entropy.choice(["invocations", "jobs", "deferred"]), due, entropy.choice([1, 2]))),
        ("jobs_that_trigger", (job, limit)),
        ("triage_log", (job,)),
        ("log", (job, entropy.randrange(_NUMBERS))),
        ("listed", (_job_list(entropy), limit, entropy.random() < 0.5)),
        ("counted", (_job_list(entropy), limit)),
    ]
    return Operation(*entropy.choice(choices))


def _job_list(entropy: random.Random) -> JobList:
    many = tuple(f"r{number}" for number in range(31))
    realms = entropy.choice([None, None, ("ci",), ("try", "ci"), (), (*many, "ci")])
    return JobList(entropy.choice(_PROJECTS), realms, entropy.choice([None, *JobState]), entropy.random() < 0.3)


_SPOILED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "invocation": ({"state": "["}, {"schema": 2}, {"state": '{"status": "PAUSED_BY_NEWER"}'}, {"definition": "{}"}),
    "watchers": ({"watchers": "["}, {"schema": 2}, {"watchers": "[[1]]"}),
    "poller": ({"state": b"?"}, {"schema": 2}),
    "probe": ({"state": "["}, {"schema": 2}),
}
_ANY_SPOILED = ({"record": "["}, {"record": "{}"}, {"schema": 2}, {"record": "[" * 5_000})


def _spoil(entropy: random.Random) -> Operation:
    key = _key(entropy, entropy.choice([*_RECORDS, "trigger", "invocation", "watchers"]))
    if key[0] == "watchers":
        key = ("watchers", entropy.choice(_REPOS), entropy.choice(_PROJECTS))
    return Operation("spoil", (key, entropy.choice(_SPOILED.get(key[0], _ANY_SPOILED))))


def draw(entropy: random.Random) -> Operation:
    """Draw an operation on small documents."""
    return entropy.choices([_writes, _read, _listing, _spoil], [9, 4, 6, 1])[0](entropy)


def draw_large(entropy: random.Random) -> Operation:
    """Draw a write of a document around the size limit, or a read of one."""
    if entropy.random() < 0.2:
        return Operation("read", (_key(entropy),))
    key, version = _key(entropy), entropy.choice(["none", "latest", "latest"])
    padding = entropy.choice([998_000, 999_000, 999_500, 999_999, 1_000_000, 1_000_001, 500_000])
    log = entropy.choice(["", "x" * 1_000, "y" * 150_000])
    return Operation("commit", ((("put", key, version, entropy.randint(0, 20), padding, log),),))


# Both sides -----------------------------------------------------------------------------------------------------------


class _StoreSide(Side):
    """A store, with the versions of each document that were seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[Path, list[Version]] = {}
        self._commits = 0

    def do_commit(self, specs: Sequence[tuple[Any, ...]]) -> object:
        """Commit some writes; return the numbers of the new versions.

        Only watchers and paused marks may share a document: the scheduler makes no other commit with two writes of one.
        """
        self._commits += 1
        writes: list[tuple[Path, Write]] = []
        for path, write in map(self._write, specs):
            taken = path in [other for other, _ in writes]
            if write is not None and (not taken or isinstance(write, PutWatchers | PutPaused)):
                writes.append((path, write))
        versions = self._store.commit([write for _, write in writes])
        kept = zip(writes, versions, strict=True)
        return [None if isinstance(write, DeleteDeferred) else self._number(path, v) for (path, write), v in kept]

    def _write(self, spec: tuple[Any, ...]) -> tuple[Path, Write | None]:
        match spec:
            case ("watchers", repo, project, number):
                watchers = tuple(_watcher(repo, project, n) for n in range(number))
                return _path(("watchers", repo, project)), PutWatchers(repo, project, watchers)
            case ("paused", repo, project, paused):
                trigger = JobId(f"{project}/t1")
                return _path(("watchers", repo, project)), PutPaused(repo, trigger, paused=paused)
            case ("delete", key, wanted):
                version = self._version(_path(key), wanted)
                return _path(key), version and DeleteDeferred(key[1], version)
            case (_, key, wanted, variant, padding, log):
                version = self._version(_path(key), wanted)
                record = _RECORDS[key[0]](key, _entropy(key, variant), "x" * padding)
                if isinstance(record, Invocation):  # each commit raises the number, which keeps equal lines apart
                    record = replace(record, commits=self._commits)
                return _path(key), _put(key[0], record, version, log)
        raise AssertionError(spec)

    def _version(self, path: Path, wanted: str) -> Version | None:
        """Return a version that was seen: of this document, or an older foreign one. None: none, or none was seen.

        A foreign version that is newer than the document is no version that a caller can hold. The emulator refuses it
        as an invalid argument.
        """
        seen = self._seen.get(path, [])
        if wanted == "foreign":
            others = [versions[0] for other, versions in self._seen.items() if other != path]
            return next((version for version in others if seen and version.at < seen[-1].at), None)
        return None if wanted == "none" or not seen else seen[-1] if wanted == "latest" else seen[0]

    def _number(self, path: Path, version: Version) -> int:
        """Return the place of a version among the versions of its document: what a caller can know of it."""
        seen = self._seen.setdefault(path, [])
        if version not in seen:
            seen.append(version)
        return seen.index(version)

    def _plain(self, key: Key, found: Versioned[Any] | None) -> object:
        return None if found is None else (found.value, self._number(_path(key), found.version))

    def do_read(self, key: Key) -> object:
        """Read one document."""
        return self._plain(key, self._found(key))

    def _found(self, key: Key) -> Versioned[Any] | None:
        store, job_id = self._store, JobId(key[1])
        match key[0]:
            case "invocation":
                return store.invocation(job_id, _invocation_id(key[2]))
            case "trigger":
                return store.trigger(job_id, key[2])
            case kind:
                read: Callable[[str], Versioned[Any] | None] = getattr(store, kind)
                return read(key[1])

    def do_read_many(self, kind: str, keys: Sequence[Key]) -> object:
        """Read documents of one kind in one call."""
        names = [key[1:] for key in keys if key[0] == kind]
        match kind:
            case "job":
                jobs = [JobId(name) for (name,) in names]
                found = self._store.found_jobs(jobs)
                return _sorted(self._store.jobs(jobs)), _sorted(self._plain(("job", i.value.id), i) for i in found)
            case "invocation":
                ids = [(JobId(name), _invocation_id(number)) for name, number in names]
                return _sorted(self._store.invocations_by_id(ids))
            case "trigger":
                return _sorted(self._store.triggers([(JobId(name), trigger) for name, trigger in names]))
            case _:
                return self.do_read(keys[0])

    def do_watchers(self, repo: str) -> object:
        """List the watchers of a repository."""
        return list(self._store.watchers(repo))

    def do_projects(self) -> object:
        """List the projects."""
        return list(self._store.projects())

    def do_invocations(self, job_id: JobId, limit: int, after: int | None, status: Status | None) -> object:
        """List invocations."""
        place = None if after is None else _invocation_id(str(after))
        return list(self._store.invocations(job_id, limit, place, status))

    def do_count_invocations(self, job_id: JobId, status: Status, limit: int) -> object:
        """Count invocations."""
        return self._store.count_invocations(job_id, status, limit)

    def do_pending_triggers(self, job_id: JobId, limit: int) -> object:
        """List pending triggers; unreadable ones are set aside."""
        found = self._store.pending_triggers(job_id, limit)
        return [self._plain(("trigger", job_id, item.value.trigger.id), item) for item in found]

    def do_triggers_of_revision(self, revision: str, limit: int) -> object:
        """List the triggers of a commit."""
        return _sorted(self._store.triggers_of_revision(revision, limit))

    def do_deferred_of_revision(self, revision: str, limit: int) -> object:
        """List the deferred tasks of a commit."""
        return _sorted(self._store.deferred_of_revision(revision, limit))

    def do_due(self, kind: str, before: Instant, limit: int) -> object:
        """List due records in pages. Each page starts after the last record of the page before."""
        read: Callable[..., Sequence[Any]] = getattr(self._store, f"due_{kind}")
        pages = [list(read(before, limit))]
        while len(pages[-1]) == limit:
            pages.append(list(read(before, limit, _cursor(pages[-1][-1]))))
        return pages

    def do_jobs_that_trigger(self, job_id: JobId, limit: int) -> object:
        """List the jobs that trigger a job."""
        return list(self._store.jobs_that_trigger(job_id, limit))

    def do_triage_log(self, job_id: JobId) -> object:
        """Read a triage log."""
        return self._store.triage_log(job_id)

    def do_log(self, job_id: JobId, number: int) -> object:
        """Read an invocation with its log."""
        found = self._store.invocation_with_log(job_id, _invocation_id(str(number)))
        return found and (self._plain(("invocation", job_id, str(number)), found[0]), found[1])

    def do_listed(self, wanted: JobList, limit: int, more: bool) -> object:
        """List jobs, and the jobs after the first page."""
        pages = [list(self._store.listed_jobs(wanted, limit))]
        while more and len(pages[-1]) == limit:
            pages.append(list(self._store.listed_jobs(wanted, limit, pages[-1][-1].place)))
        return pages

    def do_counted(self, wanted: JobList, limit: int) -> object:
        """Count jobs and their commits, in all and in parts."""
        sums = [self._store.count_job_commits(wanted, *part) for part in ((), ("1",), ("0", "1x"), ("", "2"))]
        return self._store.count_jobs(wanted, limit), sums

    def do_spoil(self, key: Key, fields: Mapping[str, Any]) -> object:
        """Change a document like another version of the functions, if it exists."""
        return self._spoil(_path(key), fields)

    @abstractmethod
    def _spoil(self, path: Path, fields: Mapping[str, Any]) -> bool: ...


class _MemorySide(_StoreSide):
    _store: MemoryStore

    def _spoil(self, path: Path, fields: Mapping[str, Any]) -> bool:
        rows = [row for row in self._store.kept() if row[0] == path]
        self._store.keep([(path, {**document, **fields}, log) for path, document, log in rows])
        return bool(rows)

    def state(self) -> object:
        """Return all documents."""
        return {
            _encoded(path): {**document, "log": list(log)} if path[2:3] == ("invocations",) else dict(document)
            for path, document, log in self._store.kept()
        }


class _FirestoreSide(_StoreSide):
    _store: FirestoreStore

    def _spoil(self, path: Path, fields: Mapping[str, Any]) -> bool:
        reference = self._store._client.document(_encoded(path))
        if exists := reference.get().exists:
            reference.update(dict(fields))
        return bool(exists)

    def state(self) -> object:
        """Return all documents."""
        client = self._store._client
        groups = [client.collection(name) for name in ("jobs", "projects", "pollers", "repositories", "deferred")]
        groups += [client.collection("probes"), client.collection_group("invocations")]
        groups += [client.collection_group("triggers")]
        found = {}
        for group in groups:
            for snapshot in group.stream():
                document = snapshot.to_dict()
                if snapshot.reference.parent.id == "invocations":
                    document["log"] = [chunk["text"] for chunk in document.get("log", ())]
                found[snapshot.reference.path] = document
        return found


@contextmanager
def store_sides(client: Any) -> Iterator[tuple[Side, Side]]:
    """Yield both stores, empty; ``client`` has a project without documents."""
    yield _MemorySide(MemoryStore()), _FirestoreSide(FirestoreStore(client, _TIMEOUT))


def _sorted(items: Any) -> list[Any]:
    return sorted(items, key=repr)


def _watcher(repo: str, project: str, number: int) -> Watcher:
    paths = ((r".+\.c",), ("x",)) if number == 2 else ((), ())
    return Watcher(JobId(f"{project}/j{number}"), JobId(f"{project}/t{number}"), repo, ("refs/heads/é",), *paths)


def _put(kind: str, record: Any, version: Version | None, log: str) -> Write:
    """Return the write of a record. A write that needs a version creates the document without one."""
    match kind:
        case "invocation":
            if version is None:
                return CreateInvocation(record, log)
            return UpdateInvocation(record, version, log, replaces_log=log.startswith("replaced"))
        case "trigger":
            return CreateTrigger(record) if version is None else UpdateTrigger(record, version)
        case "job":
            return PutJob(record, version, log or None)
        case _:
            writes: Mapping[str, Callable[[Any, Version | None], Write]] = {
                "deferred": PutDeferred,
                "poller": PutPoller,
                "probe": PutProbe,
                "project": PutProject,
            }
            return writes[kind](record, version)


def _cursor(item: Any) -> DueCursor:
    match item:
        case Invocation():
            return DueCursor(item.next_due or Instant(0), item.job_id, item.id)
        case Job():
            return DueCursor(item.next_due or Instant(0), item.id)
        case _:
            return DueCursor(item.next_due, JobId(""), deferred=item.id)
