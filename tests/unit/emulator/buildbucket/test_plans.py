"""Plans: their JSON, and the choice of a plan for a build."""

from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import BuildSpec, Outcome
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import (
    PLAN_PROPERTY,
    Announce,
    Command,
    End,
    Manual,
    Plans,
    Script,
    Start,
    announce_from_json,
    outcome_from_json,
    plan_from_json,
)
from luci_scheduler.core.instants import SECOND

DEFAULT = Script((End(5 * SECOND),))


def spec(builder: str = "linux", **properties: Any) -> BuildSpec:
    """Return the request of a build."""
    return BuildSpec("v2", BuilderId("p", "ci", builder), "c", BuilderConfig(), requested_properties=properties)


class TestChoice:
    """The plan of a build."""

    def test_the_default(self) -> None:
        assert Plans(DEFAULT).choose(spec()) == DEFAULT

    def test_a_rule_for_matching_builders(self) -> None:
        plans = Plans(DEFAULT)
        plans.set("p/*/lin?x", Manual())
        assert (plans.choose(spec()), plans.choose(spec("mac"))) == (Manual(), DEFAULT)
        plans.clear()
        assert plans.choose(spec()) == DEFAULT

    def test_the_latest_rule_wins(self) -> None:
        plans = Plans(DEFAULT)
        plans.set("p/ci/linux", Manual())
        plans.set("*", Command(("true",)))
        assert plans.choose(spec()) == Command(("true",))
        plans.set("p/ci/linux", Manual())
        assert plans.choose(spec()) == Manual()

    def test_the_plan_of_the_request_takes_precedence(self) -> None:
        plans = Plans(DEFAULT)
        plans.set("*", Manual())
        requested = {PLAN_PROPERTY: {"steps": [{"end": {}, "after": "1s"}]}}
        assert plans.choose(spec(**requested)) == Script((End(SECOND),))

    @pytest.mark.parametrize(
        ("plan", "summary"),
        [
            ({"manual": True}, f"{PLAN_PROPERTY} may only hold steps"),
            ({}, f"bad {PLAN_PROPERTY}: a plan needs steps or manual"),
            ("x", f"bad {PLAN_PROPERTY}: a plan is an object, not 'x'"),
        ],
    )
    def test_a_bad_plan_of_the_request_fails_the_build(self, plan: Any, summary: str) -> None:
        chosen = Plans(DEFAULT).choose(spec(**{PLAN_PROPERTY: plan}))
        assert chosen == Script((End(0, Outcome("INFRA_FAILURE", summary=summary)),))

    def test_a_request_cannot_choose_when_the_default_is_manual(self) -> None:
        assert Plans(Manual()).choose(spec(**{PLAN_PROPERTY: {"steps": []}})) == Manual()


class TestJson:
    """Plans in JSON."""

    def test_a_plan_has_steps(self) -> None:
        plan = plan_from_json(
            {
                "steps": [
                    {"start": {}, "after": "1s", "announce": {"copies": 2}},
                    {"end": {"status": "FAILURE", "summary": "s"}, "after": "2.5s", "reported_ago": "1s"},
                ],
                "created": {"copies": 0},
                "cancel_after": "5s",
            }
        )
        start, end = Start(SECOND, Announce(2)), End(5 * SECOND // 2, Outcome("FAILURE", summary="s"), SECOND)
        assert plan == Script((start, end), Announce(0), 5 * SECOND)

    def test_the_defaults(self) -> None:
        assert plan_from_json({"steps": [{"start": {}}, {"end": None}]}) == Script((Start(0), End(0)))

    def test_a_build_that_never_notices_its_cancellation(self) -> None:
        plan = plan_from_json({"steps": [], "cancel_after": None})
        assert isinstance(plan, Script)
        assert plan.cancel_after is None

    def test_a_plan_may_be_manual(self) -> None:
        assert plan_from_json({"manual": True, "created": {"delay": "1s"}}) == Manual(Announce(delay=SECOND))

    @pytest.mark.parametrize(
        ("plan", "reason"),
        [
            ([], r"a plan is an object, not \[\]"),
            ({"steps": {}}, "a plan needs steps or manual"),
            ({"command": ["rm"]}, "cannot be set over HTTP.* start the local cloud with --build COMMAND"),
            ({"steps": [{}]}, "a step has either start or end"),
            ({"steps": [{"start": {}, "end": {}}]}, "a step has either start or end"),
            ({"steps": ["start"]}, "a step has either start or end"),
            ({"steps": [{"start": {}, "after": "1"}]}, "invalid google.protobuf.Duration"),
            ({"steps": [{"start": {}, "after": "-1s"}]}, "a duration cannot be negative: -1s"),
            ({"steps": [{"end": {"status": "STARTED"}}]}, "'STARTED' is not an end status"),
            ({"steps": [], "created": []}, r"an announcement is an object, not \[\]"),
        ],
    )
    def test_no_plan(self, plan: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            plan_from_json(plan)

    def test_an_outcome(self) -> None:
        value = {"status": "INFRA_FAILURE", "timeout": 1, "resource_exhaustion": True, "output_properties": {"a": 1}}
        expected = Outcome("INFRA_FAILURE", timeout=True, resource_exhaustion=True, output_properties={"a": 1})
        assert outcome_from_json(value) == expected
        assert outcome_from_json({}) == Outcome("SUCCESS")

    def test_an_announcement(self) -> None:
        assert announce_from_json(None) == Announce(1, 0, None)
        assert announce_from_json({"copies": 3, "delay": "2s", "token": "t"}) == Announce(3, 2 * SECOND, b"t")

    @pytest.mark.parametrize("copies", [-1, "2", 1.5, None])
    def test_a_bad_number_of_copies(self, copies: Any) -> None:
        with pytest.raises(ValueError, match="copies is a number from 0 on"):
            announce_from_json({"copies": copies})
