"""An upgrade: these functions finish the work that older functions left in documents, tasks and builds.

Functions with one document of watchers per repository, and without deferred tasks, wrote the file. It holds their
documents, the tasks on their queue, and the builds at Buildbucket in the middle of their work: invocations in each
state, a dead launch, an abort that failed, a poll whose triggers reached no job, pending triggers.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Collection, Iterator
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
from luci_scheduler.engine.tasks import TASK_KINDS, read_task
from luci_scheduler.ports import PutPaused, PutProject, QueueTask
from tests.unit.api.support import POLICY
from tests.unit.engine.world import REPO, FakeBuildbucket, FakeFetch, World, world_settings
from tests.unit.web.support import Visitor

OLDER: dict[str, Any] = json.loads((Path(__file__).parent / "older/shared-watchers.json").read_text(encoding="utf-8"))
SHARED = "repositories/" + documents.document_id(REPO)
ASKED_OF_THE_API = {"e1", "e2", "e3", "e4", "webui", "rerun"}


class _Memory(MemoryStore):
    """The memory store with the documents of older functions."""

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
    """Firestore with the documents of older functions."""

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
    """These functions on the documents of older ones."""

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
        """Read the unchanged configs, as happens each minute."""
        for project, (text, revision) in OLDER["configs"].items():
            sync_project(self.runtime, ConfigFile(project, text, revision), "sync")

    def drive(self, minutes: int) -> None:
        """Let time pass, with a sync and a sweep each minute. Builds end after ten minutes, without notifications."""
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
    """These functions on the documents of older ones, with each store in turn."""
    if request.param == "memory":
        return _Upgraded(_Memory())
    return _Upgraded(_Firestore(request.getfixturevalue("firestore_client")))


def _triggers(invocations: list[Invocation]) -> list[str]:
    """Return the triggers of a job's invocations in short: the number of a commit on its branch, or the kind of ID."""
    return sorted(_short(trigger.id) for invocation in invocations for trigger in invocation.incoming_triggers)


def _short(trigger_id: str) -> str:
    if "@" not in trigger_id:
        return trigger_id.partition(":")[0]
    return trigger_id.partition("/+/refs/heads/")[2].partition("@")[0]


def _expected(*, tasks: bool) -> dict[str, list[str]]:
    """Return the triggers that each job must have had at the end. Those from the API were on the queue only."""
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


def test_invocations_in_every_state_end(world: _Upgraded) -> None:
    """No trigger is lost or doubled in any state that older functions left behind. Each invocation has one build."""
    world.drive(40)
    _check_ends(world, tasks=True)


def test_documents_suffice_if_the_queue_is_lost(world: _Upgraded) -> None:
    """The older documents hold all due work, except requests that the older API put only on the queue."""
    world.queue.purge()
    world.drive(60)
    _check_ends(world, tasks=False)


def _check_ends(world: _Upgraded, *, tasks: bool) -> None:
    ended = world.all_invocations()
    expected = _expected(tasks=tasks)
    assert {job: _triggers(ended[job]) for job in expected} == expected
    aborted = {"proj/aborting", "proj/asked"} if tasks else {"proj/aborting"}
    for job in expected:
        _check_job(job, ended[job], is_aborted=job in aborted)
        assert not world.store.pending_triggers(JobId(job), 10)
    _check_builds(world.buildbucket.builds.values(), {job: len(ended[job]) for job in expected})
    assert len(ended["proj/clock"]) >= 3
    assert not world.works()


def _check_job(job: str, ended: list[Invocation], *, is_aborted: bool) -> None:
    """Check that no trigger of a job is doubled, and that all its invocations have the right status."""
    triggers = [trigger.id for invocation in ended for trigger in invocation.incoming_triggers]
    assert len(triggers) == len(set(triggers)), job
    statuses = Counter(invocation.status for invocation in ended)
    expected = {Status.ABORTED: int(is_aborted), Status.SUCCEEDED: statuses[Status.SUCCEEDED]}
    assert statuses == Counter(expected), job


def _check_builds(builds: Collection[Any], expected: dict[str, int]) -> None:
    """Check that each invocation has one build, and each job as many builds as invocations."""
    tags = [tag for build in builds for tag in build.get("tags", [])]
    per_invocation = Counter(tag["value"] for tag in tags if tag["key"] == "scheduler_invocation_id")
    assert set(per_invocation.values()) == {1}
    names = [f"{build['builder']['project']}/{build['builder']['builder']}" for build in builds]
    assert {job: names.count(job) for job in expected} == expected


def test_every_task_kind_of_older_functions_is_read() -> None:
    """Each form of their payloads is read. The file has all kinds of their tasks."""
    kinds = {"abort", "cron", "dispatch", "dispatch-to", "launch", "sweep", "sync", "timer", "triage", "trigger"}
    assert {task["kind"] for task in OLDER["tasks"]} == kinds <= set(TASK_KINDS)
    for task in _tasks():
        read_task(task.kind, task.payload)


def test_a_token_of_a_build_from_older_functions_is_accepted(world: _Upgraded) -> None:
    """Builds that run during an upgrade report their ends with such a token."""
    job = JobId("proj/running")
    (build,) = [name for name, build in world.buildbucket.builds.items() if build["builder"]["builder"] == "running"]
    world.finish(build_id=build)
    world.notify("n1", build)
    assert [invocation.status for invocation in world.store.invocations(job, 9)] == [Status.RUNNING, Status.SUCCEEDED]


def test_pages_show_documents_of_older_functions(world: _Upgraded) -> None:
    """Each job, each invocation in its state, and the place of each commit, before any document is rewritten."""
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


def test_commit_counters_keep_their_stored_names(world: _Upgraded) -> None:
    """The counter of a job and of a project is read from ``mutations`` and written there again."""
    counted: dict[str, tuple[Any, Any, dict[str, Any]]] = {}
    for path, stored in _documents():
        names = [documents.plain_id(name) for name in path.split("/")]
        if names[0] == "jobs" and len(names) == 2:
            counted[path] = (world.store.job(JobId(names[1])), documents.encode_job, stored)
        elif names[0] == "projects":
            counted[path] = (world.store.project(names[1]), documents.encode_project, stored)
    assert max(stored["commits"] for *_, stored in counted.values()) == 4
    for path, (found, encode, stored) in counted.items():
        assert found is not None, path
        assert found.value.commits == stored["commits"], path
        again = json.loads(encode(found.value)["record"])
        assert again["mutations"] == found.value.commits, path
        assert "commits" not in again, path


def _watchers(world: _Upgraded) -> list[Watcher]:
    return sorted(world.store.watchers(REPO), key=lambda watcher: watcher.job_id)


def test_the_shared_document_can_be_deleted_after_the_first_sync(world: _Upgraded) -> None:
    """The first sync moves all its content, including the marks of paused triggers."""
    before = _watchers(world)
    assert [watcher.job_id for watcher in before if watcher.paused] == ["proj/quiet"]
    world.sync_all()
    assert _watchers(world) == before
    world.store.remove(SHARED)
    assert _watchers(world) == before


@pytest.mark.parametrize("paused", [True, False])
def test_triggers_that_older_functions_paused_or_resumed_after_a_rollback(world: _Upgraded, *, paused: bool) -> None:
    """Older functions mark the shared document only.

    The first sync of the next upgrade trusts the jobs, not the older marks.
    """
    world.sync_all()
    silent = JobId("proj/silent")
    resume_job(world.runtime, silent, "user:a@example.com", "", "k1")
    if not paused:
        pause_job(world.runtime, silent, "user:a@example.com", "", "k2")
    _change_like_older_functions(world, silent, paused=paused)
    world.sync_all()
    assert [watcher.paused for watcher in _watchers(world) if watcher.job_id == "proj/quiet"] == [paused]


def _change_like_older_functions(world: _Upgraded, job_id: JobId, *, paused: bool) -> None:
    """Pause or resume a job like older functions: no document of a project changes, and their sync wrote the record."""
    change = pause_job if paused else resume_job
    commit = world.store.commit
    world.store.commit = lambda writes: commit([write for write in writes if not isinstance(write, PutPaused)])
    change(world.runtime, job_id, "user:b@example.com", "", "k3")
    world.store.commit = commit
    found = world.store.project("proj")
    assert found is not None
    commit([PutProject(replace(found.value, layout=0), found.version)])
