"""The triage log: the original's lines in the original's order."""

import pytest

from luci_scheduler.core.era import Era
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import DAY, MILLISECOND, SECOND, Instant
from luci_scheduler.core.job import MAX_PENDING, Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.policy.newest_first import NewestFirst
from luci_scheduler.core.triage import Triage, triage
from luci_scheduler.core.triage_log import TriageLog
from luci_scheduler.core.triage_throttle import triage_kick
from luci_scheduler.core.trigger import Trigger

START = Instant(1_600_000_000 * SECOND)


def later(milliseconds: int) -> Instant:
    """Return a time after the start."""
    return Instant(START + milliseconds * MILLISECOND)


def job(policy: TriggeringPolicy, *, paused: bool = False, active: int = 0) -> Job:
    """Return a job."""
    ids = tuple(InvocationId(number) for number in range(1, active + 1))
    return Job(
        JobId("p/j"), JobDefinition(TaskDefinition("noop"), policy=policy), paused=paused, active_invocations=ids
    )


def triggers(count: int, created: Instant = START) -> list[Trigger]:
    """Return triggers, the oldest first."""
    return [Trigger(f"t{number}", created, order_in_batch=number) for number in range(count)]


def texts(decision: Triage, available: int) -> list[str]:
    """Return the log of a decision, without the times."""
    log = TriageLog(START)
    log.decided(START, decision, available=available)
    log.enqueued(START, decision)
    return [line.removeprefix("[000 ms] ") for line in log.text.splitlines()[1:]]


def test_a_whole_triage_reads_like_the_originals() -> None:
    """Two triggers become an invocation."""
    decision = triage(job(TriggeringPolicy()), triggers(2), Era.V2, START)
    log = TriageLog(START)
    log.prepared(later(7), pending=2, finished=1)
    log.transaction(later(8), active=0, acknowledged=[InvocationId(9)], recently_finished=3)
    log.decided(later(9), decision, available=2)
    log.enqueued(later(25), decision)
    log.poking_cron(later(26))
    log.landing(later(1026))
    log.done(later(2000))
    expected = """\
[000 ms] Starting
[007 ms] Pending triggers set:  2 items, 0 garbage
[007 ms] Recently finished set: 1 items, 0 garbage
[007 ms] The preparation is finished
[008 ms] Started the transaction
[008 ms] Invocation 9 is acknowledged as finished
[008 ms] Number of active invocations: 0
[008 ms] Number of recently finished:  3
[009 ms] Triggers available in this txn: 2
[009 ms] Invoking the triggering policy function
[009 ms] The policy requested 1 new invocations
[025 ms] New invocations enqueued, consumed 2 triggers
[026 ms] Poking the cron
[1026 ms] Removing consumed dsset items
[1026 ms] Landing the transaction
[2000 ms] Done
"""
    assert log.text == expected


def test_an_error_names_its_cause_if_there_is_one() -> None:
    """An error line."""
    log = TriageLog(START)
    log.error(START, "Something failed", TimeoutError("too slow"))
    log.error(START, "no cause")
    assert log.text.replace("[000 ms] ", "").splitlines()[1:] == [
        "Error: Something failed - too slow",
        "Error: no cause",
    ]


def test_an_inactive_job_runs_no_policy() -> None:
    """Its triggers are cleared. Without triggers, the policy is asked as usual."""
    paused = job(TriggeringPolicy(), paused=True)
    assert texts(triage(paused, triggers(3), Era.V2, START), 3) == [
        "Triggers available in this txn: 3",
        "The job is inactive, clearing the pending triggers queue",
    ]
    assert texts(triage(paused, [], Era.V2, START), 0) == [
        "Triggers available in this txn: 0",
        "Invoking the triggering policy function",
        "The policy requested 0 new invocations",
    ]


def test_surplus_and_discarded_triggers_are_distinguished() -> None:
    """Triggers above the limit are an error. Triggers that are too old are the policy's choice."""
    policy = TriggeringPolicy(NewestFirst.kind, max_concurrent_invocations=1)
    pending = [*triggers(MAX_PENDING + 2, Instant(START - 7 * DAY)), Trigger("new", START)]
    decision = triage(job(policy, active=1), pending, Era.V2, START)
    assert texts(decision, len(pending)) == [
        "Triggers available in this txn: 1003",
        "Error: Too many pending triggers (>1000), dropping 3 oldest",
        "Invoking the triggering policy function",
        "Max concurrent invocations is 1 and there's 1 running => refusing to launch more",
        "The policy requested 0 new invocations",
        "999 triggers discarded, according to policy",
    ]


def test_the_default_replaces_an_invalid_policy() -> None:
    """The log gives the reason, and the triggers are handled like with the default policy."""
    decision = triage(job(TriggeringPolicy("FUTURE_KIND")), triggers(2), Era.V2, START)
    assert [len(request.incoming_triggers) for request in decision.requests] == [2]
    assert texts(decision, 2)[2] == (
        "Error: Failed to instantiate the triggering policy function, using the default policy instead - "
        "unrecognized triggering policy kind FUTURE_KIND"
    )


@pytest.mark.parametrize(("added", "cut"), [(998, False), (999, False), (1000, True), (3000, True)])
def test_a_long_log_is_cut(added: int, *, cut: bool) -> None:
    """A thousand lines stay, followed by a note without a newline."""
    log = TriageLog(START)
    for number in range(added):
        log.line(START, str(number))
    lines = log.text.split("\n")
    assert len(lines) - 1 == min(added + 1, 1000)
    assert lines[-1] == ("<the log is too long, truncated here>" if cut else "")


def test_text_that_cannot_be_stored_is_replaced() -> None:
    """Half of a surrogate pair comes from JSON and would break the store."""
    log = TriageLog(START)
    log.line(START, "\ud800")
    assert log.text.endswith("[000 ms] \ufffd\n")


def test_a_kick_is_always_later_and_shared_for_two_seconds() -> None:
    """A kick in the same second is also later."""
    eta, name = triage_kick(JobId("p/j"), START)
    assert eta == START + 2 * SECOND
    assert triage_kick(JobId("p/j"), Instant(eta - 1)) == (eta, name)
    assert triage_kick(JobId("p/j"), eta)[0] == eta + 2 * SECOND
    assert triage_kick(JobId("p/k"), START)[1] != name
