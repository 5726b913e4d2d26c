"""Every request except the first searches for the build before; each answer is verified.

Duplicate builds are canceled.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import structlog

from emulator.memory.system import SeededEntropy
from luci_scheduler.bootstrap import make_app
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.ports import BuildbucketError, UpdateInvocation
from luci_scheduler.settings import BuildbucketServer
from tests.unit.engine.buildbucket_model import Model
from tests.unit.engine.world import HOST, JOB, World, config

ERAS = pytest.mark.parametrize("era", [Era.V1, Era.V2])
LOST = BuildbucketError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)


def _world(era: Era = Era.V2, text: str | None = None, **model: Any) -> tuple[World, Model]:
    """Return a world whose one Buildbucket server is a model."""
    world = World(text)
    buildbucket = Model(world.clock, **model)
    world.buildbucket = buildbucket  # type: ignore[assignment]
    server = BuildbucketServer(HOST, "cr-buildbucket@appspot.gserviceaccount.com", era)
    settings = replace(world.app.settings, buildbucket_servers=(server,))
    app = make_app(settings, replace(world.ports, buildbucket=buildbucket))
    world.app, world.runtime = app, app.runtime
    return world, buildbucket


def _conflict_once(world: World, status: Status, *, has_landed: bool) -> None:
    """Make the store report the first commit that records a status as a conflict."""
    commit, done = world.store.commit, []

    def contended(writes: Any) -> Any:
        if not done and any(
            isinstance(write, UpdateInvocation) and write.invocation.status is status for write in writes
        ):
            done.append(True)
            if has_landed:
                commit(writes)
            raise StoreConflictError("Firestore: Too much contention on these documents")
        return commit(writes)

    world.store.commit = contended  # type: ignore[method-assign]


def _lose_the_first_answer(buildbucket: Model, hang: int = 0) -> None:
    answered: list[str] = []

    def lose(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if method == "ScheduleBuild" and not answered:
            answered.append(method)
            buildbucket.clock.advance(hang)
            raise LOST
        return answer

    buildbucket.after = lose


@ERAS
@pytest.mark.parametrize("hang", [1, 60])
@pytest.mark.parametrize("has_landed", [False, True])
def test_a_lost_answer_and_a_lost_race_send_one_request(era: Era, hang: int, has_landed: bool) -> None:
    """The answer is lost and the commit of RETRYING conflicts: the delivery sends no second request."""
    world, buildbucket = _world(era, remembers=0 if era is Era.V1 else MINUTE)
    _lose_the_first_answer(buildbucket, hang * SECOND)
    _conflict_once(world, Status.RETRYING, has_landed=has_landed)
    world.commit()
    assert buildbucket.calls == ["ScheduleBuild"]
    assert [invocation.status for invocation in world.invocations()] == [Status.RETRYING]
    for _ in range(3):
        world.tick(80)
    assert buildbucket.live == [world.invocations()[0].task_data["build_id"]] == list(buildbucket.builds)


def test_a_committed_outcome_is_not_recorded_twice() -> None:
    """The claim holder's commit landed although the store reported a conflict: the log holds its lines once."""
    world, _ = _world()
    _conflict_once(world, Status.RUNNING, has_landed=True)
    world.commit()
    assert world.invocations()[0].status is Status.RUNNING
    assert world.log().count("Scheduled build:") == 1
    assert len(world.queue.tasks) == 1


def test_a_committed_end_launches_its_successor_without_the_sweep() -> None:
    """The end landed although the store reported a conflict: its successor has a launch task."""
    world, buildbucket = _world()
    world.commit("a", "m1")
    world.commit("b", "m2")
    _conflict_once(world, Status.SUCCEEDED, has_landed=True)
    buildbucket.builds["9000"].status = "SUCCESS"
    world.tick(60)
    world.tick(1)
    assert [invocation.status for invocation in world.invocations()] == [Status.RUNNING, Status.SUCCEEDED]


def _without_id(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {} if method == "ScheduleBuild" else answer


def _refused(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    if method == "ScheduleBuild":
        raise BuildbucketError("FAILED_PRECONDITION", "made up after the build", transient=False)
    return answer


@ERAS
@pytest.mark.parametrize("spoil", [_without_id, _refused])
def test_a_first_attempt_that_is_finally_refused_cancels_its_build(era: Era, spoil: Any) -> None:
    """The build exists, though the answer has no ID or is a refusal: a search finds it, and it is canceled."""
    world, buildbucket = _world(era)
    buildbucket.after = spoil
    world.commit()
    assert world.invocations()[0].status is Status.FAILED
    assert len(buildbucket.builds) == 1
    assert buildbucket.live == []


@ERAS
def test_a_lookup_that_finds_several_builds_keeps_the_oldest(era: Era) -> None:
    """The other builds are canceled, and both logs say so."""
    world, buildbucket = _world(era)
    _lose_the_first_answer(buildbucket)
    world.commit()
    (first,) = buildbucket.builds.values()
    for number in (8500, 8501):
        buildbucket.builds[str(number)] = replace(first, id=str(number), created=world.clock.now())
    buildbucket.builds["8501"].status = "COMPLETED" if era is Era.V1 else "FAILURE"
    with structlog.testing.capture_logs() as events:
        world.tick(5)
    assert world.invocations()[0].task_data == {"build_id": "9000"}
    assert buildbucket.canceled == ["8500"]
    assert "The invocation has builds 9000 and 8500: canceling 8500" in world.log()
    doubled = [event for event in events if event["event"] == "builds_doubled"]
    assert [(event["build_id"], event["double"]) for event in doubled] == [("9000", "8500")]


@ERAS
@pytest.mark.parametrize("is_aborted", [False, True])
def test_an_end_that_finds_several_builds_cancels_all(era: Era, is_aborted: bool) -> None:
    """This holds for an abort, and for the launch that gives up."""
    world, buildbucket = _world(era)
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, max_attempts=1 + is_aborted))

    def double(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if method == "ScheduleBuild":
            (first,) = buildbucket.builds.values()
            buildbucket.builds["8500"] = replace(first, id="8500")
            raise LOST
        return answer

    buildbucket.after = double
    world.commit()
    if is_aborted:
        abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
        world.tick(1)
    assert world.invocations()[0].status is (Status.ABORTED if is_aborted else Status.FAILED)
    assert sorted(buildbucket.canceled) == ["8500", "9000"]


class _SameSuffix(SeededEntropy):
    """Draws the same suffix every time, as two instances might within one millisecond."""

    def invocation_suffix(self) -> int:
        return 4711


def _two_jobs(era: Era, *, same_builder: bool = False, **model: Any) -> tuple[World, Model]:
    text = config(("one", "two"))
    text = text.replace('builder: "two"', 'builder: "one"') if same_builder else text
    world, buildbucket = _world(era, text, **model)
    world.runtime = replace(world.runtime, entropy=_SameSuffix(1))
    return world, buildbucket


def _watched(world: World) -> dict[str, str]:
    jobs = [world.invocations(JobId(f"proj/{name}"))[0] for name in ("one", "two")]
    assert jobs[0].id == jobs[1].id
    assert [invocation.status for invocation in jobs] == [Status.RUNNING] * 2
    return {invocation.job_id: invocation.task_data["build_id"] for invocation in jobs}


@ERAS
@pytest.mark.parametrize("same_builder", [False, True])
def test_two_jobs_that_draw_the_same_id_have_two_builds(era: Era, same_builder: bool) -> None:
    """The second job gets the build of the first, detects that, and sends a request with another ID."""
    world, buildbucket = _two_jobs(era, same_builder=same_builder, shows_tags=same_builder)
    world.commit()
    watched = _watched(world)
    assert sorted(watched.values()) == sorted(buildbucket.builds)
    made = {str(build.request): build.id for build in buildbucket.builds.values()}
    assert all(watched[job] == next(made[request] for request in made if job in request) for job in watched)
    ids = sorted(build.request_id for build in buildbucket.builds.values())
    number = str(world.invocations(JobId("proj/one"))[0].id)
    assert ids == [number, f"{number}-2"]
    assert Counter(buildbucket.calls) == {
        "ScheduleBuild": 3,
        "SearchBuilds": 1,
    }  # the second request of an attempt searches first


def _of_another(era: Era, build_id: str) -> dict[str, Any]:
    """Return a build of another builder, as a faulty search might."""
    if era is Era.V1:
        return {"id": build_id, "status": "SCHEDULED", "bucket": "luci.other.ci", "tags": ["builder:x"]}
    return {
        "id": build_id,
        "status": "SCHEDULED",
        "builder": {"project": "other", "bucket": "ci", "builder": "x"},
    }


@ERAS
@pytest.mark.parametrize("is_aborted", [False, True])
def test_a_lookup_that_finds_foreign_builds_leaves_them_alone(era: Era, is_aborted: bool) -> None:
    """A build of another invocation is neither watched nor canceled, for every reason to search."""
    world, buildbucket = _world(era)
    _lose_the_first_answer(buildbucket)
    lose = buildbucket.after

    def search_too_much(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if method == "SearchBuilds":
            found = answer.get("builds", [])
            return {"builds": [_of_another(era, "7001"), *found, _of_another(era, "7002")]}
        return lose(method, answer)

    buildbucket.after = search_too_much
    world.commit()
    if is_aborted:
        abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(5)
    (invocation,) = world.invocations()
    assert invocation.status is (Status.ABORTED if is_aborted else Status.RUNNING)
    assert invocation.task_data == ({} if is_aborted else {"build_id": "9000"})
    assert buildbucket.canceled == (["9000"] if is_aborted else [])


@ERAS
def test_the_second_request_of_two_jobs_with_the_same_id_is_found_again(era: Era) -> None:
    """The answer to the second request is lost: the next attempt finds that build, and not the other job's."""
    world, buildbucket = _two_jobs(era, remembers=70 * SECOND)

    def lose(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if method == "ScheduleBuild" and len(buildbucket.builds) == 2:
            raise LOST
        return answer

    buildbucket.after = lose
    world.commit()
    for _ in range(3):
        world.tick(30)
    assert sorted(_watched(world).values()) == sorted(buildbucket.live) == sorted(buildbucket.builds)


def test_a_server_that_always_answers_with_foreign_builds_fails_the_launch_in_the_end() -> None:
    """Requests with other IDs are limited, and so are the attempts."""
    world, buildbucket = _world()

    def foreign(method: str, answer: dict[str, Any]) -> dict[str, Any]:
        other = {"project": "other", "bucket": "ci", "builder": "x"}
        return answer | {"builder": other} if method == "ScheduleBuild" else answer

    buildbucket.after, buildbucket.lag = foreign, 10**18
    world.commit()
    assert buildbucket.calls.count("ScheduleBuild") == 4
    assert world.invocations()[0].status is Status.RETRYING
    assert f"Buildbucket answered request {world.invocations()[0].id}-4 with build" in world.log()
    for _ in range(60):
        world.tick(600)
    assert world.invocations()[0].status is Status.FAILED


@ERAS
def test_a_build_that_appears_late_in_searches_is_canceled_after_an_abort(era: Era) -> None:
    """Its answer was lost, and the first searches miss it: an early empty search proves nothing."""
    world, buildbucket = _world(era, lag=100 * SECOND)
    _lose_the_first_answer(buildbucket)
    world.commit()
    assert world.invocations()[0].status is Status.RETRYING
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocations()[0].status is Status.ABORTED
    for _ in range(20):
        world.tick(20)
    assert len(buildbucket.builds) == 1
    assert buildbucket.live == []
    assert world.invocations()[0].cleanup is None
    assert not world.queue.tasks
