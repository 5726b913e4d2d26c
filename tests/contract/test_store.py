"""One suite for both stores: in memory, and Firestore on the official emulator."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.store import MemoryStore, _Stored
from luci_scheduler.adapters import documents
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import NewerVersionError, PermanentError, StoreConflictError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Flavor, Job, JobDefinition, JobState, Result, TaskDefinition
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.probe import Finding, Mark, Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger import Trigger
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
    Versioned,
    Write,
)

JOB_ID = JobId("proj/job (1)")
TASK = TaskDefinition("buildbucket", {"server": "s", "builder": "b", "tags": ["a:b"]})


@pytest.fixture(params=["memory", pytest.param("firestore", marks=pytest.mark.emulators)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each store in turn."""
    if request.param == "memory":
        yield MemoryStore()
    else:
        yield FirestoreStore(request.getfixturevalue("firestore_client"))


def _invocation(number: int = 1, **changes: Any) -> Invocation:
    trigger = Trigger("t/é", Instant(5), "gitiles", {"repo": "r", "ref": "x", "revision": "y"}, title="<t>")
    return replace(
        Invocation(
            id=InvocationId(8_000_000_000_000_000_000 + number * 16),
            job_id=JOB_ID,
            started=Instant(1_600_000_000_123_456_000),
            task=TASK,
            properties={"n": [1, ["nested"]], "s": "é"},
            tags=("a:b",),
            incoming_triggers=(trigger,),
            next_due=Instant(100),
        ),
        **changes,
    )


def test_invocation_is_read_as_written(store: Store) -> None:
    """Every field survives, including nested lists and 64-bit numbers. The log is separate."""
    timer = Timer("proj/job (1):1:2:0", "check", Instant(1), Instant(1_600_000_000_000_000_001))
    written = _invocation(
        status=Status.RUNNING,
        pending_timers=(timer,),
        task_data={"build_id": "1"},
        finished=Instant(7),
        claim_until=Instant(9),
    )
    (version,) = store.commit([CreateInvocation(written, "line 1\n")])
    found = store.invocation(JOB_ID, written.id)
    assert found is not None
    assert found.value == written
    assert found.version == version
    with_log = store.invocation_with_log(JOB_ID, written.id)
    assert with_log is not None
    assert with_log[1] == "line 1\n"


def test_absent_documents_are_none(store: Store) -> None:
    """A read of a missing record returns None, not an error."""
    assert store.job(JOB_ID) is None
    assert store.invocation(JOB_ID, InvocationId(16)) is None
    assert store.trigger(JOB_ID, "t") is None
    assert store.project("proj") is None
    assert list(store.watchers("https://r.googlesource.com/x")) == []


def test_creating_an_existing_invocation_is_refused(store: Store) -> None:
    """A second creation changes nothing, and its commit writes nothing."""
    store.commit([CreateInvocation(_invocation(1))])
    with pytest.raises(StoreConflictError):
        store.commit([CreateInvocation(_invocation(2)), CreateInvocation(_invocation(1, attempts=7))])
    assert store.invocation(JOB_ID, _invocation(2).id) is None
    found = store.invocation(JOB_ID, _invocation(1).id)
    assert found is not None
    assert found.value.attempts == 0


def test_an_update_under_a_stale_version_writes_nothing(store: Store) -> None:
    """Compare and swap: the loser writes nothing, neither this document nor the other documents of its commit."""
    job = Job(JOB_ID, JobDefinition(TASK))
    created, job_version = store.commit([CreateInvocation(_invocation()), PutJob(job, None)])
    (newer,) = store.commit([UpdateInvocation(_invocation(commits=1), created, "a\n")])
    with pytest.raises(StoreConflictError):
        store.commit(
            [
                PutJob(replace(job, paused=True, commits=1), job_version),
                UpdateInvocation(_invocation(commits=2), created),
            ]
        )
    assert newer != created
    found = store.job(JOB_ID)
    assert found is not None
    assert not found.value.paused
    assert found.value == job


def test_log_grows_in_order_and_equal_lines_stay(store: Store) -> None:
    """Chunks are appended without a read of the log, including equal chunks."""
    (version,) = store.commit([CreateInvocation(_invocation(), "first\n")])
    for number in range(1, 4):
        (version,) = store.commit([UpdateInvocation(_invocation(commits=number), version, "same\n")])
    with_log = store.invocation_with_log(JOB_ID, _invocation().id)
    assert with_log is not None
    assert with_log[1] == "first\nsame\nsame\nsame\n"


def test_definition_stays_when_the_state_changes(store: Store) -> None:
    """An update sends only the state. The constant part is kept."""
    (version,) = store.commit([CreateInvocation(_invocation())])
    store.commit([UpdateInvocation(_invocation(status=Status.SUCCEEDED, next_due=None, commits=1), version)])
    found = store.invocation(JOB_ID, _invocation().id)
    assert found is not None
    assert found.value.properties == {"n": [1, ["nested"]], "s": "é"}
    assert found.value.status is Status.SUCCEEDED


def test_invocations_are_listed_newest_first_in_pages(store: Store) -> None:
    """IDs fall with time: an ascending scan is newest first, and a page begins after the last one."""
    store.commit([CreateInvocation(_invocation(number)) for number in (3, 1, 2)])
    ids = [item.id for item in store.invocations(JOB_ID, 2)]
    assert ids == [_invocation(1).id, _invocation(2).id]
    assert [item.id for item in store.invocations(JOB_ID, 2, after=ids[-1])] == [_invocation(3).id]


def test_overdue_invocations_of_all_jobs(store: Store) -> None:
    """The sweep sees due invocations, most overdue first, and none without a due time."""
    other = JobId("zeta/job")
    store.commit(
        [
            CreateInvocation(_invocation(1, next_due=Instant(30))),
            CreateInvocation(_invocation(2, next_due=Instant(10), job_id=other)),
            CreateInvocation(_invocation(3, next_due=Instant(31))),
            CreateInvocation(_invocation(4, next_due=None)),
        ]
    )
    assert [(item.job_id, item.next_due) for item in store.due_invocations(Instant(30), 10)] == [
        (other, 10),
        (JOB_ID, 30),
    ]
    assert len(store.due_invocations(Instant(30), 1)) == 1


def test_overdue_jobs_are_listed(store: Store) -> None:
    """Jobs have a separate due time."""
    store.commit(
        [
            PutJob(Job(JOB_ID, JobDefinition(TASK), triage_due=Instant(5)), None),
            PutJob(Job(JobId("a/b"), JobDefinition(TASK)), None),
        ]
    )
    assert [job.id for job in store.due_jobs(Instant(5), 10)] == [JOB_ID]


def test_overdue_invocations_and_jobs_in_pages(store: Store) -> None:
    """A page begins after the last record, even if others are due at the same instant."""
    ids = [JobId("a/b"), JOB_ID, JobId("zeta/job")]
    invocations = [
        _invocation(number, next_due=Instant(10), job_id=job_id) for number, job_id in enumerate(ids * 2, start=1)
    ]
    invocations.append(_invocation(7, next_due=Instant(9)))
    jobs = [Job(job_id, JobDefinition(TASK), triage_due=Instant(5)) for job_id in ids]
    store.commit([*map(CreateInvocation, invocations), *(PutJob(job, None) for job in jobs)])
    due, last = [], None
    while page := store.due_invocations(Instant(10), 2, last):
        last = DueCursor(page[-1].next_due or Instant(0), page[-1].job_id, page[-1].id)
        due += [item.id for item in page]
    assert due[0] == invocations[-1].id
    assert sorted(due) == [item.id for item in invocations]
    first = list(store.due_jobs(Instant(5), 2))
    assert [*first, *store.due_jobs(Instant(5), 2, DueCursor(Instant(5), first[-1].id))] == jobs


def test_pending_triggers_oldest_first_and_markers_never(store: Store) -> None:
    """A trigger is pending until it is resolved. Awkward IDs do not collide."""
    ids = ["https://r/+/refs/heads/a@1", "..", "__x__", "é" * 600]
    records = [TriggerRecord(JOB_ID, Trigger(name, Instant(100 - n)), deliveries=("d",)) for n, name in enumerate(ids)]
    versions = store.commit([CreateTrigger(record) for record in records])
    assert [found.value.trigger.id for found in store.pending_triggers(JOB_ID, 10)] == ids[::-1]
    store.commit([UpdateTrigger(replace(records[0], invocation_id=InvocationId(16), resolved=Instant(9)), versions[0])])
    assert [found.value.trigger.id for found in store.pending_triggers(JOB_ID, 2)] == ids[:1:-1]
    marker = store.trigger(JOB_ID, ids[0])
    assert marker is not None
    assert (marker.value.invocation_id, marker.value.deliveries) == (16, ("d",))


def test_watchers_of_projects_do_not_disturb_each_other(store: Store) -> None:
    """Each project has its own document and replaces only that. A repository with a similar name is another one."""
    repo = "https://r.googlesource.com/x"
    mine = Watcher(JobId("a/j"), JobId("a/t"), repo, ("refs/heads/main",))
    yours = Watcher(JobId("b/j"), JobId("b/t"), f"{repo}.git", ("regexp:refs/heads/.*",), (r".+\.c",), ("x",))
    store.commit([PutWatchers(repo, "a", (mine,))])
    store.commit([PutWatchers(repo, "b", (yours,))])
    assert list(store.watchers(repo)) == [mine, yours]
    for other in (f"{repo}/y", f"{repo}y", f"{repo}!a", f'{repo}"', f"{repo}~", repo[:-1]):
        store.commit([PutWatchers(other, "a", (replace(mine, repo=other),))])
        assert [watcher.repo for watcher in store.watchers(other)] == [other]
    assert list(store.watchers(repo)) == [mine, yours]
    store.commit([PutWatchers(repo, "a", ())])
    assert list(store.watchers(repo)) == [yours]


def _put_raw(store: Store, repo: str, name: str, document: dict[str, Any]) -> None:
    """Write a document of a repository's watchers like another version of the functions."""
    if isinstance(store, MemoryStore):
        path = ("repositories", repo, name)
        store._documents[path] = _Stored(document, 1)
        store._index(path, document)
    else:
        assert isinstance(store, FirestoreStore)
        store._client.collection("repositories").document(name).set(document)


def _row(watcher: Watcher) -> str:
    return f'[["{watcher.job_id}","{watcher.trigger_job_id}","{watcher.repo}",["{watcher.refs[0]}"]]]'


def test_watchers_that_an_older_version_stored_are_read(store: Store) -> None:
    """Older functions had one document for all projects of a repository.

    The projects' documents override it, including its marks.
    """
    repo = "https://r.googlesource.com/x"
    a, b, c = (Watcher(JobId(f"{p}/j"), JobId(f"{p}/t"), repo, ("refs/heads/main",)) for p in "abc")
    older = {"projects": {"a": _row(a), "b": _row(b)}, "paused": {"a/t": True, "b/t": True}}
    _put_raw(store, repo, documents.document_id(repo), {"schema": 1, **older})
    assert list(store.watchers(repo)) == [replace(a, paused=True), replace(b, paused=True)]
    store.commit([PutPaused(repo, b.trigger_job_id, paused=False), PutWatchers(repo, "c", (c,))])
    assert list(store.watchers(repo)) == [replace(a, paused=True), b, c]
    moved = replace(a, refs=("refs/heads/dev",))
    store.commit([PutWatchers(repo, "a", (moved,))])
    assert list(store.watchers(repo)) == [replace(moved, paused=True), b, c]
    store.commit([PutWatchers(repo, "b", ()), PutPaused(repo, a.trigger_job_id, paused=False)])
    assert list(store.watchers(repo)) == [moved, c]


def test_a_project_with_unreadable_watchers_is_left_out(store: Store) -> None:
    """Other projects get their commits. The log names the unreadable project."""
    repo = "https://r.googlesource.com/x"
    mine = Watcher(JobId("b/j"), JobId("b/t"), repo, ("refs/heads/main",))
    _put_raw(store, repo, documents.watchers_document_id(repo, "a"), {"schema": 1, "watchers": "a text"})
    store.commit([PutWatchers(repo, "b", (mine,))])
    with capture_logs() as logs:
        assert list(store.watchers(repo)) == [mine]
    assert [(line["event"], line["document"]) for line in logs] == [
        ("document_unreadable", "the watchers of project a")
    ]


def test_a_project_fills_its_own_document_of_watchers_only(store: Store) -> None:
    """A document that is too large is refused before any write, with the project's name.

    Other projects keep their room.
    """
    repo = "https://r.googlesource.com/x"

    def watchers(project: str, number: int) -> tuple[Watcher, ...]:
        return tuple(
            Watcher(JobId(f"{project}/j"), JobId(f"{project}/t{n}"), repo, ("refs/heads/main",), ("y" * 1900,))
            for n in range(number)
        )

    with pytest.raises(
        PermanentError,
        match=f"the watchers that project a has of {repo} would take 10[0-9]+ bytes, at most 1000000 fit",
    ):
        store.commit([PutWatchers(repo, "a", watchers("a", 510))])
    assert list(store.watchers(repo)) == []
    for project in "abc":
        store.commit([PutWatchers(repo, project, watchers(project, 490))])
    assert len(store.watchers(repo)) == 3 * 490
    for number in range(490):
        store.commit([PutPaused(repo, JobId(f"a/t{number}"), paused=True)])
    assert sum(watcher.paused for watcher in store.watchers(repo)) == 490


def test_paused_triggers_are_marked(store: Store) -> None:
    """Marks are stored next to the watchers, so a project's replacement does not touch them.

    A repetition changes nothing.
    """
    repo, trigger = "https://r.googlesource.com/x", JobId("a/t (1).x")
    mine = Watcher(JobId("a/j"), trigger, repo, ("refs/heads/main",))
    yours = Watcher(JobId("b/j"), JobId("b/t"), repo, ("refs/heads/main",))
    store.commit([PutPaused(repo, trigger, paused=True)])
    assert list(store.watchers(repo)) == []
    store.commit([PutWatchers(repo, "a", (mine,)), PutWatchers(repo, "b", (yours,))])
    assert list(store.watchers(repo)) == [replace(mine, paused=True), yours]
    store.commit([PutPaused(repo, yours.trigger_job_id, paused=True)])
    for _ in range(2):
        store.commit([PutPaused(repo, trigger, paused=False), PutWatchers(repo, "a", (mine,))])
    assert list(store.watchers(repo)) == [mine, replace(yours, paused=True)]


def test_project_record(store: Store) -> None:
    """A project's record is read as written, and replaced under its version."""
    record = ProjectRecord("proj", "rev", "url", (JOB_ID,), ("r",), ("line 1: bad",), ("line 2: old",), 1)
    store.commit([PutProject(record, None)])
    found = store.project("proj")
    assert found is not None
    assert found.value == record
    store.commit([PutProject(replace(record, problems=(), commits=1), found.version)])
    with pytest.raises(StoreConflictError):
        store.commit([PutProject(replace(record, commits=2), found.version)])


def test_a_write_that_is_too_large_is_refused_before_it_is_sent(store: Store) -> None:
    """No document can reach the store's limit, and a refused commit writes nothing."""
    with pytest.raises(PermanentError, match="1000000"):
        store.commit(
            [CreateInvocation(_invocation(2)), CreateInvocation(_invocation(1, properties={"x": "y" * 1_000_000}))]
        )
    assert store.invocation(JOB_ID, _invocation(2).id) is None


def test_an_update_is_refused_if_the_whole_document_becomes_too_large(store: Store) -> None:
    """An update does not send definition and log again, but both count. A refused update writes nothing."""
    written = _invocation(properties={"x": "y" * 700_000})
    (version,) = store.commit([CreateInvocation(written)])
    grown = replace(written, commits=1, log_size=190_000)
    (version,) = store.commit([UpdateInvocation(grown, version, "z" * 190_000)])
    with pytest.raises(PermanentError, match="1000000"):
        store.commit([UpdateInvocation(replace(grown, commits=2, log_size=310_000), version, "z" * 120_000)])
    with pytest.raises(PermanentError, match="1000000"):
        store.commit([UpdateInvocation(replace(grown, commits=2, view_url="v" * 120_000), version)])
    found = store.invocation_with_log(JOB_ID, written.id)
    assert found is not None
    assert (found[0].value, found[0].version, len(found[1])) == (grown, version, 190_000)


def _spoil(store: Store, path: tuple[str, ...], fields: dict[str, Any]) -> None:
    """Change a stored document to a form that no version of this code has written."""
    if isinstance(store, MemoryStore):
        stored = store._documents[path]
        store._documents[path] = replace(stored, document={**stored.document, **fields})
    else:
        assert isinstance(store, FirestoreStore)
        names = [name if place % 2 == 0 else documents.document_id(name) for place, name in enumerate(path)]
        store._client.document(*names).update(fields)


def _document(store: Store, path: tuple[str, ...]) -> dict[str, Any]:
    """Return a stored document."""
    if isinstance(store, MemoryStore):
        return store._documents[path].document
    assert isinstance(store, FirestoreStore)
    names = [name if place % 2 == 0 else documents.document_id(name) for place, name in enumerate(path)]
    document: dict[str, Any] = store._client.document(*names).get().to_dict()
    return document


def test_unreadable_invocations_do_not_end_a_list(store: Store) -> None:
    """Unreadable invocations are left out and do not count: a page shorter than requested is the last one."""
    items = [_invocation(number) for number in range(6)]
    store.commit([CreateInvocation(item, "log") for item in items])
    for place in (1, 2):
        path = ("jobs", JOB_ID, "invocations", documents.invocation_document_id(items[place].id))
        _spoil(store, path, {"state": "["})
    assert store.invocations(JOB_ID, 3) == [items[0], items[3], items[4]]
    assert store.invocations(JOB_ID, 3, items[4].id) == [items[5]]
    assert store.invocations(JOB_ID, 9) == [items[0], *items[3:]]


def test_an_unreadable_document_does_not_hide_the_others(store: Store) -> None:
    """A newer version that was rolled back wrote it. It is logged by name and left out of every list."""
    other = JobId("zeta/job")
    good, bad = _invocation(1, next_due=Instant(2)), _invocation(2, next_due=Instant(1))
    job, bad_job = (Job(name, JobDefinition(TASK), triage_due=Instant(due)) for name, due in ((JOB_ID, 2), (other, 1)))
    store.commit(
        [
            *(CreateInvocation(item, "log") for item in (good, bad)),
            *(PutJob(item, None) for item in (job, bad_job)),
            *(PutProject(ProjectRecord(name), None) for name in ("proj", "zeta")),
        ]
    )
    bad_path = ("jobs", JOB_ID, "invocations", documents.invocation_document_id(bad.id))
    _spoil(store, bad_path, {"state": '{"status": "PAUSED_BY_NEWER"}'})
    _spoil(store, ("jobs", other), {"record": "["})
    _spoil(store, ("projects", "zeta"), {"record": "{}x"})
    calls: dict[str, list[Callable[[], Sequence[Any]]]] = {
        "invocations": [
            lambda: store.due_invocations(Instant(5), 10),
            lambda: store.invocations(JOB_ID, 10),
            lambda: store.invocations_by_id([(JOB_ID, good.id), (JOB_ID, bad.id)]),
        ],
        "jobs": [lambda: store.due_jobs(Instant(5), 10), lambda: store.jobs([JOB_ID, other])],
        "projects": [store.projects],
    }
    expected = {"invocations": [good], "jobs": [job], "projects": [ProjectRecord("proj")]}
    names = {"invocations": f"{bad.id:019d}", "jobs": "zeta", "projects": "zeta"}
    for kind, reads in calls.items():
        for read in reads:
            with capture_logs() as logs:
                assert list(read()) == expected[kind]
            (line,) = logs
            assert line["event"] == "document_unreadable"
            assert names[kind] in line["document"]


def _trigger_record(record: Any) -> dict[str, Any]:
    values = {"trigger": record, "invocation_id": "0", "discarded": "", "resolved": None, "deliveries": []}
    return {"record": json.dumps(values)}


UNREADABLE = {
    "no JSON": {"record": "["},
    "deep": {"record": "[" * 100_000},
    "no trigger": _trigger_record(None),
    "no id": _trigger_record({"id": "", "created": 1}),
    "title": _trigger_record({"id": "bad", "created": 1, "title": 5}),
    "payload": _trigger_record({"id": "bad", "created": 1, "payload": []}),
    "created": _trigger_record({"id": "bad", "created": "1"}),
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_pending_trigger_is_set_aside(store: Store, fields: dict[str, Any]) -> None:
    """It is set aside once, with the reason, and is no longer pending.

    The following triggers are listed, even with a limit of one.
    """
    names = ("bad", "good", "later")
    payload = {"repo": "r", "ref": "x", "revision": "a" * 40}
    triggers = [Trigger(name, Instant(number), "gitiles", payload) for number, name in enumerate(names)]
    store.commit([CreateTrigger(TriggerRecord(JOB_ID, trigger)) for trigger in triggers])
    _spoil(store, ("jobs", JOB_ID, "triggers", "bad"), fields)
    with capture_logs() as logs:
        pending = store.pending_triggers(JOB_ID, 1)
    assert [found.value.trigger.id for found in pending] == ["good"]
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("trigger_set_aside", "error")
    assert line["document"].endswith("/triggers/bad")
    with capture_logs() as logs:
        assert [found.value.trigger.id for found in store.pending_triggers(JOB_ID, 10)] == ["good", "later"]
    assert not logs
    kept = _document(store, ("jobs", JOB_ID, "triggers", "bad"))
    assert (kept["pending"], kept["record"]) == (None, fields["record"])
    assert line["reason"] == kept["unreadable"]
    for read in (store.triggers([(JOB_ID, name) for name in names]), store.triggers_of_revision("a" * 40, 10)):
        assert sorted(record.trigger.id for record in read) == ["good", "later"]
    good = pending[0]
    store.commit([UpdateTrigger(replace(good.value, resolved=Instant(5)), good.version)])


def test_an_empty_identifier_is_refused(store: Store) -> None:
    """An empty ID is refused before any call, and so is half of a surrogate pair."""
    for name in ("", "\ud800"):
        with pytest.raises(PermanentError):
            store.commit([CreateTrigger(TriggerRecord(JOB_ID, Trigger(name, Instant(1))))])
    assert store.pending_triggers(JOB_ID, 10) == []


def test_no_read_accepts_an_empty_name(store: Store) -> None:
    """Both stores refuse it, so that a test in memory notices a caller that passes one."""
    nothing, one = JobId(""), InvocationId(1)
    reads: list[Callable[[], object]] = [
        lambda: store.project(""),
        lambda: store.job(nothing),
        lambda: store.jobs([JOB_ID, nothing]),
        lambda: store.found_jobs([nothing]),
        lambda: store.triage_log(nothing),
        lambda: store.poller(nothing),
        lambda: store.invocation(nothing, one),
        lambda: store.invocation_with_log(nothing, one),
        lambda: store.invocations(nothing, 1),
        lambda: store.invocations_by_id([(nothing, one)]),
        lambda: store.trigger(JOB_ID, ""),
        lambda: store.triggers([(JOB_ID, "")]),
        lambda: store.pending_triggers(nothing, 1),
        lambda: store.deferred(""),
        lambda: store.probe(""),
    ]
    for number, read in enumerate(reads):
        with pytest.raises(PermanentError, match="an empty identifier names no document"):
            assert read() == number  # the number shows which read does not raise


def test_a_poller_record_is_kept_whole(store: Store) -> None:
    """A gitiles job's record is kept whole, with any number of refs, and changes only under its version."""
    known = {f"refs/heads/b{number}": f"{number:040x}" for number in range(5000)}
    repo, refs, backlog = (
        "https://r.googlesource.com/repo",
        ("regexp:refs/heads/.*", "é"),
        {"refs/heads/b1": Backlog("f" * 40, 7)},
    )
    record = PollerRecord(JOB_ID, repo, known, refs, 3, backlog)
    assert store.poller(JOB_ID) is None
    (version,) = store.commit([PutPoller(record, None)])
    found = store.poller(JOB_ID)
    assert found is not None
    assert found.value == record
    store.commit([PutPoller(replace(record, known={}, commits=4), version)])
    for stale in (None, version):
        with pytest.raises(StoreConflictError):
            store.commit([PutPoller(record, stale)])
    again = store.poller(JOB_ID)
    assert again is not None
    assert again.value.commits == 4


def test_the_triggers_of_a_commit(store: Store) -> None:
    """The triggers of a commit in all jobs, pending or not, are found by the hash in its first spelling."""
    other, hashes = JobId("zeta/job"), ("a" * 40, "b" * 40)

    def record(job_id: JobId, name: str, revision: str, kind: str = "gitiles") -> TriggerRecord:
        return TriggerRecord(job_id, Trigger(name, Instant(1), kind, {"repo": "r", "ref": "x", "revision": revision}))

    wanted = [record(JOB_ID, "1", hashes[0]), record(other, "é" * 600, hashes[0]), record(JOB_ID, "rerun", hashes[0])]
    others = [
        record(JOB_ID, "2", hashes[1]),
        record(JOB_ID, "3", hashes[0], "buildbucket"),
        record(JOB_ID, "4", "x" * 5000),
        TriggerRecord(JOB_ID, Trigger("5", Instant(1), "gitiles")),
    ]
    versions = store.commit([CreateTrigger(item) for item in (*wanted, *others)])
    marker = replace(wanted[0], resolved=Instant(5), expires=Instant(10**18), discarded="so")
    store.commit([UpdateTrigger(marker, versions[0])])
    found = store.triggers_of_revision(hashes[0], 10)
    assert sorted(found, key=lambda item: item.trigger.id) == [marker, wanted[2], wanted[1]]
    assert len(store.triggers_of_revision(hashes[0], 2)) == 2
    assert list(store.triggers_of_revision("c" * 40, 10)) == []


def test_many_documents_in_one_call(store: Store) -> None:
    """Jobs, triggers and invocations are read by name, many at once. Missing ones are left out."""
    other = JobId("zeta/job")
    jobs = [Job(JOB_ID, JobDefinition(TASK)), Job(other, JobDefinition(TASK), paused=True)]
    invocations = [_invocation(1), _invocation(2, job_id=other)]
    store.commit(
        [
            *(PutJob(job, None) for job in jobs),
            *(CreateInvocation(invocation, "log") for invocation in invocations),
            PutProject(ProjectRecord("zeta", job_ids=(other,)), None),
            PutProject(ProjectRecord("proj é", job_ids=(JOB_ID,)), None),
        ]
    )
    absent = JobId("proj/none")
    assert sorted(store.jobs([absent, other, JOB_ID]), key=lambda job: job.id) == jobs
    for found in store.found_jobs([other, absent, JOB_ID]):
        assert found == store.job(found.value.id)
        store.commit([PutJob(replace(found.value, commits=1), found.version)])
    assert [found.value.commits for found in store.found_jobs([absent, other, JOB_ID])] == [1, 1]
    keys = [(item.job_id, item.id) for item in invocations]
    assert sorted(store.invocations_by_id([*keys, (absent, keys[0][1])]), key=lambda item: item.id) == invocations
    assert [record.id for record in store.projects()] == ["proj é", "zeta"]
    assert list(store.jobs([])) == list(store.triggers([])) == []
    names = [(job.id, name) for job in jobs for name in ("https://r/+/refs/heads/a@1", "é" * 600)]
    store.commit([CreateTrigger(TriggerRecord(job_id, Trigger(name, Instant(1)))) for job_id, name in names])
    found = store.triggers([(absent, "x"), *names])
    assert sorted((item.job_id, item.trigger.id) for item in found) == sorted(names)


def _deferred(name: str, due: int, **changes: Any) -> Deferred:
    payload = {"job": JOB_ID, "triggers": [{"id": "t/é", "payload": {"properties": {"n": [1, ["nested"]]}}}]}
    return replace(
        Deferred(name, "trigger", payload, Instant(1), Instant(due), Instant(1_600_000_000_000_000_001)), **changes
    )


def test_deferred_tasks(store: Store) -> None:
    """Deferred tasks are read as written, and change and disappear under their version."""
    assert store.deferred("commit-1") is None
    written = _deferred("commit-1", 5, tries=3, revision="a" * 40, reason="é")
    (version,) = store.commit([PutDeferred(written, None)])
    found = store.deferred("commit-1")
    assert found is not None
    assert (found.value, found.version) == (written, version)
    with pytest.raises(StoreConflictError):
        store.commit([PutDeferred(written, None)])
    changed = replace(written, tries=4, next_due=Instant(9))
    (newer,) = store.commit([PutDeferred(changed, version)])
    for stale in (PutDeferred(written, version), DeleteDeferred("commit-1", version)):
        with pytest.raises(StoreConflictError):
            store.commit([stale])
    store.commit([DeleteDeferred("commit-1", newer)])
    assert store.deferred("commit-1") is None
    assert list(store.due_deferred(Instant(100), 10)) == []
    assert list(store.deferred_of_revision("a" * 40, 10)) == []
    with pytest.raises(StoreConflictError):
        store.commit([DeleteDeferred("commit-1", newer)])
    store.commit([PutDeferred(written, None)])


def test_overdue_deferred_tasks_in_pages(store: Store) -> None:
    """The most overdue first, by ID if equal, each on one page. Jobs and invocations are not among them."""
    job = Job(JOB_ID, JobDefinition(TASK), triage_due=Instant(2))
    store.commit([CreateInvocation(_invocation()), PutJob(job, None)])
    works = [_deferred("c", 3), _deferred("b", 3), _deferred("a", 7), _deferred("late", 101)]
    store.commit([PutDeferred(work, None) for work in works])
    first = store.due_deferred(Instant(100), 2)
    assert [work.id for work in first] == ["b", "c"]
    rest = store.due_deferred(Instant(100), 2, DueCursor(first[-1].next_due, JobId(""), deferred=first[-1].id))
    assert [work.id for work in rest] == ["a"]
    assert [job.id for job in store.due_jobs(Instant(100), 10)] == [JOB_ID]
    assert len(store.due_invocations(Instant(100), 10)) == 1


def test_deferred_tasks_of_a_commit(store: Store) -> None:
    """Deferred tasks that wait for the commit, and no triggers."""
    trigger = Trigger("t", Instant(5), "gitiles", {"repo": "r", "ref": "x", "revision": "a" * 40})
    store.commit([CreateTrigger(TriggerRecord(JOB_ID, trigger))])
    names = {"one": "a", "two": "a", "three": "b"}
    store.commit([PutDeferred(_deferred(name, 5, revision=letter * 40), None) for name, letter in names.items()])
    store.commit([PutDeferred(_deferred("four", 5), None)])
    assert sorted(work.id for work in store.deferred_of_revision("a" * 40, 10)) == ["one", "two"]
    assert len(store.deferred_of_revision("a" * 40, 1)) == 1
    assert [record.trigger.id for record in store.triggers_of_revision("a" * 40, 10)] == ["t"]


def test_a_deferred_task_that_is_too_large_is_refused(store: Store) -> None:
    """The error names the document, and comes before any write."""
    with pytest.raises(PermanentError, match="deferred/big would have"):
        store.commit([PutDeferred(_deferred("big", 5, payload={"x": "x" * 1_000_001}), None)])


NEWER = {"of_a_newer_version": {"until": 5}}
_CRON = JobDefinition(TASK, schedule="* * * * *")
_POLLED = PollerRecord(JOB_ID, "r", {"refs/heads/main": "a" * 40}, ("refs/heads/main",), 1)


@dataclass(frozen=True)
class _Kind:
    """A kind of document: how it is created, changed and read, and the records inside its body."""

    path: tuple[str, ...]
    create: Write
    change: Callable[[Any, Any], Write]
    read: Callable[[Store], Versioned[Any] | None]
    inner: tuple[str, ...] = ()


KINDS = {
    "job": _Kind(
        ("jobs", JOB_ID),
        PutJob(Job(JOB_ID, _CRON), None),
        lambda job, version: PutJob(replace(job, paused=not job.paused, commits=job.commits + 1), version),
        lambda store: store.job(JOB_ID),
        ("definition", "cron"),
    ),
    "invocation": _Kind(
        ("jobs", JOB_ID, "invocations", documents.invocation_document_id(_invocation().id)),
        CreateInvocation(
            replace(_invocation(), pending_timers=(Timer("a:1:0", "check", Instant(1), Instant(2)),)), "x\n"
        ),
        lambda item, version: UpdateInvocation(replace(item, commits=item.commits + 1), version, "y\n"),
        lambda store: store.invocation(JOB_ID, _invocation().id),
        ("pending_timers",),
    ),
    "trigger": _Kind(
        ("jobs", JOB_ID, "triggers", "t"),
        CreateTrigger(TriggerRecord(JOB_ID, Trigger("t", Instant(1)))),
        lambda record, version: UpdateTrigger(
            replace(record, resolved=Instant(5), deliveries=(*record.deliveries, "k")), version
        ),
        lambda store: store.trigger(JOB_ID, "t"),
        ("trigger",),
    ),
    "project": _Kind(
        ("projects", "proj"),
        PutProject(ProjectRecord("proj"), None),
        lambda record, version: PutProject(replace(record, commits=record.commits + 1), version),
        lambda store: store.project("proj"),
    ),
    "poller": _Kind(
        ("pollers", JOB_ID),
        PutPoller(_POLLED, None),
        lambda record, version: PutPoller(replace(record, known={}, commits=record.commits + 1), version),
        lambda store: store.poller(JOB_ID),
    ),
    "deferred task": _Kind(
        ("deferred", "d"),
        PutDeferred(_deferred("d", 5), None),
        lambda record, version: PutDeferred(replace(record, tries=record.tries + 1), version),
        lambda store: store.deferred("d"),
    ),
    "probe": _Kind(
        ("probes", "p"),
        PutProbe(Probe("p", Instant(1), {"on_task": Mark(Instant(2))}), None),
        lambda probe, version: PutProbe(
            replace(probe, marks={**probe.marks, f"f{len(probe.marks)}": Mark(Instant(3))}), version
        ),
        lambda store: store.probe("p"),
        ("marks.on_task",),
    ),
}


def _opened(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a document's body, and the body."""
    name = "record" if "record" in document else "state"
    text = document[name]
    return name, json.loads(zlib.decompress(text) if isinstance(text, bytes) else text)


def _parts(body: dict[str, Any], kind: _Kind) -> list[Any]:
    """Return a body and the records inside it; the name of an inner one is a path with dots."""
    return [body, *(reduce(lambda part, name: part[name], inner.split("."), body) for inner in kind.inner)]


def _plant(store: Store, kind: _Kind) -> None:
    """Write the members of a newer version: into the document, its body and the records inside the body."""
    document = _document(store, kind.path)
    name, body = _opened(document)
    for part in _parts(body, kind):
        (part[0] if isinstance(part, list) else part).update(NEWER)
    text = json.dumps(body)
    _spoil(
        store, kind.path, {name: zlib.compress(text.encode()) if isinstance(document[name], bytes) else text, **NEWER}
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_members_of_a_newer_version_stay(store: Store, kind: _Kind) -> None:
    """They survive writes under the version of a read and of a write. Nothing else differs from a plain document."""
    store.commit([kind.create])
    _plant(store, kind)
    found = kind.read(store)
    assert found is not None
    record, version = found.value, found.version
    for _ in range(2):
        write = kind.change(record, version)
        (version,) = store.commit([write])
        again = kind.read(store)
        assert again is not None
        assert again.value != record
        record = again.value
    document = _document(store, kind.path)
    _, body = _opened(document)
    parts = [document, *_parts(body, kind)]
    for part in (part[0] if isinstance(part, list) else part for part in parts):
        assert {name: part.pop(name, None) for name in NEWER} == NEWER
    _, plain = _opened(_plain(kind))
    assert body == plain


def _plain(kind: _Kind) -> dict[str, Any]:
    """Return the document after the same writes without members of a newer version."""
    store = MemoryStore()
    store.commit([kind.create])
    for _ in range(2):
        found = kind.read(store)
        assert found is not None
        store.commit([kind.change(found.value, found.version)])
    return _document(store, kind.path)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_document_with_a_newer_schema_is_not_read(store: Store, kind: _Kind) -> None:
    """The error names the document and both versions."""
    store.commit([kind.create])
    _spoil(store, kind.path, {"schema": 2})
    with pytest.raises(NewerVersionError, match=r".+ has schema 2, and this function reads schema 1"):
        kind.read(store)


def test_a_list_leaves_a_newer_document_out(store: Store) -> None:
    """The log names it, and it is no defect: a newer function reads it."""
    store.commit([KINDS["job"].create])
    _spoil(store, ("jobs", JOB_ID), {"schema": 2})
    with capture_logs() as logs:
        assert list(store.jobs([JOB_ID])) == []
    assert [(line["event"], line["log_level"]) for line in logs] == [("document_newer", "warning")]


def test_a_pending_trigger_with_a_newer_schema_is_not_set_aside(store: Store) -> None:
    """A triage without it would be wrong, so the delivery must come again."""
    kind = KINDS["trigger"]
    store.commit([kind.create])
    _spoil(store, kind.path, {"schema": 2})
    before = _document(store, kind.path)
    with pytest.raises(NewerVersionError, match="a trigger of"):
        store.pending_triggers(JOB_ID, 10)
    assert _document(store, kind.path) == before


def test_watchers_with_a_newer_schema_stop_a_commit(store: Store) -> None:
    """Without them, the commit would reach too few jobs. A mark of this version does not change the schema."""
    repo = "https://r.googlesource.com/x"
    name = documents.watchers_document_id(repo, "proj")
    _put_raw(store, repo, name, {"schema": 2, "watchers": "newer"})
    store.commit([PutPaused(repo, JobId("proj/t"), paused=True)])
    with pytest.raises(NewerVersionError, match="has schema 2"):
        store.watchers(repo)


def test_probe(store: Store) -> None:
    """A probe is read as written, and two marks at once do not overwrite each other."""
    mark = Mark(Instant(5), "r", 1, 1, "token", ("on_task",))
    probe = Probe("p", Instant(5), {"on_task": mark}, (Finding("index", "x", "y", is_permission=True),), done=True)
    assert store.probe("p") is None
    (version,) = store.commit([PutProbe(probe, None)])
    found = store.probe("p")
    assert found is not None
    assert (found.value, found.version) == (probe, version)
    store.commit([PutProbe(replace(probe, done=False), version)])
    with pytest.raises(StoreConflictError):
        store.commit([PutProbe(probe, version)])


def _listed(name: str, *, realm: str = "ci", failed: bool = False, **changes: Any) -> Job:
    result = Result(InvocationId(16), Status.FAILED if failed else Status.SUCCEEDED, Instant(1), Instant(2))
    flavor = changes.pop("flavor", Flavor.TRIGGERED)
    definition = JobDefinition(TASK, realm=realm, flavor=flavor, triggered_jobs=changes.pop("triggers", ()))
    return Job(JobId(f"proj/{name}"), definition, recent=(result,), **changes)


_LISTED = [
    _listed("b", paused=True, commits=1),
    _listed("a", commits=10),
    _listed("z", failed=True, commits=100),
    _listed("poller", flavor=Flavor.TRIGGER, triggers=(JobId("proj/a"), JobId("other/a")), commits=1000),
    _listed("busy", active_invocations=(InvocationId(32),), realm="secret", commits=10_000),
    _listed("gone", enabled=False, failed=True, commits=100_000),
    replace(_listed("a"), id=JobId("other/a")),
]
_CI, _ALL = JobList("proj", ("ci",)), JobList("proj")


def _names(jobs: Sequence[Job]) -> list[str]:
    return [job.id.partition("/")[2] for job in jobs]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (_ALL, ["z", "a", "b", "busy", "poller"]),
        (_CI, ["z", "a", "b", "poller"]),
        (JobList("proj", ("secret", "ci")), ["z", "a", "b", "busy", "poller"]),
        (JobList("proj", (*(f"r{number}" for number in range(40)), "ci")), ["z", "a", "b", "poller"]),
        (JobList("proj", ()), []),
        (JobList("proj", failing=True), ["z"]),
        (JobList("proj", ("secret",), failing=True), []),
        (JobList("proj", state=JobState.PAUSED), ["b"]),
        (JobList("proj", state=JobState.RUNNING), ["busy"]),
        (JobList("proj", ("ci",), state=JobState.RUNNING), []),
        (JobList("other"), ["a"]),
        (JobList("none"), []),
    ],
)
def test_jobs_are_listed_and_counted(store: Store, wanted: JobList, names: list[str]) -> None:
    """Failing jobs come first, jobs that poll last; lists leave out disabled jobs, other projects and other realms."""
    store.commit([PutJob(job, None) for job in _LISTED])
    assert _names(store.listed_jobs(wanted, 10)) == names
    assert store.count_jobs(wanted, 10) == len(names)
    assert store.count_jobs(wanted, 1) == min(1, len(names))
    commits = {job.id.partition("/")[2]: job.commits for job in _LISTED if job.id.startswith(wanted.project)}
    assert store.count_job_commits(wanted) == sum(commits[name] for name in names)


def test_a_list_of_jobs_continues_after_a_place(store: Store) -> None:
    """Each job is in one part, also if an unreadable job is between them; a part's sum leaves out other parts."""
    store.commit([PutJob(job, None) for job in _LISTED])
    first = store.listed_jobs(_ALL, 2)
    second = store.listed_jobs(_ALL, 2, first[-1].place)
    third = store.listed_jobs(_ALL, 2, second[-1].place)
    assert [_names(part) for part in (first, second, third)] == [["z", "a"], ["b", "busy"], ["poller"]]
    assert store.count_job_commits(_ALL, first[-1].place, second[-1].place) == 1 + 10_000
    assert store.count_job_commits(_ALL, second[-1].place) == 1000
    _spoil(store, ("jobs", "proj/b"), {"record": "?"})
    assert _names(store.listed_jobs(_ALL, 3)) == ["z", "a", "busy"]


def test_a_list_of_jobs_follows_each_change(store: Store) -> None:
    """A job that fails moves to the front, a job that is resumed leaves the list of paused jobs."""
    versions = store.commit([PutJob(job, None) for job in _LISTED])
    failing, resumed = _listed("a", failed=True), replace(_LISTED[0], paused=False)
    store.commit([PutJob(failing, versions[1]), PutJob(resumed, versions[0])])
    assert _names(store.listed_jobs(JobList("proj", failing=True), 10)) == ["a", "z"]
    assert store.listed_jobs(JobList("proj", state=JobState.PAUSED), 10) == []
    found = store.job(failing.id)
    assert found is not None
    store.commit([PutJob(replace(failing, enabled=False), found.version)])
    assert _names(store.listed_jobs(JobList("proj", failing=True), 10)) == ["z"]


def test_the_jobs_that_trigger_a_job_are_found(store: Store) -> None:
    """Jobs name the jobs that they trigger; the way up is a query."""
    store.commit([PutJob(job, None) for job in _LISTED])
    assert _names(store.jobs_that_trigger(JobId("proj/a"), 10)) == ["poller"]
    assert store.jobs_that_trigger(JobId("proj/b"), 10) == []


def test_invocations_are_selected_by_status(store: Store) -> None:
    """The newest come first, and the count has the same limit as a list."""
    statuses = [Status.FAILED, Status.SUCCEEDED, Status.FAILED, Status.FAILED, Status.RUNNING]
    items = [_invocation(number, status=status) for number, status in enumerate(statuses, 1)]
    versions = store.commit([CreateInvocation(item) for item in items])
    assert [item.id for item in store.invocations(JOB_ID, 2, None, Status.FAILED)] == [items[0].id, items[2].id]
    assert [item.id for item in store.invocations(JOB_ID, 2, items[2].id, Status.FAILED)] == [items[3].id]
    assert (store.count_invocations(JOB_ID, Status.FAILED, 10), store.count_invocations(JOB_ID, Status.FAILED, 2)) == (
        3,
        2,
    )
    store.commit([UpdateInvocation(replace(items[4], status=Status.FAILED), versions[4])])
    assert store.count_invocations(JOB_ID, Status.FAILED, 10) == 4
    assert store.count_invocations(JOB_ID, Status.ABORTED, 10) == 0


def test_a_write_without_a_change_keeps_the_version(store: Store) -> None:
    """Firestore leaves such a document alone, also if a commit changes it there and back."""
    repo, trigger = "https://r.googlesource.com/x", JobId("a/t")
    probe = Probe("p", Instant(5))
    marked, created = store.commit([PutPaused(repo, trigger, paused=True), PutProbe(probe, None)])
    assert list(store.commit([PutProbe(probe, created), PutPaused(repo, trigger, paused=True)])) == [created, marked]
    there_and_back = [PutPaused(repo, trigger, paused=paused) for paused in (False, True)]
    assert list(store.commit(there_and_back)) == [marked, marked]
    (changed,) = store.commit([PutProbe(replace(probe, done=True), created)])
    assert changed != created


def test_a_name_that_is_given_twice_is_read_once(store: Store) -> None:
    """Each record is returned once."""
    job, invocation = Job(JOB_ID, JobDefinition(TASK)), _invocation()
    record = TriggerRecord(JOB_ID, Trigger("t", Instant(1)))
    store.commit([PutJob(job, None), CreateInvocation(invocation), CreateTrigger(record)])
    assert list(store.jobs([JOB_ID, JOB_ID])) == [job]
    assert [found.value for found in store.found_jobs([JOB_ID, JOB_ID])] == [job]
    assert list(store.invocations_by_id([(JOB_ID, invocation.id)] * 2)) == [invocation]
    assert list(store.triggers([(JOB_ID, "t")] * 2)) == [record]


def test_equal_documents_are_in_the_order_of_their_names(store: Store) -> None:
    """The order decides which documents a limit keeps. Encoded names sort differently from the names themselves."""
    ids = [JobId("a-b/x"), JobId("a/x")]
    jobs = [Job(job_id, JobDefinition(TASK, triggered_jobs=(JOB_ID,)), triage_due=Instant(5)) for job_id in ids]
    payload = {"repo": "r", "ref": "x", "revision": "a" * 40}
    triggers = [TriggerRecord(job_id, Trigger("t", Instant(1), "gitiles", payload)) for job_id in ids]
    store.commit([*(PutJob(job, None) for job in jobs), *map(CreateTrigger, triggers)])
    assert [job.id for job in store.due_jobs(Instant(5), 1)] == ["a/x"]
    assert [job.id for job in store.due_jobs(Instant(5), 9, DueCursor(Instant(5), JobId("a/x")))] == ["a-b/x"]
    assert [job.id for job in store.jobs_that_trigger(JOB_ID, 1)] == ["a/x"]
    assert [record.job_id for record in store.triggers_of_revision("a" * 40, 1)] == ["a/x"]
