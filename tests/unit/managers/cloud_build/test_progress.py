"""Running builds of Cloud Build: messages, checks, second builds and aborts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.bootstrap import make_app
from luci_scheduler.core.instants import DAY, MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.log_lines import Call
from luci_scheduler.core.untrusted import MAX_VALUES
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.managers.cloud_build.build import view_url
from luci_scheduler.managers.cloud_build.notification import read_message
from luci_scheduler.managers.controller import CallCache
from luci_scheduler.ports import CloudBuildError
from tests.unit.api.support import OWNER, Client
from tests.unit.engine.world import JOB, REPO, World
from tests.unit.managers.cloud_build.cloud import DENIED, DOWN, MISSING, STEPS, TRIGGER, CloudWorld
from tests.unit.web.support import Visitor

OVER = CloudBuildError("FAILED_PRECONDITION", "Cannot cancel a build that is not in progress.", transient=False)


def _running(block: str = STEPS, **settings: Any) -> CloudWorld:
    world = CloudWorld(block, **settings)
    world.commit()
    world.tick(0)
    assert world.invocation.status is Status.RUNNING
    world.cloud.calls.clear()
    return world


def _second(world: CloudWorld, **substitutions: str) -> dict[str, Any]:
    """Make a second build of the invocation, as an attempt does whose answer is lost."""
    first = world.cloud.builds[world.cloud.ids()[0]]
    return world.cloud.make("cloud-project", "us-central1", {**first["substitutions"], **substitutions}, first["tags"])


@pytest.mark.parametrize(
    ("build", "status"),
    [
        ({"status": "SUCCESS"}, Status.SUCCEEDED),
        ({"status": "FAILURE"}, Status.FAILED),
        ({"status": "INTERNAL_ERROR"}, Status.FAILED),
        ({"status": "TIMEOUT"}, Status.FAILED),
        ({"status": "EXPIRED"}, Status.FAILED),
        ({"status": "CANCELLED"}, Status.ABORTED),
        ({"status": "NEW_WAY_TO_END", "finishTime": "2026-03-01T12:00:00Z"}, Status.FAILED),
        ({"status": "NEW_WAY_TO_WAIT"}, Status.RUNNING),
        ({"status": "STATUS_UNKNOWN"}, Status.RUNNING),
        ({"status": None}, Status.RUNNING),
        ({"status": "PENDING"}, Status.RUNNING),
        ({"status": "QUEUED"}, Status.RUNNING),
        ({"status": "WORKING"}, Status.RUNNING),
    ],
)
def test_a_message_prompts_one_read_whose_status_counts(build: dict[str, Any], status: Status) -> None:
    """The message itself claims a success, and is not believed."""
    world = _running()
    (build_id,) = world.cloud.ids()
    world.cloud.builds[build_id].update(build)
    claimed = {**world.cloud.builds[build_id], "status": "SUCCESS", "finishTime": "2026-03-01T12:00:00Z"}
    assert world.announce(claimed) == 200
    assert world.cloud.calls == ["get"]
    assert world.invocation.status is status
    assert "Received PubSub notification, asking Cloud Build for the build status" in world.lines()


def test_an_unknown_final_status_has_its_line_before_the_build() -> None:
    """People see why the invocation failed."""
    world = _running()
    world.cloud.finish("VANISHED")
    world.announce_build()
    lines = world.lines()
    unexpected = lines.index("Unexpected build status VANISHED, marking the invocation as failed")
    assert unexpected < lines.index("Build:")


def test_the_reason_of_a_failure_is_the_summary() -> None:
    """The log, the page and lists show it."""
    world = _running()
    info = {"type": "USER_BUILD_STEP", "detail": "Build step failure: build step 0 failed"}
    world.cloud.finish("FAILURE", failureInfo=info, statusDetail="build step 0 failed")
    world.announce_build()
    expected = "Build failed: USER_BUILD_STEP - Build step failure: build step 0 failed"
    assert expected in world.lines()
    assert world.invocation.summary == expected
    assert world.invocation.task_data["reason"] == expected


def test_huge_texts_of_the_service_fit_into_the_document() -> None:
    """Otherwise no commit could end the invocation."""
    world = _running()
    (build_id,) = world.cloud.ids()
    info = {"type": "X" * 2_000_000, "detail": "x" * 2_000_000}
    world.cloud.finish("FAILURE", failureInfo=info, statusDetail="x" * 2_000_000, logUrl="https://" + "x" * 2_000_000)
    world.announce_build()
    assert world.invocation.status is Status.FAILED
    assert len(json.dumps(world.invocation.task_data)) + len(world.invocation.summary) < 10_000
    assert len(view_url(world.cloud.builds[build_id])) == 1000


def test_a_status_detail_explains_an_end_without_failure_info() -> None:
    """An expired build has only a sentence."""
    world = _running()
    world.cloud.finish("EXPIRED", statusDetail="build expired in queue")
    world.announce_build()
    assert "Build ended with EXPIRED: build expired in queue" in world.lines()


def test_an_end_without_words_has_a_summary_but_no_line() -> None:
    """The status is the reason."""
    world = _running()
    world.cloud.finish("TIMEOUT")
    world.announce_build()
    assert world.invocation.summary == "Build ended with TIMEOUT"
    assert not any(line.startswith("Build ended") for line in world.lines())


def test_the_log_shows_the_known_members_of_a_build_only() -> None:
    """Substitutions, steps, results and warnings may be large, or hold values that the log shows once already."""
    world = _running()
    (build_id,) = world.cloud.ids()
    hidden = {
        "steps": [{"script": "hidden"}],
        "results": {"x": "hidden"},
        "warnings": ["hidden"],
        "options": {"a": "hidden"},
    }
    world.cloud.builds[build_id]["substitutions"]["_X"] = "hidden"
    world.cloud.finish("SUCCESS", buildTriggerId="t-1", **hidden)
    world.announce_build()
    shown = world.log().partition("Build:\n")[2].partition("\n[")[0]
    assert list(json.loads(shown)) == [
        "id", "projectId", "status", "createTime", "finishTime", "buildTriggerId", "logUrl", "tags",
    ]  # fmt: skip
    assert "hidden" not in world.log()


def test_a_lost_message_is_replaced_by_a_check() -> None:
    """The timer finds the end of the build."""
    world = _running()
    world.tick(300)
    assert world.cloud.calls == ["get"]
    assert "Build status: QUEUED" in world.lines()
    world.cloud.finish()
    world.tick(300)
    assert world.invocation.status is Status.SUCCEEDED


def test_checks_come_at_random_times_by_default() -> None:
    """A check comes one to ten minutes later, as for builds of Buildbucket."""
    world = _running(cloud_build_check_interval_seconds=0)
    (timer,) = world.invocation.pending_timers
    assert MINUTE <= timer.eta - timer.created < 10 * MINUTE


def test_a_repeated_message_reads_nothing() -> None:
    """The invocation remembers it."""
    world = _running()
    for _ in range(2):
        assert world.announce_build(message="same") == 200
    assert world.cloud.calls == ["get"]


def test_a_late_message_reads_nothing() -> None:
    """The invocation has ended with this build."""
    world = _running()
    world.cloud.finish()
    world.announce_build(message="end")
    assert world.announce_build(message="late") == 200
    assert world.cloud.calls == ["get"]


def test_an_early_message_comes_again() -> None:
    """The launch has not recorded the build yet."""
    world = CloudWorld()
    codes: list[int] = []
    world.cloud.on_create = lambda: codes.append(world.announce_build())
    world.commit()
    assert codes == [409]
    assert world.announce_build() == 200
    assert world.cloud.calls == ["create", "get"]


def test_a_second_build_is_canceled() -> None:
    """The message names it, the service proves that it is ours and going on."""
    world = _running()
    second = _second(world)
    assert world.announce(second) == 200
    assert world.cloud.calls == ["get", "cancel"]
    assert world.cloud.statuses == ["QUEUED", "CANCELLED"]
    assert world.invocation.status is Status.RUNNING


def test_a_second_build_is_canceled_after_the_end() -> None:
    """The first build was quick. Nothing is written."""
    world = _running()
    second = _second(world)
    world.cloud.finish("SUCCESS", 0)
    world.announce_build(0, "end")
    world.cloud.calls.clear()
    world.store.counts.clear()
    assert world.announce(second, "late") == 200
    assert world.cloud.calls == ["get", "cancel"]
    assert world.store.counts["W"] == 0
    assert world.cloud.statuses == ["SUCCESS", "CANCELLED"]


def test_a_build_that_a_person_retries_after_the_end_is_left_alone() -> None:
    """Cloud Build's own retry copies the substitutions. No attempt of the launch can have made such a build."""
    world = _running()
    world.cloud.finish("FAILURE")
    world.announce_build(message="end")
    world.clock.advance(SECOND)
    assert world.announce(_second(world), "retry") == 200
    assert world.cloud.statuses == ["FAILURE", "QUEUED"]


@pytest.mark.parametrize(("seconds", "status"), [(200, "CANCELLED"), (300, "QUEUED")])
def test_a_lost_request_may_become_a_build_after_the_end(seconds: int, status: str) -> None:
    """Cloud Build works on it for up to three minutes after the answer was lost."""
    world = CloudWorld(TRIGGER)
    world.cloud.faults["run"] = [DOWN]
    world.commit()
    world.tick(0)
    world.tick(60)
    world.cloud.finish()
    world.announce_build(message="end")
    assert world.invocation.status is Status.SUCCEEDED
    world.clock.advance(seconds * SECOND)
    assert world.announce(_second(world), "late") == 200
    assert world.cloud.statuses == ["SUCCESS", status]


def test_a_second_build_is_canceled_with_an_abort() -> None:
    """The message comes while the abort waits for the build service."""
    world = _running()
    second = _second(world)
    world.cloud.faults["cancel"] = [DOWN]
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")
    assert world.invocation.status is Status.RUNNING
    assert world.announce(second, "second") == 200
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize(
    "substitutions", [{"_SCHEDULER_APP": "x"}, {"_SCHEDULER_JOB": "x/y"}, {"_SCHEDULER_INVOCATION": "1"}]
)
def test_a_forged_message_costs_one_read(substitutions: dict[str, str]) -> None:
    """It names a build that is not ours: nothing is canceled."""
    world = _running()
    second = _second(world, **substitutions)
    forged = {**second, "substitutions": world.cloud.builds[world.cloud.ids()[0]]["substitutions"]}
    assert world.announce(forged) == 200
    assert world.cloud.calls == ["get"]
    assert world.cloud.statuses == ["QUEUED", "QUEUED"]


def test_a_message_about_a_build_that_does_not_exist_costs_one_read() -> None:
    """The log of the invocation has no line about it."""
    world = _running()
    forged = {**world.cloud.builds[world.cloud.ids()[0]], "id": "no-such-build"}
    assert world.announce(forged) == 200
    assert world.cloud.calls == ["get"]
    assert "NOT_FOUND" not in world.log()


def test_a_second_build_that_is_over_is_left_alone() -> None:
    """There is nothing to cancel."""
    world = _running()
    _second(world)
    world.cloud.finish("FAILURE", 1)
    assert world.announce_build(1) == 200
    assert world.cloud.calls == ["get"]


@pytest.mark.parametrize("call", ["get", "cancel"])
def test_a_message_about_a_second_build_comes_again_without_an_answer(call: str) -> None:
    """Otherwise the build would run on."""
    world = _running()
    second = _second(world)
    world.cloud.faults[call] = [DOWN]
    assert world.announce(second) == 500
    assert world.announce(second) == 200
    assert world.cloud.statuses == ["QUEUED", "CANCELLED"]


def _with_a_lost_build(block: str = STEPS) -> CloudWorld:
    """Return a running invocation with two builds: the list hid the first one from the look-up."""
    world = CloudWorld(block)
    world.cloud.lag, world.cloud.lost = 90, ["create", "run"]
    world.commit()
    world.tick(0)
    world.tick(60)
    assert world.cloud.statuses == ["QUEUED", "QUEUED"]
    world.cloud.calls.clear()
    return world


@pytest.mark.parametrize("block", [STEPS, TRIGGER])
def test_a_check_cancels_a_second_build_whose_message_was_lost(block: str) -> None:
    """The next check sees nothing to look for."""
    world = _with_a_lost_build(block)
    world.tick(300)
    assert world.cloud.calls == ["get", "list", "cancel"]
    assert world.cloud.statuses == ["CANCELLED", "QUEUED"]
    world.tick(300)
    assert world.cloud.calls == ["get", "list", "cancel", "get"]


def test_the_end_waits_until_a_second_build_is_canceled() -> None:
    """The message of the end comes again, because Cloud Build does not list."""
    world = _with_a_lost_build()
    world.cloud.finish()
    world.cloud.faults["list"] = [DOWN]
    world.clock.advance(90 * SECOND)
    assert world.announce_build(1, "end") == 500
    assert world.announce_build(1, "end") == 200
    assert world.cloud.statuses == ["CANCELLED", "SUCCESS"]
    assert world.invocation.status is Status.SUCCEEDED


def test_a_refused_look_up_for_second_builds_ends_nothing() -> None:
    """The log names how a person finds the builds."""
    world = _with_a_lost_build()
    world.cloud.finish()
    world.cloud.faults["list"] = [DENIED]
    assert world.announce_build(1, "end") == 200
    assert world.invocation.status is Status.SUCCEEDED
    assert any("A build of an earlier attempt may be running" in line for line in world.lines())


def test_an_abort_cancels_a_second_build_too() -> None:
    """Its message was lost, and no check will come."""
    world = _with_a_lost_build()
    world.clock.advance(90 * SECOND)
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")
    assert world.cloud.statuses == ["CANCELLED", "CANCELLED"]


def test_a_second_build_may_be_unknown_for_a_minute() -> None:
    """Its message comes again. A read may not know a build that has just announced itself."""
    world = _with_a_lost_build()
    world.cloud.faults["get"] = [MISSING]
    assert world.announce_build(0) == 500
    assert world.announce_build(0) == 200
    assert world.cloud.statuses == ["CANCELLED", "QUEUED"]


def test_a_build_of_an_ended_launch_may_be_unknown_for_a_minute() -> None:
    """No build was recorded, so each message may name the build of a lost request."""
    world = CloudWorld()
    world.cloud.lost, world.cloud.lag = ["create"], 90
    world.commit()
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")
    world.tick(1)
    assert world.invocation.status is Status.ABORTED
    world.cloud.faults["get"] = [MISSING]
    assert world.announce_build() == 500
    assert world.announce_build() == 200
    assert world.cloud.statuses == ["CANCELLED"]


@pytest.mark.parametrize("refusal", [OVER, DENIED])
def test_a_refused_cancel_of_a_second_build_ends_nothing(refusal: CloudBuildError) -> None:
    """A stale read shows the build as going on. The invocation keeps its own build."""
    world = _running()
    second = _second(world)
    world.cloud.faults["cancel"] = [refusal]
    assert world.announce(second) == 200
    assert world.invocation.status is Status.RUNNING
    assert world.cloud.statuses == ["QUEUED", "QUEUED"]


def test_a_transient_read_writes_nothing() -> None:
    """The message is delivered again."""
    world = _running()
    world.cloud.faults["get"] = [DOWN]
    world.store.counts.clear()
    assert world.announce_build() == 500
    assert world.store.counts["W"] == 0


def test_a_transient_check_is_tried_again() -> None:
    """The queue delivers the timer again."""
    world = _running()
    world.cloud.faults["get"] = [DOWN]
    world.tick(300)
    assert [timer.title for timer in world.invocation.pending_timers] == ["check-cloud-build-status"]
    world.cloud.finish()
    world.tick(10)
    assert world.invocation.status is Status.SUCCEEDED


def test_a_new_build_may_be_unknown_for_a_minute() -> None:
    """Later the invocation fails."""
    world = _running()
    world.cloud.faults["get"] = [MISSING, MISSING]
    world.clock.advance(58 * SECOND)
    assert world.announce_build() == 500
    assert world.invocation.status is Status.RUNNING
    assert world.announce_build() == 200
    assert world.invocation.status is Status.FAILED
    assert "Failed to fetch the build - NOT_FOUND: Requested entity was not found." in world.lines()


def test_a_forbidden_read_fails() -> None:
    """No status can be learned any more."""
    world = _running()
    world.cloud.faults["get"] = [DENIED]
    assert world.announce_build() == 200
    assert world.invocation.status is Status.FAILED


def test_a_foreign_timer_does_nothing() -> None:
    """Another version may have set it."""
    world = _running()
    found = world.store.invocation(JOB, world.invocation.id)
    assert found is not None
    manager = world.runtime.manager(found.value.task)
    (timer,) = found.value.pending_timers
    controller = world.runtime.controller(found.value, CallCache())
    manager.handle_timer(controller, replace(timer, title="another"))
    assert world.cloud.calls == []


def _abort(world: CloudWorld) -> None:
    abort_invocation(world.runtime, JOB, world.invocation.id, "user:a@example.com", "k")


@pytest.mark.parametrize("status", ["QUEUED", "WORKING", "PENDING"])
def test_an_abort_cancels_the_build(status: str) -> None:
    """Each state that is not final counts."""
    world = _running()
    world.cloud.builds[world.cloud.ids()[0]]["status"] = status
    _abort(world)
    assert world.cloud.calls == ["cancel"]
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["CANCELLED"]


def test_a_canceled_build_may_still_work() -> None:
    """The invocation has ended all the same, and the build's last message finds it final."""
    world = _running()
    (build_id,) = world.cloud.ids()
    world.cloud.answers["cancel"] = [{"id": build_id, "status": "WORKING"}]
    _abort(world)
    assert world.invocation.status is Status.ABORTED
    assert world.announce_build(message="end") == 200
    assert world.cloud.calls == ["cancel"]


@pytest.mark.parametrize("refusal", [OVER, MISSING, CloudBuildError("INVALID_ARGUMENT", "over", transient=False)])
def test_a_build_that_is_over_needs_no_cancel(refusal: CloudBuildError) -> None:
    """The service refuses the cancel, and a read shows the end."""
    world = _running()
    world.cloud.finish("SUCCESS")
    world.cloud.faults["cancel"] = [refusal]
    _abort(world)
    assert world.cloud.calls == ["cancel", "get"]
    assert world.invocation.status is Status.ABORTED
    assert "Failed to cancel" not in world.log()


def test_a_build_that_is_gone_needs_no_cancel() -> None:
    """The read also answers 404."""
    world = _running()
    world.cloud.faults.update(cancel=[MISSING], get=[MISSING])
    _abort(world)
    assert world.invocation.status is Status.ABORTED
    assert "Fatal error" not in world.log()


@pytest.mark.parametrize("refusal", [OVER, DENIED])
def test_a_refused_cancel_of_an_active_build_is_an_error(refusal: CloudBuildError) -> None:
    """The log has the service's words."""
    world = _running()
    world.cloud.faults["cancel"] = [refusal]
    _abort(world)
    assert world.invocation.status is Status.ABORTED
    assert f"Failed to {Call.CANCEL} - {refusal}" in world.lines()
    assert f"Fatal error when aborting the invocation - failed to cancel the build: {refusal}" in world.lines()
    assert world.cloud.calls == (["cancel"] if refusal is DENIED else ["cancel", "get"])


def test_a_build_stays_where_it_was_made() -> None:
    """The installation's defaults may change while it runs."""
    world = _running('steps { name: "bash" }', cloud_build_location="europe-west1")
    settings = replace(world.app.settings, cloud_build_location="us-west2", cloud_build_project="another")
    world.app = make_app(settings, world.ports)
    world.announce_build()
    assert world.cloud.paths[-1].startswith("/v1/projects/cloud-project/locations/europe-west1/builds/")


def test_doubles_are_looked_up_where_the_build_was_made() -> None:
    """A look-up at the new default place would not show them."""
    world = _with_a_lost_build('steps { name: "bash" }')
    settings = replace(world.app.settings, cloud_build_location="us-west2")
    world.runtime = make_app(settings, world.ports).runtime
    world.tick(300)
    assert world.cloud.statuses == ["CANCELLED", "QUEUED"]


def test_a_transient_cancel_is_tried_again() -> None:
    """The abort's task does it."""
    world = _running()
    world.cloud.faults["cancel"] = [DOWN]
    _abort(world)
    assert world.invocation.status is Status.RUNNING
    world.tick(1)
    assert world.cloud.statuses == ["CANCELLED"]
    assert world.invocation.status is Status.ABORTED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"id": "x", "substitutions": 5}',
        b'{"id": "x", "substitutions": {"_MODE": "fast"}}',
        b'{"id": "x", "substitutions": {"_SCHEDULER_APP": "another"}}',
        b'{"id": "x", "substitutions": {"_SCHEDULER_APP": "app", "_SCHEDULER_JOB": "proj/job"}}',
        b'{"substitutions": {"_SCHEDULER_APP": "app", "_SCHEDULER_JOB": "proj/job", "_SCHEDULER_INVOCATION": "9"}}',
        *(
            json.dumps(
                {
                    "id": build_id,
                    "substitutions": {
                        "_SCHEDULER_APP": app,
                        "_SCHEDULER_JOB": job,
                        "_SCHEDULER_INVOCATION": invocation,
                    },
                }
            ).encode()
            for app, build_id, job, invocation in (
                ("another", "x", "proj/job", "9"),
                ("app", "../x", "proj/job", "9"),
                ("app", "x", "proj", "9"),
                ("app", "x", "proj/a/b", "9"),
                ("app", "x", "pr oj/job", "9"),
                ("app", "x", "proj/job", "0"),
                ("app", "x", "proj/job", "9" * 19),
                ("app", "x", "proj/job", "nine"),
            )
        ),
    ],
)
def test_a_message_about_no_build_of_ours_reads_nothing(data: bytes) -> None:
    """It is acknowledged: the topic has the messages of all builds of the project."""
    world = _running()
    world.store.counts.clear()
    assert world.push(data) == 200
    assert (world.cloud.calls, dict(world.store.counts)) == ([], {})


def test_a_message_about_an_unknown_invocation_costs_one_read() -> None:
    """It is acknowledged."""
    world = _running()
    build = world.cloud.builds[world.cloud.ids()[0]]
    values = {**build["substitutions"], "_SCHEDULER_INVOCATION": "16"}
    world.store.counts.clear()
    assert world.announce({**build, "substitutions": values}) == 200
    assert (world.cloud.calls, dict(world.store.counts)) == ([], {"R": 1})


def test_a_message_cannot_reach_an_invocation_of_another_kind() -> None:
    """A forged message names an invocation of Buildbucket: Buildbucket is not called."""
    world = World()
    world.commit()
    (invocation,) = world.invocations()
    cloud = CloudWorld.__new__(CloudWorld)
    cloud.__dict__.update(world.__dict__)
    values = {
        "_SCHEDULER_APP": world.app.settings.app_id,
        "_SCHEDULER_JOB": JOB,
        "_SCHEDULER_INVOCATION": str(invocation.id),
    }
    assert cloud.announce({"id": "x", "substitutions": values}) == 200
    assert world.buildbucket.calls == ["ScheduleBuild"]


def test_a_switched_off_installation_keeps_its_builds() -> None:
    """Only Cloud Build can end the invocation, so it waits until the setting is back."""
    world = _running()
    world.app = make_app(replace(world.app.settings, cloud_build=False), world.ports)
    assert world.announce_build() == 500
    assert world.invocation.status is Status.RUNNING


def test_an_abort_of_a_switched_off_installation_cancels_the_build_later() -> None:
    """The invocation waits ten minutes. Then it ends, and a cleanup cancels the build when the setting is back."""
    world = _running()
    with_builds = world.runtime
    world.runtime = make_app(replace(world.app.settings, cloud_build=False), world.ports).runtime
    _abort(world)
    assert world.invocation.status is Status.RUNNING
    for _ in range(12):
        world.tick(60)
    assert world.invocation.status is Status.ABORTED
    assert world.cloud.statuses == ["QUEUED"]
    world.runtime = with_builds
    world.tick(3600)
    assert world.cloud.statuses == ["CANCELLED"]


def test_a_silent_service_ends_the_invocation_after_the_longest_life_of_a_build() -> None:
    """The log names the build's page."""
    world = _running()
    world.clock.advance(6 * DAY + SECOND)
    world.cloud.faults["get"] = [DOWN]
    assert world.announce_build() == 200
    assert world.invocation.status is Status.FAILED


def test_a_wait_for_approval_is_explained() -> None:
    """The page shows it until a person decides."""
    world = _running(TRIGGER)
    build = world.cloud.builds[world.cloud.ids()[0]]
    build.update(status="PENDING", approval={"state": "PENDING"})
    world.announce(build, "pending")
    assert world.invocation.summary == "waits for approval in Cloud Build"
    page = Visitor(world).page(f"/jobs/proj/job/{world.invocation.id}").text
    assert "PENDING, waits for approval in Cloud Build" in page
    request = {"repo": REPO, "revision": "a" * 40, "ref": "refs/heads/main"}
    (explained,) = Client(world).call("ExplainCommit", request, OWNER, "scheduler.Operator")["explanations"]
    assert explained["summary"] == "waits for approval in Cloud Build"
    build.update(status="QUEUED", approval={"state": "APPROVED"})
    world.announce(build, "approved")
    assert world.invocation.summary == ""
    build.update(status="CANCELLED", approval={"state": "REJECTED"}, finishTime="2026-03-01T12:00:00Z")
    world.announce(build, "rejected")
    assert world.invocation.status is Status.ABORTED


def test_the_page_shows_build_status_and_failure() -> None:
    """The summary has rows with the ID, the status and the reason of the failure."""
    world = _running()
    world.cloud.finish("FAILURE", failureInfo={"type": "FETCH_SOURCE_FAILED", "detail": "Failed to fetch source"})
    world.announce_build()
    page = Visitor(world).page(f"/jobs/proj/job/{world.invocation.id}").text
    for text in (world.cloud.ids()[0], "FAILURE", "Build failed: FETCH_SOURCE_FAILED - Failed to fetch source"):
        assert text in page


def test_a_message_is_read_to_the_last_number() -> None:
    """The largest ID of an invocation is one."""
    largest = (1 << 63) - 1
    values = {"_SCHEDULER_APP": "app", "_SCHEDULER_JOB": "p/j", "_SCHEDULER_INVOCATION": str(largest)}
    found = read_message(json.dumps({"id": "x", "substitutions": values}).encode(), "app")
    assert found is not None
    assert found.invocation_id == largest


def test_a_message_with_too_many_values_is_not_parsed() -> None:
    """A function has no memory for them."""
    values = {"_SCHEDULER_APP": "app", "_SCHEDULER_JOB": "p/j", "_SCHEDULER_INVOCATION": "9"}
    build = {"id": "x", "substitutions": values, "results": [0] * MAX_VALUES}
    assert read_message(json.dumps(build).encode(), "app") is None
