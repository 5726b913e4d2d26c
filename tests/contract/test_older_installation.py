"""An upgrade: these functions finish the work that older functions left in documents, tasks and builds.

The file was written by functions that had one document of watchers for each repository, and no deferred tasks. It holds
their documents, the tasks on the queue, and the builds at Buildbucket in the middle of their work: invocations in each
state, a dead launch, an abort that could not be carried out, a poll whose triggers reached no job, pending triggers.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.ports import memory_ports
from emulator.memory.queue import MemoryQueue
from emulator.memory.store import MemoryStore, _Stored
from luci_scheduler.adapters import documents
from luci_scheduler.adapters.firestore import FirestoreStore
from luci_scheduler.bootstrap import make_app
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.watcher import Watcher
from luci_scheduler.engine.jobs import pause_job, resume_job
from luci_scheduler.engine.tasks import TASK_KINDS, _step
from luci_scheduler.ports import PutPaused, PutProject, QueueTask
from tests.unit.api.support import POLICY
from tests.unit.engine.world import REPO, FakeBuildbucket, FakeFetch, World, world_settings
from tests.unit.web.support import Visitor

OLDER: dict[str, Any] = json.loads((Path(__file__).parent / "older/shared-watchers.json").read_text(encoding="utf-8"))
SHARED = "repositories/" + documents.document_id(REPO)
ASKED_OF_THE_API = {"e1", "e2", "e3", "e4", "webui", "rerun"}


class _Memory(MemoryStore):
    """The store in memory, as older functions left it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        for path, document in _documents():
            chunks = tuple(document.pop("log", ()))
            names = path.split("/")
            parts = tuple(documents.plain_id(name) if place % 2 else name for place, name in enumerate(names))
            place = ("repositories", REPO, names[1]) if names[0] == "repositories" else parts
            self._documents[place] = _Stored(document, next(self._versions), chunks)
            self._index(place, document)

    def remove(self, path: str) -> None:
        """Delete a document of a repository's watchers."""
        self._drop(("repositories", REPO, path.partition("/")[2]))


class _Firestore(FirestoreStore):
    """Firestore, as older functions left it."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.counts: Counter[str] = Counter()
        for path, document in _documents():
            if "log" in document:
                document["log"] = [{"n": n, "text": text} for n, text in enumerate(document["log"])]
            client.document(path).set(document)

    def remove(self, path: str) -> None:
        """Delete a document."""
        self._client.document(path).delete()


def _tasks() -> Iterator[QueueTask]:
    """Yield the tasks of the engine; ``sync`` is the composition root's."""
    for task in OLDER["tasks"]:
        if task["kind"] != "sync":
            yield QueueTask(task["kind"], task["payload"], Instant(task["eta"]))


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, document in OLDER["documents"]:
        yield path, {name: _value(value) for name, value in document.items()}


def _value(value: Any) -> Any:
    match value:
        case {"$time": text}:
            return datetime.fromisoformat(text)
        case {"$bytes": text}:
            return base64.b64decode(text)
        case _:
            return value


class _Upgraded(World):
    """These functions on the documents of the older ones."""

    def __init__(self, store: Any) -> None:
        self.clock = SteppedClock(Instant(OLDER["now"]))
        self.store = store
        self.queue = MemoryQueue()
        for task in _tasks():
            self.queue.enqueue(task)
        self.buildbucket = FakeBuildbucket()
        self.buildbucket.builds = json.loads(json.dumps(OLDER["builds"]))
        self.buildbucket.tokens = dict(OLDER["tokens"])
        self.git = MemoryGitiles()
        for ref, count in OLDER["pushed"]:
            self.git.push(ref, count)
        self.ports = replace(
            memory_ports(),
            store=store,
            queue=self.queue,
            clock=self.clock,
            buildbucket=self.buildbucket,
            gitiles=self.git,
            fetch=FakeFetch(self.clock),
        )
        self.app = make_app(world_settings(access=json.dumps(POLICY)), self.ports)
        self.runtime = self.app.runtime

    def sync_all(self) -> None:
        """Read the configs, which have not changed, as each minute."""
        for project, (text, revision) in OLDER["configs"].items():
            sync_project(self.runtime, ConfigFile(project, text, revision), "sync")

    def drive(self, minutes: int) -> None:
        """Let time pass, with a sync and a sweep each minute; builds end after ten minutes, without notifications."""
        for minute in range(minutes):
            self.sync_all()
            self.run_task(QueueTask("sweep", {"created": self.clock.now()}, self.clock.now()), f"sweep{minute}")
            if minute % 10 == 9:
                for build in self.buildbucket.builds.values():
                    build["status"] = "SUCCESS"
            self.tick(60)

    def all_invocations(self) -> dict[str, list[Invocation]]:
        """Return the invocations of each job, by name."""
        names = [job for record in self.store.projects() for job in record.job_ids]
        return {name: list(self.store.invocations(name, 100)) for name in names}


@pytest.fixture(params=["memory", pytest.param("firestore", marks=pytest.mark.emulators)])
def world(request: pytest.FixtureRequest) -> _Upgraded:
    """These functions on the documents of the older ones, with each store in turn."""
    if request.param == "memory":
        return _Upgraded(_Memory())
    return _Upgraded(_Firestore(request.getfixturevalue("firestore_client")))


def _triggers(invocations: list[Invocation]) -> list[str]:
    """Return which triggers a job's invocations had, shortened: the number of a commit on its branch, or the kind of ID."""
    return sorted(_short(trigger.id) for invocation in invocations for trigger in invocation.incoming_triggers)


def _short(trigger_id: str) -> str:
    if "@" not in trigger_id:
        return trigger_id.partition(":")[0]
    return trigger_id.partition("/+/refs/heads/")[2].partition("@")[0]


def _expected(*, tasks: bool) -> dict[str, list[str]]:
    """Return the triggers that each job must have had in the end; those of the API were on the queue only."""
    commits = {
        "proj/running": ["running"] * 3,
        "other/job": ["running"] * 3,
        "proj/starting": ["starting"],
        "proj/retrying": ["retrying"],
        "proj/aborting": ["aborting"] * 2,
        "proj/asked": ["asked"],
        "proj/done": ["done", "rerun"],
        "proj/queued": ["e1", "e2", "e3", "e4", "queued", "webui"],
        "proj/sent": ["e2"],
        "proj/polled-a": ["polled"] * 3,
        "proj/polled-b": ["polled"] * 3,
        "proj/quiet": [],
    }
    return {job: [name for name in names if tasks or name not in ASKED_OF_THE_API] for job, names in commits.items()}


def test_every_state_is_brought_to_its_end(world: _Upgraded) -> None:
    """Nothing is lost or doubled, whichever state the older functions left it in; each invocation has one build."""
    world.drive(40)
    _check_ends(world, tasks=True)


def test_documents_suffice_where_the_queue_is_lost(world: _Upgraded) -> None:
    """The older functions' documents hold all due work, except the requests that their API put only on the queue."""
    world.queue.purge()
    world.drive(60)
    _check_ends(world, tasks=False)


def _check_ends(world: _Upgraded, *, tasks: bool) -> None:
    ended = world.all_invocations()
    expected = _expected(tasks=tasks)
    assert {job: _triggers(ended[job]) for job in expected} == expected
    for job in expected:
        triggers = [trigger.id for invocation in ended[job] for trigger in invocation.incoming_triggers]
        assert len(triggers) == len(set(triggers)), job
    aborted = {"proj/aborting", "proj/asked"} if tasks else {"proj/aborting"}
    for job in expected:
        statuses = Counter(invocation.status for invocation in ended[job])
        assert statuses == Counter(
            {Status.ABORTED: int(job in aborted), Status.SUCCEEDED: statuses[Status.SUCCEEDED]}
        ), job
        assert not world.store.pending_triggers(JobId(job), 10)
    builds = Counter(
        tag["value"]
        for build in world.buildbucket.builds.values()
        for tag in build.get("tags", [])
        if tag["key"] == "scheduler_invocation_id"
    )
    assert set(builds.values()) == {1}
    made = Counter(
        f"{build['builder']['project']}/{build['builder']['builder']}" for build in world.buildbucket.builds.values()
    )
    assert {job: made[job] for job in expected} == {job: len(ended[job]) for job in expected}
    assert len(ended["proj/clock"]) >= 3
    assert not world.works()


def test_every_kind_of_task_of_older_functions_is_understood() -> None:
    """Each form that they put on a queue is read; the file has all kinds that they had."""
    kinds = {"abort", "cron", "dispatch", "dispatch-to", "launch", "sweep", "sync", "timer", "triage", "trigger"}
    assert {task["kind"] for task in OLDER["tasks"]} == kinds <= set(TASK_KINDS)
    for task in _tasks():
        _step(task.kind, task.payload)


def test_a_token_of_a_build_that_older_functions_asked_for_is_believed(world: _Upgraded) -> None:
    """The builds that run during an upgrade report their ends with it."""
    job = JobId("proj/running")
    (build,) = [name for name, build in world.buildbucket.builds.items() if build["builder"]["builder"] == "running"]
    world.finish(build_id=build)
    world.notify("n1", build)
    assert [invocation.status for invocation in world.store.invocations(job, 9)] == [Status.RUNNING, Status.SUCCEEDED]


def test_pages_show_documents_of_older_functions(world: _Upgraded) -> None:
    """Each job, each invocation in its state, and where the commits are; before anything of it is written anew."""
    visitor = Visitor(world)
    for job, invocations in world.all_invocations().items():
        if not job.startswith("proj/"):
            continue
        assert visitor.page(f"/jobs/{job}").text
        for invocation in invocations:
            page = visitor.page(f"/jobs/{job}/{invocation.id}")
            assert str(invocation.id) in page.text
            for trigger in invocation.incoming_triggers:
                if trigger.kind == "gitiles":
                    query = f"/commits?repo={REPO}&revision={trigger.payload['revision']}"
                    assert job.partition("/")[2] in visitor.page(query).text


def _watchers(world: _Upgraded) -> list[Watcher]:
    return sorted(world.store.watchers(REPO), key=lambda watcher: watcher.job_id)


def test_the_shared_document_can_be_deleted_after_the_first_sync(world: _Upgraded) -> None:
    """The first sync moves all that is in it, the marks of paused triggers included."""
    before = _watchers(world)
    assert [watcher.job_id for watcher in before if watcher.paused] == ["proj/quiet"]
    world.sync_all()
    assert _watchers(world) == before
    world.store.remove(SHARED)
    assert _watchers(world) == before


@pytest.mark.parametrize("paused", [True, False])
def test_triggers_that_older_functions_paused_or_resumed_after_a_rollback(world: _Upgraded, *, paused: bool) -> None:
    """They mark the shared document only. The first sync of the next upgrade believes the jobs, not the older marks."""
    world.sync_all()
    silent = JobId("proj/silent")
    resume_job(world.runtime, silent, "user:a@example.com", "", "k1")
    if not paused:
        pause_job(world.runtime, silent, "user:a@example.com", "", "k2")
    _change_like_older_functions(world, silent, paused=paused)
    world.sync_all()
    assert [watcher.paused for watcher in _watchers(world) if watcher.job_id == "proj/quiet"] == [paused]


def _change_like_older_functions(world: _Upgraded, job_id: JobId, *, paused: bool) -> None:
    """Pause or resume a job as older functions do: no document of a project is touched, and their sync wrote the record."""
    change = pause_job if paused else resume_job
    commit = world.store.commit
    world.store.commit = lambda writes: commit([write for write in writes if not isinstance(write, PutPaused)])
    change(world.runtime, job_id, "user:b@example.com", "", "k3")
    world.store.commit = commit
    found = world.store.project("proj")
    assert found is not None
    commit([PutProject(replace(found.value, layout=0), found.version)])
