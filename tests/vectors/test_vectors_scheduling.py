"""The vectors of schedules, the cron machine, triggering policies and triage; see ``test_vectors.py``."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from luci_scheduler.config.reader import read_config
from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import CronState, EarlyTickError, StartInvocation, Step, TickLater
from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant, parse_rfc3339
from luci_scheduler.core.job import TriggeringPolicy, public_state
from luci_scheduler.core.policy.base import Decision
from luci_scheduler.core.policy.registry import make_policy
from luci_scheduler.core.schedule import DISTANT_FUTURE, BadScheduleError, Schedule, parse_schedule
from luci_scheduler.core.triage_throttle import triage_key, triage_kick
from luci_scheduler.core.trigger import Trigger, sort_key
from tests.vectors.support import Case, cases


def instant(text: str | None) -> Instant | None:
    """Return the instant of a vector, if it has one."""
    return None if text is None else parse_rfc3339(text)


@pytest.mark.parametrize("case", cases("schedules"))
def test_vector_schedules(case: Case) -> None:
    """A schedule is refused, or has the right kind and the original's ticks."""
    if case.get("error"):
        with pytest.raises(BadScheduleError):
            parse_schedule(case["schedule"])
        return
    schedule = parse_schedule(case["schedule"])
    assert schedule.is_absolute == case["absolute"]
    now, previous = parse_rfc3339(case["now"]), instant(case.get("prev"))
    for after in case.get("next_ns_after_now", ()):
        assert schedule.next(now, previous, seed=int(case["seed"])) == now + int(after)
    for expected in case.get("next", ()):
        due = schedule.next(now, previous)
        assert due == instant(expected)
        if due is not None:
            now = Instant(due + MILLISECOND)


@pytest.mark.parametrize("case", cases("cron_machine"))
def test_vector_cron_machine(case: Case) -> None:
    """The machine goes through the original's states and requests the original's actions."""
    state, schedule, nonces = CronState(), parse_schedule("triggered"), itertools.count(1)
    for step in case["steps"]:
        schedule = parse_schedule(step["schedule"]) if "schedule" in step else schedule
        now, actions = parse_rfc3339(step["at"]), ()
        if "error" in step:
            with pytest.raises(EarlyTickError) as raised:
                _machine_step(step, state, schedule, now, nonces.__next__)
            assert str(raised.value) == step["error"]
        else:
            state, actions = _machine_step(step, state, schedule, now, nonces.__next__)
        assert state == _cron_state(step["state"])
        assert list(actions) == [_action(item) for item in step["actions"]]


def _machine_step(step: Case, state: CronState, schedule: Schedule, now: Instant, draw: Callable[[], int]) -> Step:
    match step["op"]:
        case "enable":
            return cron_machine.enable(state, schedule, now, draw)
        case "disable":
            return cron_machine.disable(state)
        case "rewind":
            return cron_machine.rewind_if_necessary(state, schedule, now, draw)
        case "schedule_change":
            return cron_machine.schedule_changed(state, schedule, now, draw)
        case "tick":
            return cron_machine.tick(state, schedule, now, draw, step["nonce"])
    raise AssertionError(f"no such step: {step['op']}")


def _cron_state(expected: Case) -> CronState:
    times = {name: instant(expected[name]) for name in ("last_rewind", "last_tick_when")}
    return CronState(**expected | times)


def _action(expected: Any) -> TickLater | StartInvocation:
    if "tick_later" in expected:
        later = expected["tick_later"]
        return TickLater(parse_rfc3339(later["when"]), later["nonce"])
    return StartInvocation(expected["start_invocation"]["generation"])


@pytest.mark.parametrize("spoken", Era)
@pytest.mark.parametrize("case", cases("policies"))
def test_vector_policies(case: Case, spoken: Era) -> None:
    """A policy from a config starts and discards the same as the original, with the same texts."""
    triggers = [
        Trigger(item["id"], parse_rfc3339(item["created"]), "buildbucket", {"properties": {"of": item["id"]}},
                order_in_batch=item["order_in_batch"], emitted_by_user=item["emitted_by_user"])
        for item in case["triggers"]
    ]  # fmt: skip
    policy = make_policy(_configured(case["policy"]), spoken)
    decision = policy.decide(sorted(triggers, key=sort_key), case["active_invocations"], parse_rfc3339(case["now"]))
    expected = case["expected"]
    requests = [
        {
            "trigger_ids": [trigger.id for trigger in request.incoming_triggers],
            "derived_from": (request.properties or {})["of"],
            "triggered_by": request.triggered_by,
        }
        for request in decision.requests
    ]
    assert requests == expected["requests"]
    assert [item.trigger.id for item in decision.discards] == expected["discard"]
    assert list(decision.log) == expected["log"]


def _configured(policy: Case) -> TriggeringPolicy:
    """Return the policy that the config's reader makes from text, including defaults and 32-bit floats."""
    fields = [
        f"pending_timeout {{ seconds: {value} }}" if name == "pending_timeout_s" else f"{name}: {value}"
        for name, value in policy.items()
    ]
    config = read_config("p", f'job {{ id: "j" triggering_policy {{ {" ".join(fields)} }} noop {{}} }}')
    return config.jobs[JobId("p/j")].policy


@pytest.mark.parametrize("case", cases("policy_factory"))
def test_vector_policy_factory(case: Case) -> None:
    """An invalid policy is refused with the original's text."""
    numbers = {
        name: case[name] for name in ("max_concurrent_invocations", "max_batch_size", "log_base") if name in case
    }
    if "pending_timeout_s" in case:
        numbers["pending_timeout"] = case["pending_timeout_s"] * SECOND
    definition = TriggeringPolicy(case["kind"], **numbers)
    if case["error"] is None:
        assert make_policy(definition, Era.V2).decide([], 0, Instant(0)) == Decision()
    else:
        with pytest.raises(ValueError, match=f"^{re.escape(case['error'])}$"):
            make_policy(definition, Era.V2)


@pytest.mark.parametrize("case", cases("triage_throttle"))
def test_vector_triage_throttle(case: Case) -> None:
    """A triage takes place at the next even second, under a separate name."""
    job_id, eta = JobId(case["job_id"]), Instant(case["eta_unix"] * SECOND)
    assert triage_kick(job_id, Instant(case["now_unix"] * SECOND)) == (eta, case["task_name"])
    assert triage_key(job_id, eta) == case["dedup_key"]


@pytest.mark.parametrize("case", cases("job_public_state"))
def test_vector_job_public_state(case: Case) -> None:
    """A job is in the original's state."""
    state = public_state(
        active_invocations=case["active_invocations"],
        enabled=case["enabled"],
        paused=case["paused"],
        next_tick=DISTANT_FUTURE if case["next_tick"] == "distant" else instant(case["next_tick"]),
    )
    assert state == case["state"]
