"""The changes of builds over time, by plans and by limits."""

from typing import Any

import pytest

from emulator.cloud_build import Change, PlanRule, Script, Trigger
from emulator.cloud_build.builds import operation
from emulator.cloud_build.plans import Plans, plan_from_json, rule_from_json
from luci_scheduler.core.instants import SECOND
from tests.unit.emulator.cloud_build.support import PLACE, Bench, sample


def plan(bench: Bench, *changes: Change) -> None:
    """Give all further builds a plan."""
    bench.service.plans.add(PlanRule(Script(changes)))


def test_the_default_plan(bench: Bench) -> None:
    """A build waits 0.2 s and works 2 s. Steps have a status only at the end, as in the samples."""
    build_id = bench.create()["id"]
    bench.advance(0.1)
    assert bench.get(build_id)["status"] == "QUEUED"
    bench.advance(0.1)
    working = bench.get(build_id)
    assert working.keys() == sample("get-working.json").keys()
    assert "status" not in working["steps"][0]
    bench.advance(1.9)
    assert bench.get(build_id)["status"] == "WORKING"
    bench.advance(0.1)
    build = bench.get(build_id)
    assert build["status"] == "SUCCESS"
    assert (build["createTime"], build["startTime"], build["finishTime"]) == (
        "2026-03-17T14:05:11.482913207Z",
        "2026-03-17T14:05:11.682913207Z",
        "2026-03-17T14:05:13.682913207Z",
    )
    assert [step["status"] for step in build["steps"]] == ["SUCCESS", "SUCCESS"]
    assert build["sourceProvenance"] == sample("get-success.json")["sourceProvenance"]
    assert bench.announced() == ["QUEUED", "WORKING", "SUCCESS"]


def test_changes_have_their_own_times(bench: Bench) -> None:
    """The clock may move far: each change keeps the time of the plan."""
    build_id = bench.create()["id"]
    bench.advance(1000)
    assert bench.get(build_id)["finishTime"] == "2026-03-17T14:05:13.682913207Z"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("get-failure-step.json", Change("FAILURE", 0, "build step 0 failed", "USER_BUILD_STEP")),
        ("get-failure-push.json", Change("FAILURE", 0, "failed to push image", "PUSH_NOT_AUTHORIZED")),
        ("get-failure-fetch-source.json", Change("FAILURE", 0, "no such hash", "FETCH_SOURCE_FAILED")),
        ("get-internal-error.json", Change("INTERNAL_ERROR", 0, "internal error", "LOGGING_FAILURE")),
    ],
)  # fmt: skip
def test_planned_failures(bench: Bench, name: str, change: Change) -> None:
    """The build has the status and the kind of failure of the sample, and the detail of its plan."""
    plan(bench, Change("WORKING", SECOND), change)
    build_id = bench.create()["id"]
    bench.advance(2)
    build, wanted = bench.get(build_id), sample(name)
    assert (build["status"], build["failureInfo"]["type"]) == (wanted["status"], wanted["failureInfo"]["type"])
    assert build["statusDetail"] == change.detail
    assert build["steps"][0]["status"] == "FAILURE"


def test_a_build_that_is_over_at_once(bench: Bench) -> None:
    """The build has never started, and its operation is done."""
    plan(bench, Change("INTERNAL_ERROR", 0))
    build_id = bench.create()["id"]
    bench.service.timeline.run_due()
    build = bench.service.store.get(build_id)
    assert build is not None
    assert build.status == "INTERNAL_ERROR"
    assert "startTime" not in build.body
    assert operation(build)["done"]


def test_a_build_expires_in_the_queue(bench: Bench) -> None:
    """The limit is ``queueTtl``; the build has never started."""
    plan(bench)
    build_id = bench.create()["id"]
    bench.advance(599)
    assert bench.get(build_id)["status"] == "QUEUED"
    bench.advance(1)
    assert bench.get(build_id).keys() == sample("get-expired.json").keys()
    assert bench.get(build_id)["statusDetail"] == sample("get-expired.json")["statusDetail"]


def test_a_build_exceeds_its_timeout(bench: Bench) -> None:
    """The limit counts from the start, and the limit of the queue no longer counts."""
    plan(bench, Change("WORKING", 500 * SECOND))
    build_id = bench.create()["id"]
    bench.advance(500 + 1799)
    assert bench.get(build_id)["status"] == "WORKING"
    bench.advance(1)
    build = bench.get(build_id)
    assert (build["status"], build["statusDetail"]) == ("TIMEOUT", sample("get-timeout.json")["statusDetail"])
    assert build["steps"][0]["status"] == "TIMEOUT"


def test_an_ended_build_does_not_change(bench: Bench) -> None:
    """A change after the end is none, and is not announced."""
    build_id = bench.create()["id"]
    bench.advance(5)
    assert bench.service.life_cycle.change(build_id, Change("WORKING", 0)) is None
    assert bench.service.life_cycle.change("unknown", Change("WORKING", 0)) is None
    assert bench.announced() == ["QUEUED", "WORKING", "SUCCESS"]


def test_a_status_of_a_later_version(bench: Bench) -> None:
    """A plan may have any status; it is not final."""
    plan(bench, *plan_from_json([{"status": "PAUSED", "after": "1s", "any_status": True}]).changes)
    build_id = bench.create()["id"]
    bench.advance(2)
    assert bench.get(build_id)["status"] == "PAUSED"


class TestPlans:
    """The choice of a plan."""

    def test_the_latest_matching_rule_wins(self, bench: Bench) -> None:
        """A rule needs all its patterns; the trigger's own plan precedes the default."""
        named = {name: Script((Change("WORKING", number),)) for number, name in enumerate("abcde")}
        plans = Plans(named["a"])
        build = bench.service.create(PLACE, {"steps": [{"name": "x"}], "substitutions": {}})
        ours = bench.service.store.get(bench.create()["id"])
        assert ours is not None
        assert plans.choose(build, "", None) == named["a"]
        assert plans.choose(build, "t", named["b"]) == named["b"]
        plans.add(PlanRule(named["c"], job="widget/*"))
        plans.add(PlanRule(named["d"], trigger="nightly"))
        plans.add(PlanRule(named["e"], substitutions={"BRANCH_NAME": "release*"}))
        assert plans.choose(build, "t", named["b"]) == named["b"]
        assert plans.choose(ours, "", None) == named["c"]
        assert plans.choose(ours, "nightly", None) == named["d"]
        plans.override = named["a"]
        assert plans.choose(ours, "nightly", None) == named["a"]
        plans.override = None
        plans.clear()
        assert plans.choose(ours, "nightly", None) == named["a"]

    def test_the_plan_of_a_trigger(self, bench: Bench) -> None:
        """Its builds follow it."""
        trigger = Trigger("t", "id", "us-central1", plan=Script((Change("FAILURE", 0),)))
        bench.service.triggers.add(trigger)
        build_id = bench.call("POST", "/triggers/t:run", {})["metadata"]["build"]["id"]
        bench.advance(0)
        assert bench.get(build_id)["status"] == "FAILURE"

    def test_a_rule_as_json(self) -> None:
        """All members but the plan may be left out."""
        plan = [{"status": "WORKING", "after": "1.5s"}, {"status": "FAILURE", "failure": "PUSH_FAILED", "detail": "x"}]
        found = rule_from_json({"plan": plan, "job": "a/*", "trigger": "", "substitutions": {"_A": "1"}})
        changes = (Change("WORKING", 1_500_000_000), Change("FAILURE", 0, "x", "PUSH_FAILED"))
        assert found == PlanRule(Script(changes), "a/*", "", {"_A": "1"})

    @pytest.mark.parametrize(
        "value",
        [
            {"plan": {}},
            {"plan": [], "colour": "red"},
            {"plan": [], "substitutions": []},
            {"plan": ["WORKING"]},
            {"plan": [{"status": "working"}]},
            {"plan": [{"status": "FAILURE", "failure": "no"}]},
            {"plan": [{"status": "WORKING", "after": "-1s"}]},
            {"plan": [{"status": "WORKING", "run": "sh"}]},
        ],
    )
    def test_bad_rules(self, value: dict[str, Any]) -> None:
        """A client of the port cannot choose that steps run."""
        with pytest.raises(ValueError, match=r"."):
            rule_from_json(value)
