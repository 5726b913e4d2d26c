"""Announcements: starts and ends of invocations on the topic, at least once, and never at the cost of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from emulator.memory.topic import MemoryTopic
from luci_scheduler.core.announcement import Transition, end_of, transition
from luci_scheduler.core.errors import PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import DAY, HOUR, MINUTE, Instant
from luci_scheduler.core.invocation import Status, result_of
from luci_scheduler.core.trigger import PayloadKind
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.announce import try_announcement
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.ports import BuildbucketError, PutDeferred
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, REPO, Crash, World

_REFUSED = BuildbucketError("PERMISSION_DENIED", "no", transient=False)
_POLLED = f"""
trigger {{ id: "poller" schedule: "with 10m interval" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} }}
"""


class _Announcing(World):
    """A scheduler with a topic in memory."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.said = MemoryTopic()
        super().__init__(*args, topic=self.said, **settings)

    def news(self) -> list[str]:
        """Return the transition of each message, in the order of publication."""
        return [attributes["transition"] for attributes, _ in self.said.messages]

    def build(self, number: int, status: str = "SUCCESS") -> None:
        """Run one build from its commit to its end, and deliver the tasks."""
        self.commit(f"{number:x}", f"m{number}")
        self.finish(status)
        self.notify(f"n{number}")
        self.tick()


def test_nothing_is_recorded_without_a_topic() -> None:
    """Off by default: no document and no task."""
    world = World()
    world.commit()
    assert world.counted() == "2R/5W/3c"
    world.finish()
    world.notify("n")
    assert world.counted() == "2R/2W/1c"
    assert world.works() == []
    assert [task.kind for task in world.queue.tasks] == ["timer"]


def test_a_topic_costs_one_write_in_the_commit_and_one_task() -> None:
    """Then one read, one message, and one deletion, all outside the engine's delivery."""
    world = _Announcing()
    world.commit()
    assert world.counted() == "2R/6W/3c"
    assert sorted(task.kind for task in world.queue.tasks) == ["deferred", "timer"]
    world.tick()
    assert world.counted() == "1R/1W/1c"
    world.finish()
    world.notify("n")
    assert world.counted() == "2R/3W/1c"
    world.tick()
    assert world.counted() == "1R/1W/1c"
    assert world.works() == []
    assert world.news() == ["started", "succeeded"]


def test_a_message_names_everything_that_a_reader_needs() -> None:
    """Attributes for filters; data for people and programs, with a link and RFC 3339 times."""
    world = _Announcing(hostname="scheduler.example.com")
    world.build(10, "FAILURE")
    (invocation,) = world.invocations()
    (_, _), (attributes, data) = world.said.messages
    assert attributes == {
        "schema": "1", "event_id": f"proj/job/{invocation.id}/ended", "event": "ended", "project": "proj",
        "job": "job", "invocation": str(invocation.id), "kind": "buildbucket", "status": "FAILED",
        "transition": "first_failure", "repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40,
    }  # fmt: skip
    assert data == {
        "schema": 1, "eventId": attributes["event_id"], "event": "ended", "project": "proj", "job": "job",
        "invocation": str(invocation.id), "kind": "buildbucket", "status": "FAILED", "transition": "first_failure",
        "repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40, "revisions": ["a" * 40],
        "started": "2026-03-01T12:00:01Z", "finished": "2026-03-01T12:00:02Z", "buildLink": invocation.view_url,
        "text": "proj/job failed at aaaaaaaaaaaa of main",
        "link": f"https://scheduler.example.com/jobs/proj/job/{invocation.id}",
    }  # fmt: skip


def test_the_transition_tells_the_first_failure_and_the_recovery() -> None:
    """An abort between two failures hides nothing."""
    world = _Announcing()
    for number, status in enumerate(("FAILURE", "FAILURE", "SUCCESS", "SUCCESS", "FAILURE")):
        world.build(number, status)
    world.commit("9", "m9")
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "abort")
    world.tick()
    world.build(10, "FAILURE")
    assert [news for news in world.news() if news != "started"] == [
        "first_failure", "failed", "recovered", "succeeded", "first_failure", "aborted", "failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("earlier", "status", "expected"),
    [
        ([], Status.SUCCEEDED, Transition.SUCCEEDED),
        ([], Status.OVERRUN, Transition.FIRST_FAILURE),
        ([Status.OVERRUN], Status.SUCCEEDED, Transition.RECOVERED),
        ([Status.ABORTED, Status.FAILED], Status.SUCCEEDED, Transition.RECOVERED),
        ([Status.ABORTED], Status.FAILED, Transition.FIRST_FAILURE),
    ],
)
def test_a_transition_compares_with_the_last_result_that_says_something(
    earlier: list[Status], status: Status, expected: Transition
) -> None:
    """An abort says nothing; no result counts as a success."""
    world = World()
    world.commit()
    result = result_of(world.invocations()[0])
    assert transition(status, [replace(result, status=item) for item in earlier]) is expected


def test_a_status_check_of_a_running_build_announces_nothing() -> None:
    """It writes the invocation, whose start has been announced."""
    world = _Announcing()
    world.commit()
    for _ in range(3):
        world.tick(600)
    assert world.log().count("Handling timer") >= 2
    assert world.news() == ["started"]
    assert world.works() == []


def test_an_end_without_a_build_has_no_start() -> None:
    """A refused launch and a poll end in their launch."""
    world = _Announcing()
    world.buildbucket.faults = [_REFUSED]
    world.commit()
    world.tick()
    assert world.news() == ["first_failure"]
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")
    polled = _Announcing(_POLLED, gitiles)
    polled.tick(600)
    polled.tick()
    ((attributes, _),) = polled.said.messages
    assert (attributes["kind"], attributes["transition"], "revision" in attributes) == (
        "gitiles", "succeeded", False,
    )  # fmt: skip


@pytest.mark.parametrize("lost", ["task", "answer of the commit", "process after the commit"])
def test_a_fault_around_the_commit_loses_no_announcement(lost: str) -> None:
    """The document is part of the commit, and the sweep makes the task again."""
    world = _Announcing()
    world.commit()
    world.tick()
    world.finish()
    commit, done = world.store.commit, []

    def failing(writes: Any) -> Any:
        versions = commit(writes)
        if not done and any(isinstance(write, PutDeferred) for write in writes):
            done.append(lost)
            if lost == "answer of the commit":
                raise StoreConflictError("the commit landed; this is the answer to the client's second try")
            if lost == "process after the commit":
                raise Crash
        return versions

    world.store.commit = failing  # type: ignore[method-assign]
    try:
        world.notify("n")
    except Crash:
        assert lost == "process after the commit"
    if lost == "task":
        world.queue.purge()
    for _ in range(4):
        world.clock.advance(MINUTE)
        sweep(world.runtime)
        world.tick()
    assert done
    assert world.news() == ["started", "succeeded"]
    assert world.works() == []


def test_a_crash_after_the_publication_repeats_the_message() -> None:
    """At least once: both copies have the same ``event_id``."""
    world = _Announcing()
    world.commit()
    delete = world.store.commit

    def crash(_: Any) -> Any:
        world.store.commit = delete  # type: ignore[method-assign]
        raise TransientError("the store does not answer")

    world.store.commit = crash  # type: ignore[method-assign]
    world.tick()
    world.tick(5)
    first, second = world.said.messages
    assert first == second
    assert world.works() == []


def test_an_outage_of_the_topic_delays_only_the_announcement() -> None:
    """Builds start and end. The pauses grow, so that an outage costs few calls, and everything is published later."""
    world, calls = _Announcing(), []

    def refuse() -> None:
        calls.append(world.clock.now())
        raise TransientError("PERMISSION_DENIED: no")

    world.said.before_publish = refuse
    world.build(1)
    world.build(2, "FAILURE")
    for _ in range(60):
        world.tick(60)
        sweep(world.runtime)
    assert [item.status for item in world.invocations()] == [Status.FAILED, Status.SUCCEEDED]
    works = world.works()
    assert len(works) == 4
    assert all("the topic does not take the announcement: PERMISSION_DENIED" in work.reason for work in works)
    assert len(calls) < 4 * 10
    world.said.before_publish = lambda: None
    for _ in range(60):
        world.tick(60)
    assert sorted(world.news()) == ["first_failure", "started", "started", "succeeded"]
    assert world.works() == []


def test_a_week_without_the_topic_costs_few_tries() -> None:
    """Each invocation leaves two documents, so the tries of a week's invocations must not become a load."""
    world = _Announcing()
    world.said.before_publish = lambda: (_ for _ in ()).throw(TransientError("NOT_FOUND"))
    world.commit()
    (work,) = world.works()
    tries = 0
    while left := try_announcement(world.runtime, work):
        work, tries = left, tries + 1
        assert work.next_due - world.clock.now() <= 6 * HOUR
        world.clock.advance(work.next_due - world.clock.now())
    assert world.clock.now() - work.created >= 7 * DAY
    assert tries < 50


def _refuse_message() -> None:
    raise PermanentError("INVALID_ARGUMENT: no")


@pytest.mark.parametrize("end", ["after a week", "when it is switched off", "when it is refused for good"])
def test_a_message_that_cannot_be_published_is_dropped(end: str) -> None:
    """A topic that is gone must not leave work behind for ever."""
    world = _Announcing()
    world.commit()
    if end == "after a week":
        world.said.before_publish = lambda: (_ for _ in ()).throw(TransientError("NOT_FOUND"))
        world.tick()
        world.clock.advance(7 * DAY)
    elif end == "when it is switched off":
        world.runtime = replace(world.runtime, topic=None)
    else:
        world.said.before_publish = _refuse_message
    with capture_logs() as logs:
        (work,) = world.works()
        (task,) = [task for task in world.queue.tasks if task.kind == "deferred"][:1]
        try:
            world.run_task(replace(task, payload={**task.payload, "tries": work.tries}))
        except PermanentError:
            assert end == "when it is refused for good"
    assert world.works() == []
    dropped = [line["log_level"] for line in logs if line["event"] == "announcement_dropped"]
    assert dropped == {"after a week": ["error"], "when it is switched off": ["warning"]}.get(end, [])


def test_texts_that_pubsub_would_refuse_stay_out_of_attributes() -> None:
    """An attribute has at most 1,024 bytes, and a refused message would never be published."""
    world = World()
    world.commit()
    payload = {"repo": "\N{GRINNING FACE}" * 400, "ref": "r" * 1000, "revision": ""}
    trigger = replace(made("t"), kind=PayloadKind.GITILES, payload=payload)
    ended = replace(
        world.invocations()[0], incoming_triggers=(trigger,), status=Status.FAILED, finished=Instant(2 * 10**18)
    )
    announcement = end_of(ended, [])
    assert {"repo", "ref", "revision"}.isdisjoint(announcement.attributes)
    assert announcement.data["text"] == "proj/job failed"


def test_a_bad_document_is_dropped() -> None:
    """Only a defect or a person could write one."""
    world = _Announcing()
    world.commit()
    (work,) = world.works()
    bad = replace(work, payload={"attributes": []})
    found = world.store.deferred(work.id)
    assert found is not None
    world.store.commit([PutDeferred(bad, found.version)])
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    with pytest.raises(PermanentError, match="holds no announcement"):
        world.run_task(task)
    assert world.works() == []


_ENDS: list[Callable[[_Announcing], None]] = [
    lambda world: world.notify("n"),
    lambda world: [world.tick(60), None][1],
    lambda world: abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k"),
]


@pytest.mark.parametrize("end", _ENDS, ids=["notification", "status check", "abort"])
def test_every_way_to_end_is_announced(end: Callable[[_Announcing], None]) -> None:
    """One message each, also if the job was removed from the config."""
    world = _Announcing()
    world.commit()
    world.tick()
    world.sync("")
    world.finish()
    end(world)
    for _ in range(2):
        world.tick(1)
    assert len(world.said.messages) == 2
    assert world.said.messages[1][0]["event_id"].endswith("/ended")
    assert world.store.job(JobId(JOB)) is not None
