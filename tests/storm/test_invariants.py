"""Each invariant can fail: a history that breaks it violates it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Commit, Run, Schedule
from emulator.storm.invariants import SENTENCES, Invariant
from emulator.storm.judgment import violations
from emulator.storm.world import run as play
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import CreateTrigger, PutDeferred, PutJob, PutProject, UpdateInvocation

Spoil = Callable[[Run], None]


def found(run: Run) -> set[Invariant]:
    """Return the invariants that a run violates."""
    return {violation.invariant for violation in violations(run)}


def change(run: Run, wanted: type, spoil: Callable[[Any], Any], nth: int = -1) -> None:
    """Replace the ``nth`` write of a class, counted over the whole run."""
    places = [
        (number, place)
        for number, commit in enumerate(run.history.commits)
        for place, write in enumerate(commit.writes)
        if type(write) is wanted
    ]
    number, place = places[nth]
    commit = run.history.commits[number]
    writes = [*commit.writes]
    writes[place] = spoil(writes[place])
    run.history.commits[number] = replace(commit, writes=tuple(writes))


def change_invocation(run: Run, nth: int = -1, **members: Any) -> None:
    """Change members of the invocation in an update."""
    change(run, UpdateInvocation, lambda write: replace(write, invocation=replace(write.invocation, **members)), nth)


def add(run: Run, *writes: Any) -> None:
    """Add a commit at the end of the run."""
    last = run.history.commits[-1]
    run.history.commits.append(Commit(last.number + 1, last.at, last.handler, last.instance, last.delivery, writes))


def updates(run: Run) -> list[Invocation]:
    """Return the versions of the invocation after its creation."""
    writes = [write for commit in run.history.commits for write in commit.writes]
    return [write.invocation for write in writes if isinstance(write, UpdateInvocation)]


def second_build(run: Run, **members: Any) -> None:
    """Add a copy of the only build."""
    (build,) = run.history.builds
    run.history.builds.append(replace(build, id="1", **members))


def pending(run: Run) -> TriggerRecord:
    """Return a new pending trigger of the job."""
    return TriggerRecord(updates(run)[0].job_id, Trigger("t", Instant(run.ended)))


def work(run: Run) -> Deferred:
    """Return new deferred work."""
    return Deferred("d", "abort", {}, run.ended, run.ended, run.ended)


def test_the_good_run_holds(good_run: Run) -> None:
    """The run that the other tests spoil violates nothing, and something happens in it."""
    assert found(good_run) == set()
    assert updates(good_run)[-1].status.is_final
    assert len(good_run.history.builds) == 1


def late(run: Run) -> None:
    """Let the last commit about the invocation land two hours after its due time."""
    shift = 2 * HOUR
    number = next(
        n for n, c in enumerate(run.history.commits) if any(isinstance(w, UpdateInvocation) for w in c.writes)
    )
    run.history.commits[number:] = [replace(c, at=Instant(c.at + shift)) for c in run.history.commits[number:]]
    run.ended = Instant(run.ended + shift)
    for build in run.history.builds:
        build.created, build.ended = Instant(build.created + shift), Instant((build.ended or 0) + shift)


def old_config(run: Run) -> None:
    """Put a config in force, replace it, and put it in force again."""
    change(run, PutProject, lambda write: replace(write, record=replace(write.record, revision="a")))
    writes = [w for c in run.history.commits for w in c.writes if isinstance(w, PutProject)]
    for revision in ("b", "a"):
        add(run, replace(writes[-1], record=replace(writes[-1].record, revision=revision)))


def lose_marker(run: Run) -> None:
    """Let the marker of the consumed trigger name another invocation."""
    change(run, CreateTrigger, lambda write: replace(write, record=replace(write.record, invocation_id=16)))


def lose_trigger(run: Run) -> None:
    """Leave the published commit without a trigger."""
    change(run, CreateTrigger, lambda _: PutDeferred(work(run), None))


def discard_untruly(run: Run) -> None:
    """Discard a trigger because of a pause that never was."""
    reason = "the job is paused"
    add(run, CreateTrigger(replace(pending(run), resolved=run.ended, discarded=reason, refused=True)))


def turn_around(run: Run) -> None:
    """Let the build end otherwise than its invocation."""
    (build,) = run.history.builds
    build.status = "FAILURE" if build.status == "SUCCESS" else "SUCCESS"


def list_another(run: Run) -> None:
    """Let the job list an invocation that does not exist."""
    change(run, PutJob, lambda write: replace(write, job=replace(write.job, active_invocations=(16,))))


def log(run: Run, message: str, **members: Any) -> None:
    """Add a log line."""
    run.history.log.append({"at": run.ended, "message": message, **members})


def outlive(run: Run) -> None:
    """Let the build run on after its invocation ended."""
    run.history.builds[0].ended = Instant(run.ended + HOUR)
    run.ended = Instant(run.ended + 10 * MINUTE)


def request_twice(run: Run) -> None:
    """Repeat the request of the build under the same attempt."""
    run.history.calls += [call for call in run.history.calls if "ScheduleBuild" in call.point]


def take_over(run: Run) -> None:
    """Let another delivery end the claimed attempt."""
    number = next(
        n
        for n, commit in enumerate(run.history.commits)
        if any(isinstance(w, UpdateInvocation) and w.invocation.status is Status.RUNNING for w in commit.writes)
    )
    run.history.commits[number] = replace(run.history.commits[number], delivery=0)


def hurry(run: Run) -> None:
    """Begin another attempt a minute before the pause after the last one is over."""
    last = updates(run)[-1]
    waits = replace(last, status=Status.RETRYING, next_due=Instant(run.ended + MINUTE), claim_until=None)
    for attempts in (1, 2):
        add(run, UpdateInvocation(replace(waits, attempts=attempts), None))


def answer(run: Run, code: int) -> None:
    """Change the code of the last answer."""
    run.history.deliveries[-1].code = code


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        (Invariant.ONE_BUILD, second_build),
        (Invariant.TRIGGER_ONCE, lose_marker),
        (Invariant.TRIGGER_ONCE, lose_trigger),
        (Invariant.TRIGGER_ONCE, discard_untruly),
        (Invariant.END, turn_around),
        (Invariant.END, lambda run: change_invocation(run, status=Status.ABORTED)),
        (Invariant.END, lambda run: change_invocation(run, status=Status.RUNNING)),
        (Invariant.ORPHAN, outlive),
        (Invariant.COUNTERS, lambda run: change_invocation(run, mutations=0)),
        (Invariant.COUNTERS, lambda run: change_invocation(run, commits=99)),
        (Invariant.COUNTERS, lambda run: change_invocation(run, log_size=1)),
        (Invariant.COUNTERS, lambda run: change_invocation(run, last_line=Instant(1))),
        (Invariant.COUNTERS, lambda run: change_invocation(run, nth=0, attempts=2)),
        (Invariant.COUNTERS, lambda run: change_invocation(run, nth=2, status=Status.RETRYING)),
        (Invariant.ACTIVE, list_another),
        (Invariant.FREE_SLOT, lambda run: add(run, CreateTrigger(pending(run)))),
        (Invariant.OUTBOX, lambda run: change_invocation(run, nth=0, next_due=None)),
        (Invariant.OUTBOX, lambda run: change_invocation(run, nth=0, next_due=Instant(run.ended + HOUR))),
        (Invariant.PROMPT, lambda run: log(run, "swept", task="launch")),
        (Invariant.PROMPT, late),
        (Invariant.CLAIM, request_twice),
        (Invariant.CLAIM, take_over),
        (Invariant.PAUSE, hurry),
        (Invariant.REST, lambda run: add(run, PutDeferred(work(run), None))),
        (Invariant.REST, lambda run: setattr(run, "is_quiet", False)),
        (Invariant.RECOVERY, late),
        (Invariant.CONFIG, old_config),
        (Invariant.ANNOUNCED, lambda run: run.history.messages.pop()),
        (Invariant.SECRET, lambda run: log(run, "oops", token=run.secrets[0])),
        (Invariant.SECRET, lambda run: setattr(run.history.deliveries[-1], "body", run.secrets[-1])),
        (Invariant.SURPRISE, lambda run: log(run, "unexpected_error")),
        (Invariant.SURPRISE, lambda run: answer(run, 400)),
    ],
)  # fmt: skip
def test_each_invariant_can_fail(good_run: Run, invariant: Invariant, spoil: Spoil) -> None:
    """A history that breaks an invariant violates it."""
    spoil(good_run)
    assert invariant in found(good_run)


def hide_ends(run: Run) -> None:
    """Let GitHub have taken no status but pending."""
    run.history.statuses = [shown for shown in run.history.statuses if shown.state == "pending"]


def show_late(run: Run) -> None:
    """Let GitHub take a pending once more after all ends."""
    run.history.statuses.append(next(shown for shown in run.history.statuses if shown.state == "pending"))


def drop_early(run: Run) -> None:
    """Let a status be dropped as soon as it is recorded."""
    shown = run.history.statuses[-1]
    number = shown.page.rpartition("/")[2]
    members = {"job_id": shown.context.removeprefix("scheduler/"), "revision": shown.revision, "state": shown.state}
    log(run, "commit_status_dropped", invocation_id=number, reason="no", **members)


@pytest.fixture(scope="module")
def _github_run() -> Run:
    return play(Schedule(1, (), scenario="github"))


@pytest.fixture
def github_run(_github_run: Run) -> Run:
    """Return a run with commits on GitHub, whose statuses and log a test may change."""
    mine = copy.copy(_github_run)
    mine.history = copy.copy(_github_run.history)
    mine.history.statuses, mine.history.log = [*_github_run.history.statuses], [*_github_run.history.log]
    return mine


@pytest.mark.parametrize("spoil", [hide_ends, show_late, drop_early, lambda run: run.history.statuses.clear()])
def test_the_invariant_of_statuses_can_fail(github_run: Run, spoil: Spoil) -> None:
    """A commit on GitHub that shows no end violates it."""
    assert found(github_run) == set()
    spoil(github_run)
    assert Invariant.SHOWN in found(github_run)


def test_an_earlier_end_may_not_hide_that_of_a_rerun() -> None:
    """GitHub shows the report that came last, so the end of an earlier invocation may not come after it."""
    run = play(Schedule(2, scenario="github", focus=frozenset({Kind.RERUN}), rate=6.0))
    assert found(run) == set()
    ends = [shown for shown in run.history.statuses if shown.state != "pending"]
    last = {(shown.revision, shown.context): shown.page for shown in ends}
    earlier = [shown for shown in ends if shown.page != last[shown.revision, shown.context]]
    run.history.statuses.append(earlier[0])
    assert found(run) == {Invariant.SHOWN}


def test_all_invariants_are_tested_and_explained() -> None:
    """Each invariant has a sentence, and a case above."""
    (mark,) = (m for m in test_each_invariant_can_fail.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    # `test_cloud_builds` has the cases of the first, and the test above those of the second.
    tested = {case[0] for case in mark.args[1]} | {Invariant.LOST_BUILD, Invariant.SHOWN}
    assert tested == set(Invariant) == set(SENTENCES)


def test_a_build_that_ends_before_the_next_is_no_double(good_run: Run) -> None:
    """Two builds of an invocation violate the invariant only while both are live."""
    ended = good_run.history.builds[0].ended
    assert ended is not None
    second_build(good_run, created=ended, ended=Instant(ended + SECOND))
    assert Invariant.ONE_BUILD not in found(good_run)


def test_an_outage_does_not_count_as_waiting(good_run: Run) -> None:
    """The patience of overdue work does not count the time of an outage."""
    start = Instant(good_run.history.commits[0].at)
    late(good_run)
    good_run.history.outages.append(("store", start, Instant(start + 3 * HOUR)))
    assert Invariant.RECOVERY not in found(good_run)


def test_a_second_look_that_fails_is_left_to_the_sweep(good_run: Run) -> None:
    """An invocation has ended, and its commit has requested a triage that finds no trigger."""
    log(good_run, "swept", task="triage")
    assert Invariant.PROMPT in found(good_run)
    log(good_run, "second_look_failed")
    assert Invariant.PROMPT not in found(good_run)


def test_the_word_of_buildbucket_ends_an_invocation(good_run: Run) -> None:
    """An invocation may fail beside its running build if Buildbucket denied the call of that delivery."""
    turn_around(good_run)
    ending = next(
        c for c in reversed(good_run.history.commits) if any(isinstance(w, UpdateInvocation) for w in c.writes)
    )
    call = next(c for c in good_run.history.calls if c.delivery == ending.delivery and "buildbucket" in c.point)
    assert Invariant.END in found(good_run)
    good_run.faults = (Fault(Kind.BUILD_DENIED, f"{call.point}/before", call.before),)
    assert Invariant.END not in found(good_run)


def test_an_abort_may_end_a_launch_that_leaves_nothing_running() -> None:
    """A no-op job is claimed by a delivery that died, and a person aborts all invocations of the job."""
    faults = (
        Fault(Kind.CRASH_AFTER, "on_task launch/store.job/after", 0),
        Fault(Kind.ABORT_JOB, "platform/users", 10, 119),
    )
    result = play(Schedule(101_184, faults))
    assert any(commit.handler == "on_task deferred" for commit in result.history.commits)
    assert violations(result) == []
