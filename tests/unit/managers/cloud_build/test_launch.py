"""Launches of Cloud Build jobs: one build is kept, for every failure of the request and of the look-up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.outbox import launch_task
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import CloudBuildError
from tests.unit.engine.world import JOB, Crash
from tests.unit.managers.cloud_build.cloud import DENIED, DOWN, STEPS, THROTTLED, TRIGGER, CloudWorld, sample


def _started(block: str = STEPS, **settings: Any) -> CloudWorld:
    """Return a world whose job has run for a commit, with the launch's own task if it has one."""
    world = CloudWorld(block, **settings)
    world.commit()
    world.tick(0)
    return world


def _unanswered(block: str = STEPS, lag: int = 0) -> CloudWorld:
    """Return a world in which the first request got no answer: the build exists, but its ID is unknown."""
    world = CloudWorld(block)
    world.cloud.lost = ["create", "run"]
    world.cloud.lag = lag
    world.commit()
    world.tick(0)
    assert world.invocation.status is Status.RETRYING
    return world


@pytest.mark.parametrize(("block", "action"), [(STEPS, "create"), (TRIGGER, "run")])
def test_an_answer_in_time_is_recorded(block: str, action: str) -> None:
    """The invocation runs, and knows where its build is."""
    world = _started(block)
    (build_id,) = world.cloud.ids()
    assert world.cloud.calls == [action]
    assert world.invocation.status is Status.RUNNING
    assert world.invocation.view_url == world.cloud.builds[build_id]["logUrl"]
    data = dict(world.invocation.task_data)
    assert {name: data[name] for name in ("build_id", "project", "location", "status")} == {
        "build_id": build_id,
        "project": "cloud-project",
        "location": "us-central1",
        "status": "QUEUED",
    }
    assert [timer.title for timer in world.invocation.pending_timers] == ["check-cloud-build-status"]
    assert f"Task URL: {world.invocation.view_url}" in world.lines()


@pytest.mark.parametrize(
    "repository", ["https://[", "ext::sh -c id", "file:///etc", "https://user:password@h/x", "https://h/x\u202e"]
)
def test_a_repository_that_is_none_refuses_the_launch(repository: str) -> None:
    """Each person who may trigger a job chooses the property. With a repository in the definition it has no effect."""
    properties = {"revision": "a" * 40, "repository": repository}
    trigger = Trigger("t", Instant(0), PayloadKind.BUILDBUCKET, {"properties": properties})
    own = f'{STEPS} source {{ repo: "https://github.com/example-org/widget" revision: "main" }}'
    for block, status, calls in ((STEPS, Status.FAILED, []), (own, Status.RUNNING, ["create"])):
        world = CloudWorld(block)
        accept_triggers(world.runtime, JOB, [trigger], "k")
        world.tick(0)
        assert (world.invocation.status, world.cloud.calls) == (status, calls)
        assert ("no repository to build" in world.log(JOB)) == (status is Status.FAILED)


def test_a_second_delivery_of_a_launch_finds_its_claim() -> None:
    """It requests nothing."""
    world = CloudWorld()
    tasks: list[Any] = []
    world.cloud.on_create = lambda: tasks.append(launch_task(world.invocation, world.clock.now(), world.clock.now()))
    world.commit()
    world.run_task(tasks[0])
    assert world.cloud.calls == ["create"]


@pytest.mark.parametrize(("block", "seconds"), [(STEPS, 60), (TRIGGER, 120)])
def test_a_request_has_its_limit(block: str, seconds: int) -> None:
    """A trigger's source is resolved while its request waits, so that request may take longer."""
    world = _started(block)
    assert world.cloud.limits == [seconds]


def test_a_trigger_runs_in_a_separate_task() -> None:
    """The delivery of a commit does not wait for the trigger's source."""
    world = CloudWorld(TRIGGER)
    world.commit()
    assert world.cloud.calls == []
    world.tick(0)
    assert world.cloud.calls == ["run"]


@pytest.mark.parametrize("block", [STEPS, TRIGGER])
def test_a_lost_answer_is_looked_up_after_a_minute(block: str) -> None:
    """No attempt comes sooner, and the build is adopted."""
    world = _unanswered(block)
    action, *_ = world.cloud.calls
    world.tick(59)
    assert world.cloud.calls == [action]
    world.tick(1)
    assert world.cloud.calls == [action, "list"]
    assert world.invocation.status is Status.RUNNING
    assert world.cloud.statuses == ["QUEUED"]
    assert f"Found the build of an earlier attempt: {world.cloud.ids()[0]}" in world.lines()
    assert world.lines().count("Cloud Build request:") == 1


def test_an_older_task_does_not_shorten_the_pause() -> None:
    """A task that another delivery left for the end of the claim comes before the pause ends: it waits."""
    world = _unanswered()
    now = world.clock.now()
    world.run_task(launch_task(world.invocation, now, now))
    world.tick(10)
    assert world.cloud.calls == ["create"]
    world.tick(50)
    assert world.cloud.calls == ["create", "list"]


def test_a_dead_process_leaves_a_pause_too() -> None:
    """The next attempt comes at the end of the claim: a minute after the last moment of the request."""
    world = CloudWorld()

    def die() -> None:
        world.cloud.on_create = None
        raise Crash

    world.cloud.on_create = die
    with pytest.raises(Crash):
        world.commit()
    started = world.clock.now()
    claim_until = world.invocation.claim_until
    assert claim_until is not None
    assert claim_until - started >= 2 * MINUTE
    world.clock.advance(claim_until - started)
    world.run_task(launch_task(world.invocation, world.clock.now(), world.clock.now()))
    assert world.cloud.calls == ["create", "list"]
    assert world.invocation.status is Status.RUNNING
    assert len(world.cloud.builds) == 1


def test_no_request_outlives_the_pause_before_the_end_of_its_claim() -> None:
    """A late start of an attempt shortens the limit of its request."""
    world = CloudWorld()
    world.store.before_commit = lambda _: world.clock.advance(40 * SECOND)
    world.commit()
    assert world.cloud.limits == [35]


def test_a_list_that_lags_longer_than_the_pause_leads_to_a_second_build_which_is_canceled() -> None:
    """The first build's own message names it: it is fetched, found to be ours, and canceled."""
    world = _unanswered(lag=90)
    assert world.announce_build(0) == 409  # the launch is under way
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "create"]
    assert world.cloud.statuses == ["QUEUED", "QUEUED"]
    first, second = world.cloud.ids()
    assert world.announce_build(0) == 200
    assert world.cloud.statuses == ["CANCELLED", "QUEUED"]
    assert f"Build {first} of a lost attempt is running beside {second}, canceling it" in world.lines()
    world.cloud.finish()
    world.announce_build(1, "end")
    assert world.invocation.status is Status.SUCCEEDED


def test_an_answer_without_a_build_is_looked_up_at_once() -> None:
    """The look-up finds the build."""
    world = CloudWorld()
    world.cloud.answers["create"] = [{"name": "operations/build/x"}]
    world.commit()
    assert world.cloud.calls == ["create", "list"]
    assert world.invocation.status is Status.RUNNING


def test_an_answer_without_a_build_that_no_list_shows_is_tried_again() -> None:
    """The next attempt looks up first."""
    world = CloudWorld()
    world.cloud.lag = 30
    world.cloud.answers["create"] = [{}]
    world.commit()
    assert world.invocation.status is Status.RETRYING
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "list"]
    assert len(world.cloud.builds) == 1


def test_a_failed_operation_without_a_build_fails() -> None:
    """Cloud Build's words are the reason."""
    world = CloudWorld()
    world.cloud.answers["create"] = [{"done": True, "error": {"code": 3, "message": "no such machine"}}]
    world.commit()
    assert world.invocation.status is Status.FAILED
    assert world.invocation.summary == "Cloud Build made no build: no such machine"


def test_a_build_with_a_strange_id_fails() -> None:
    """The ID would become a part of URLs."""
    world = CloudWorld()
    world.cloud.answers["create"] = [{"metadata": {"build": {"id": "../x", "status": "QUEUED"}}}]
    world.commit()
    assert world.invocation.status is Status.FAILED


def test_a_build_that_is_over_at_once_decides() -> None:
    """The build in the metadata counts, not the operation."""
    world = CloudWorld()
    world.cloud.answers["create"] = [sample("operation-failed-at-once")]
    world.commit()
    assert world.invocation.status is Status.FAILED
    assert world.invocation.task_data["status"] == "INTERNAL_ERROR"
    assert world.invocation.pending_timers == ()


@pytest.mark.parametrize("error", [THROTTLED, CloudBuildError("ABORTED", "try again", transient=True)])
def test_a_refusal_for_now_is_tried_again_after_a_minute(error: CloudBuildError) -> None:
    """No build was made."""
    world = CloudWorld()
    world.cloud.faults["create"] = [error]
    world.commit()
    assert world.invocation.status is Status.RETRYING
    due = world.invocation.next_due
    assert due is not None
    assert due - world.clock.now() >= MINUTE
    world.tick(120)
    assert world.cloud.calls == ["create", "list", "create"]
    assert world.invocation.status is Status.RUNNING


def test_a_refused_first_request_fails_without_a_look_up() -> None:
    """No build can exist. The log has the service's words and the remedy."""
    world = CloudWorld()
    world.cloud.faults["create"] = [DENIED]
    world.commit()
    assert world.cloud.calls == ["create"]
    assert world.invocation.status is Status.FAILED
    assert "Failed to create the build - PERMISSION_DENIED: The caller does not have permission" in world.lines()
    assert any(line.startswith("To fix this, grant the scheduler's account") for line in world.lines())


def test_a_refused_trigger_run_has_its_own_line() -> None:
    """The line names the call, and the next one the fields of the job to look at."""
    world = CloudWorld(TRIGGER)
    world.cloud.faults["run"] = [CloudBuildError("NOT_FOUND", "no such trigger", transient=False)]
    world.commit()
    world.tick(0)
    assert "Failed to run the trigger - NOT_FOUND: no such trigger" in world.lines()
    assert "To fix this, correct the trigger, project or location of the job, or create that trigger" in world.lines()


def test_a_refused_second_request_cancels_what_may_run() -> None:
    """The look-up before the request misses the build of the first attempt, and the look-up after it finds it."""
    world = _unanswered()
    world.cloud.faults["create"] = [DENIED]
    world.cloud.answers["list"] = [{}]
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "create", "list", "cancel"]
    assert world.invocation.status is Status.FAILED
    assert world.cloud.statuses == ["CANCELLED"]


def test_a_transient_look_up_creates_nothing() -> None:
    """The attempt is transient as a whole."""
    world = _unanswered()
    world.cloud.faults["list"] = [DOWN]
    world.tick(60)
    assert world.cloud.calls == ["create", "list"]
    assert world.invocation.status is Status.RETRYING
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "list"]
    assert world.invocation.status is Status.RUNNING


@pytest.mark.parametrize(
    ("block", "where"),
    [(STEPS, "the tag scheduler-invocation-{}"), (TRIGGER, "the substitution _SCHEDULER_INVOCATION={}")],
)
def test_a_refused_look_up_creates_nothing(block: str, where: str) -> None:
    """The launch fails, and the log names how a person finds the build."""
    world = _unanswered(block)
    world.cloud.faults["list"] = [DENIED, DENIED]
    world.tick(60)
    assert {"create", "run"} & set(world.cloud.calls[1:]) == set()
    assert world.invocation.status is Status.FAILED
    assert "Failed to look up the build - PERMISSION_DENIED: The caller does not have permission" in world.lines()
    found = where.format(world.invocation.id)
    assert f"A build of an earlier attempt may be running: look for builds with {found}" in world.lines()


def test_the_oldest_of_several_builds_is_adopted() -> None:
    """The others are canceled if they go on; a build of another invocation is left alone."""
    world = _unanswered()
    ours = world.cloud.builds[world.cloud.ids()[0]]
    for _ in range(2):
        world.clock.advance(SECOND)
        world.cloud.make("cloud-project", "us-central1", ours["substitutions"], ours["tags"])
    other = {**ours["substitutions"], "_SCHEDULER_INVOCATION": "1"}
    world.cloud.make("cloud-project", "us-central1", other, ours["tags"])
    world.cloud.finish("SUCCESS", 2)
    world.tick(60)
    assert world.cloud.statuses == ["QUEUED", "CANCELLED", "SUCCESS", "QUEUED"]
    assert world.invocation.task_data["build_id"] == world.cloud.ids()[0]


@pytest.mark.parametrize("key", ["_SCHEDULER_APP", "_SCHEDULER_JOB", "_SCHEDULER_INVOCATION"])
def test_a_found_build_needs_all_three_substitutions(key: str) -> None:
    """A build with the tag but another identity is not adopted."""
    world = _unanswered()
    world.cloud.builds[world.cloud.ids()[0]]["substitutions"][key] = "another"
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "create"]


def test_the_look_up_of_a_trigger_reads_pages_back_to_the_start() -> None:
    """An empty page with a token is not the end; a build from before the invocation is."""
    world = _unanswered(TRIGGER)
    ours = dict(world.cloud.builds[world.cloud.ids()[0]])
    others = [{**ours, "substitutions": {}}]
    old = [{**ours, "substitutions": {}, "createTime": "2026-03-01T11:00:00Z"}]
    world.cloud.answers["list"] = [
        {"builds": others, "nextPageToken": "a"},
        {"nextPageToken": "b"},
        {"builds": old, "nextPageToken": "c"},
    ]
    world.tick(60)
    assert world.cloud.calls == ["run", "list", "list", "list", "run"]


def test_the_look_up_of_a_trigger_finds_the_oldest_build_on_a_later_page() -> None:
    """Others may make a hundred builds between two attempts, and each attempt may have made a build."""
    world = _unanswered(TRIGGER)
    first = world.cloud.builds[world.cloud.ids()[0]]
    world.clock.advance(SECOND)
    second = world.cloud.make("cloud-project", "us-central1", first["substitutions"])
    world.cloud.answers["list"] = [
        {"builds": [dict(second)], "nextPageToken": "a"},
        {"builds": [dict(first)], "nextPageToken": "b"},
        {},
    ]
    world.tick(60)
    assert world.cloud.statuses == ["QUEUED", "CANCELLED"]
    assert world.invocation.task_data["build_id"] == first["id"]


def test_a_look_up_reads_ten_pages_at_most() -> None:
    """A service that always names another page does not hold the launch. It proves nothing, so no build is made."""
    world = _unanswered()
    world.cloud.answers["list"] = [{"nextPageToken": "more"} for _ in range(20)]
    world.tick(60)
    assert world.cloud.calls == ["create", *["list"] * 10]
    assert world.invocation.status is Status.RETRYING


def test_an_empty_page_of_a_look_up_is_not_its_end() -> None:
    """The build of the lost answer is on the next page, and no second one is made."""
    world = _unanswered()
    ours = dict(world.cloud.builds[world.cloud.ids()[0]])
    world.cloud.answers["list"] = [{"nextPageToken": "a"}, {"builds": [], "nextPageToken": "b"}, {"builds": [ours]}]
    world.tick(60)
    assert world.cloud.calls == ["create", "list", "list", "list"]
    assert [query.get("pageToken") for query in world.cloud.queries[1:]] == [None, "a", "b"]
    assert world.invocation.task_data["build_id"] == ours["id"]


def test_giving_up_cancels_what_may_run() -> None:
    """The last attempt's answer is lost, so a cleanup cancels the build once a list shows it."""
    world = CloudWorld()
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, max_attempts=1))
    world.cloud.lost = ["create"]
    world.cloud.lag = 5
    world.commit()
    assert world.invocation.status is Status.FAILED
    assert world.cloud.statuses == ["QUEUED"]
    world.tick(10)
    assert world.cloud.statuses == ["CANCELLED"]


def test_an_abort_during_the_pause_cancels_the_build_that_a_list_shows_late() -> None:
    """An empty look-up soon after a request proves nothing, so a cleanup looks again."""
    world = _unanswered(lag=90)
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["QUEUED"]
    for _ in range(4):
        world.tick(60)
    assert world.cloud.statuses == ["CANCELLED"]
    assert world.invocation.cleanup is None


def test_a_found_build_proves_nothing_about_that_of_another_attempt() -> None:
    """The second attempt's build is too new for the list. A cleanup looks again, although the first one is found."""
    world = _unanswered(lag=90)
    world.cloud.lost.append("create")
    world.tick(60)
    assert world.cloud.statuses == ["QUEUED", "QUEUED"]
    world.clock.advance(40 * SECOND)
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["CANCELLED", "QUEUED"]
    for _ in range(4):
        world.tick(60)
    assert world.cloud.statuses == ["CANCELLED", "CANCELLED"]
    assert world.invocation.cleanup is None


def test_an_installation_without_cloud_build_refuses_launches() -> None:
    """The text names the setting."""
    world = _started(cloud_build=False)
    assert world.cloud.calls == []
    assert world.invocation.status is Status.FAILED
    expected = "this installation has no Cloud Build jobs: set SCHEDULER_CLOUD_BUILD to true"
    assert world.invocation.summary == expected
    assert f"The build cannot be requested - {expected}" in world.lines()


def test_a_lost_race_keeps_the_answers() -> None:
    """The attempt is decided again without another request."""
    world = CloudWorld()

    def overtake() -> None:
        world.cloud.on_create = None
        abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")

    world.cloud.on_create = overtake
    world.commit()
    assert world.cloud.calls == ["create", "cancel"]
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["CANCELLED"]


def test_a_takeover_with_the_same_build_cancels_nothing() -> None:
    """Two attempts know one build, each with another status of it: the identity counts, not the status."""
    world = CloudWorld()

    def take_over() -> None:
        world.cloud.on_create = None
        claim_until = world.invocation.claim_until
        assert claim_until is not None
        world.clock.advance(claim_until - world.clock.now())
        world.cloud.builds[world.cloud.ids()[0]]["status"] = "WORKING"
        world.run_task(launch_task(world.invocation, world.clock.now(), world.clock.now()))
        world.cloud.builds[world.cloud.ids()[0]]["status"] = "QUEUED"

    world.cloud.on_create = take_over
    world.commit()
    assert world.cloud.calls == ["create", "list"]
    assert world.cloud.statuses == ["QUEUED"]
    assert world.invocation.status is Status.RUNNING


def test_a_project_that_the_installation_does_not_permit_is_refused() -> None:
    """Nothing is sent."""
    world = _started(f'project: "other-project" {STEPS}')
    assert world.cloud.calls == []
    assert world.invocation.status is Status.FAILED
    assert 'project "other-project" may not be built in by this installation' in world.invocation.summary
