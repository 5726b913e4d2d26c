"""The vectors of schedules, the cron machine, triggering policies and triage, like those of ``test_vectors.py``."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from luci_scheduler.core import cron_machine
from luci_scheduler.core.cron_machine import CronState, EarlyTickError, StartInvocation, Step, TickLater
from luci_scheduler.core.instants import MILLISECOND, Instant, parse_rfc3339
from luci_scheduler.core.schedule import BadScheduleError, Schedule, parse_schedule
from tests.vectors.support import Case, cases


def instant(text: str | None) -> Instant | None:
    """Return the instant that a vector gives, if any."""
    return None if text is None else parse_rfc3339(text)


@pytest.mark.parametrize("case", cases("schedules"))
def test_vector_schedules(case: Case) -> None:
    """A schedule is refused, or it is of its kind and ticks when the original ticks."""
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
    """The machine goes through the original's states and asks for the original's actions."""
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
