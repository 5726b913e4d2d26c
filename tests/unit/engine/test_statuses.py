"""Commit statuses: a commit shows the end of its invocation; the engine waits for no host, and pays only by option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.statuses import MemoryStatuses
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.commit_status import MAX_DESCRIPTION, CommitStatus, State, status_of
from luci_scheduler.core.deferred import Deferred
from luci_scheduler.core.errors import PermanentError, SchedulerError, StoreConflictError, TransientError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.sweep import sweep
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.ports import BuildbucketError, GitilesError, PutDeferred, QueueTask
from tests.unit.engine.world import JOB, Crash, World, config

_REPO = "https://github.com/Example-Org/widget"
_SHA = "a" * 40
_REFUSED = BuildbucketError("PERMISSION_DENIED", "no", transient=False)
_DOWN = GitilesError("UNAVAILABLE", "HTTP 503", transient=True)


class _Reporting(World):
    """A scheduler whose commits show statuses, in memory."""

    def __init__(self, **settings: Any) -> None:
        self.shown_at = MemoryStatuses()
        super().__init__(statuses=self.shown_at, hostname="scheduler.example.com", **settings)

    def push(self, revision: str = _SHA, message: str = "m1", ref: str = "refs/heads/main") -> None:
        """Let a second pass and deliver a commit of a GitHub repository to the job."""
        self.clock.advance(SECOND)
        trigger = gitiles_trigger(_REPO, ref, revision, self.clock.now())
        accept_triggers(self.runtime, JOB, [trigger], f"commit-{message}")

    def states(self) -> list[str]:
        """Return the state of each report, in their order."""
        return [str(status.state) for status, _ in self.shown_at.reported]

    def shown(self, revision: str = _SHA) -> str:
        """Return the state that a commit shows; empty without a status."""
        return self.shown_at.shown().get((revision, f"scheduler/{JOB}"), "")

    def end(self, status: str = "SUCCESS", message: str = "n1") -> None:
        """Let the build end, and deliver its notification; the task of the report is still to come."""
        self.finish(status)
        self.notify(message)

    def rerun(self) -> None:
        """Let the job build the first commit again, and fail; the task of the report is still to come."""
        self.push(message="m2", ref="refs/heads/next")
        self.end("FAILURE", "n2")

    def recover(self, minutes: int = 8) -> None:
        """Let the sweep find lost work, and deliver the tasks."""
        for _ in range(minutes):
            self.clock.advance(MINUTE)
            sweep(self.runtime)
            self.tick()


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [World(), World(statuses=MemoryStatuses())], ids=["without", "with, on Gitiles"])
def test_other_commits_cost_nothing(world: World) -> None:
    """Without the option, and for the commits of Gitiles hosts: no document, no read and no task."""
    world.commit()
    assert world.counted() == "2R/5W/3c"
    world.finish()
    world.notify("n")
    assert world.counted() == "2R/2W/1c"
    assert world.works() == []
    assert [task.kind for task in world.queue.tasks] == ["timer"]


def test_a_status_costs_one_write_in_the_commit_and_one_task() -> None:
    """The report costs a read and a deletion, and that of a start two reads more."""
    world = _Reporting()
    world.push()
    assert world.counted() == "1R/6W/3c"
    assert sorted(task.kind for task in world.queue.tasks) == ["deferred", "timer"]
    assert world.states() == []  # the commit has not waited for the host
    world.tick()
    assert world.counted() == "3R/1W/1c"
    world.finish()
    world.notify("n")
    assert world.counted() == "2R/3W/1c"
    assert world.states() == ["pending"]
    world.tick()
    assert world.counted() == "1R/1W/1c"
    assert world.works() == []
    assert world.states() == ["pending", "success"]


# --- content ----------------------------------------------------------------------------------------------------------


def test_a_status_has_a_state_a_description_and_a_link() -> None:
    world = _Reporting()
    world.push()
    world.tick()
    world.clock.advance(90 * SECOND)
    world.finish("FAILURE")
    world.notify("n")
    world.tick()
    (invocation,) = world.invocations()
    page = f"https://scheduler.example.com/jobs/proj/job/{invocation.id}"
    context = "scheduler/proj/job"
    assert world.shown_at.reported == [
        (CommitStatus(_REPO, _SHA, State.PENDING, context, "Running"), page),
        (CommitStatus(_REPO, _SHA, State.FAILURE, context, "Failed after 1m31s"), page),
    ]


def _ended(**changes: Any) -> Invocation:
    world = _Reporting()
    world.push()
    return replace(world.invocations()[0], finished=Instant(world.clock.now() + 5 * SECOND), **changes)


@pytest.mark.parametrize(
    ("status", "state", "description"),
    [
        (Status.SUCCEEDED, State.SUCCESS, "Succeeded in 5s"),
        (Status.FAILED, State.FAILURE, "Failed after 5s"),
        (Status.OVERRUN, State.FAILURE, "Overran after 5s"),
        (Status.ABORTED, State.ERROR, "Aborted after 5s"),
        (Status.STARTING, None, ""),
        (Status.RETRYING, None, ""),
    ],
)
def test_each_status_has_its_state(status: Status, state: State | None, description: str) -> None:
    found = status_of(_ended(status=status))
    assert (found and found.state, found and found.description) == (state, description if state else None)


def test_a_description_stays_short_and_quotes_nothing() -> None:
    """Everyone who reads the repository can read it, and GitHub takes 140 characters."""
    found = status_of(_ended(status=Status.FAILED, summary="secret " * 100, triggered_by="user:a@example.com"))
    assert found is not None
    assert len(found.description) <= MAX_DESCRIPTION
    assert "secret" not in repr(found)
    assert "example.com" not in repr(found)


def _trigger(kind: PayloadKind, **payload: Any) -> Trigger:
    return Trigger("t", Instant(1), kind, payload)


@pytest.mark.parametrize(
    "triggers",
    [
        (),
        (_trigger(PayloadKind.CRON),),
        (_trigger(PayloadKind.GITILES, repo=_REPO, ref="refs/heads/main", revision=_SHA), _trigger(PayloadKind.WEBUI)),
        (_trigger(PayloadKind.GITILES, repo=_REPO, ref="refs/heads/main", revision="../../user"),),
        (_trigger(PayloadKind.GITILES, repo=_REPO, ref="refs/heads/main", revision=5),),
        (_trigger(PayloadKind.GITILES, repo=_REPO),),
    ],
)
def test_an_invocation_without_a_commit_has_no_status(triggers: Sequence[Trigger]) -> None:
    """The last trigger decides, as it decides the commit of the build."""
    assert status_of(_ended(status=Status.SUCCEEDED, incoming_triggers=tuple(triggers))) is None


@pytest.mark.parametrize("repo", ["https://gitlab.com/a/b", "https://github.com/a", "git@github.com:a/b", ""])
def test_a_commit_of_another_host_has_no_status(repo: Any) -> None:
    world = _Reporting()
    trigger = _trigger(PayloadKind.GITILES, repo=repo, ref="refs/heads/main", revision=_SHA)
    accept_triggers(world.runtime, JOB, [trigger], "key")
    assert [item.status.is_final or item.status is Status.RUNNING for item in world.invocations()] == [True]
    assert world.works() == []


def test_a_batch_shows_its_last_commit() -> None:
    """It is the built one."""
    world = _Reporting()
    now = world.clock.now()
    batch = [gitiles_trigger(_REPO, "refs/heads/main", digit * 40, Instant(now + n)) for n, digit in enumerate("123")]
    accept_triggers(world.runtime, JOB, batch, "key")
    world.tick()
    assert world.shown_at.shown() == {("3" * 40, "scheduler/proj/job"): "pending"}


def test_an_end_without_a_build_has_no_pending() -> None:
    world = _Reporting()
    world.buildbucket.faults = [_REFUSED]
    world.push()
    world.tick()
    assert world.states() == ["failure"]


_ENDS: list[Callable[[World], Any]] = [
    lambda world: world.notify("n"),
    lambda world: world.tick(60),
    lambda world: abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "k"),
]


@pytest.mark.parametrize("end", _ENDS, ids=["notification", "status check", "abort"])
def test_every_way_to_end_is_shown(end: Callable[[World], None]) -> None:
    """Also if the job was removed from the config."""
    world = _Reporting()
    world.push()
    world.tick()
    world.sync("")
    world.finish()
    end(world)
    world.tick(1)
    assert world.states() in (["pending", "success"], ["pending", "error"])


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_late_pending_is_dropped() -> None:
    """Its task comes after the end. After the report of the end, it repeats that: it may have been killed before."""
    for tasks_first in (False, True):
        world = _Reporting()
        world.push()
        late = [task for task in world.queue.tasks if task.kind == "deferred"]
        world.queue.purge()
        world.finish()
        world.notify("n")
        if tasks_first:
            world.tick()
        for task in late:
            world.run_task(task)
        world.tick()
        assert world.states() == ["success"] * (2 if tasks_first else 1)
        assert world.works() == []


def test_a_pending_of_a_killed_task_is_followed_by_the_end() -> None:
    """The task stood still before its call, until after the report of the end, and was killed after its call."""
    world = _Reporting()
    world.push()
    report = world.shown_at.report

    def late(status: CommitStatus, page: str) -> None:
        world.shown_at.report = report  # type: ignore[method-assign]
        world.finish()
        world.notify("n")
        world.tick()
        report(status, page)
        raise Crash

    world.shown_at.report = late  # type: ignore[method-assign]
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    world.queue.purge()
    with pytest.raises(Crash):
        world.run_task(task)
    assert world.shown() == "pending"
    world.run_task(task)
    assert world.shown() == "success"
    assert world.works() == []


def _stand_still(world: _Reporting, meanwhile: Callable[[], None], *, dies: bool = True) -> QueueTask:
    """Let the first report of a task stand still; its delivery dies after its call. Return the task, to repeat it."""
    report = world.shown_at.report

    def late(status: CommitStatus, page: str) -> None:
        world.shown_at.report = report  # type: ignore[method-assign]
        meanwhile()
        report(status, page)
        if dies:
            raise Crash

    world.shown_at.report = late  # type: ignore[method-assign]
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    world.queue.purge()
    with pytest.raises(Crash) if dies else nullcontext():
        world.run_task(task)
    return task


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("has_ended", [True, False])
def test_a_pending_that_stood_still_is_followed_by_the_end(dies: bool, has_ended: bool) -> None:
    """The sweep repeated its task meanwhile. The delivery dies after its call, or the host refuses the next call."""
    world = _Reporting()
    world.push()

    def meanwhile() -> None:
        for step in (world.end, lambda: world.recover(3)) if has_ended else (lambda: world.recover(3), world.end):
            step()
            world.tick()
        assert world.shown() == "success"
        if not dies:
            world.shown_at.after_report = lambda _: setattr(world.shown_at, "before_report", refuse)

    def refuse(_: CommitStatus) -> None:
        world.shown_at.before_report = world.shown_at.after_report = lambda _: None
        raise _DOWN

    world.run_task(_stand_still(world, meanwhile, dies=dies))
    assert world.shown() == "pending"
    world.recover(14)
    assert world.shown() == "success"
    assert world.works() == []


@pytest.mark.parametrize("dies", [False, True])
def test_an_end_that_stood_still_does_not_hide_a_later_invocation(dies: bool) -> None:
    """The delivery that reported it last reports the later end as well; if it dies, the last try of its work does."""
    world = _Reporting()
    world.push()
    world.tick()
    world.end()

    def meanwhile() -> None:
        world.rerun()
        world.recover(3)
        assert world.shown() == "failure"

    _stand_still(world, meanwhile, dies=dies)
    assert world.shown() == ("success" if dies else "failure")
    world.recover(14)
    assert world.shown() == "failure"
    assert world.works() == []


@pytest.mark.parametrize(
    "refusal", [_DOWN, GitilesError("RESOURCE_EXHAUSTED", "slow down", transient=True, retry_after=MINUTE)]
)
def test_a_refused_repetition_keeps_the_last_try(refusal: GitilesError) -> None:
    """The next try after the refusal is punctual, and the first delivery still runs."""
    world = _Reporting()
    world.push()

    def meanwhile() -> None:
        world.shown_at.before_report = refuse
        world.recover(5)
        world.end()
        world.tick()
        assert world.shown() == "success"

    def refuse(_: CommitStatus) -> None:
        world.shown_at.before_report = lambda _: None
        raise refusal

    world.run_task(_stand_still(world, meanwhile))
    assert world.shown() == "pending"
    world.recover(20)
    assert world.shown() == "success"
    assert world.works() == []


def test_a_short_grace_of_the_sweep_has_last_tries_too() -> None:
    world = _Reporting(sweep_grace_seconds=5)
    world.push()

    def meanwhile() -> None:
        world.clock.advance(6 * SECOND)
        sweep(world.runtime)
        world.tick()
        world.end()
        world.tick()

    world.run_task(_stand_still(world, meanwhile))
    world.recover(14)
    assert world.shown() == "success"
    assert world.works() == []


def _report_late(world: _Reporting, *, is_start: bool) -> None:
    """Let an invocation succeed, and let the sweep repeat one of its reports, whose work then has a last try."""
    world.push()
    if not is_start:
        world.tick()
        world.end()
    world.queue.purge()
    world.recover(3)
    if is_start:
        world.end()
        world.tick()
    assert world.shown() == "success"
    assert world.works()


@pytest.mark.parametrize(("is_start", "cost"), [(False, "2R/1W/1c"), (True, "6R/1W/1c")])
def test_a_last_try_costs_few_reads(is_start: bool, cost: str) -> None:
    """No later invocation runs. Each that runs would cost a read more, up to ten."""
    world = _Reporting()
    _report_late(world, is_start=is_start)
    (work,) = world.works()
    world.clock.advance(work.next_due - world.clock.now())
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    world.counted()
    world.run_task(task)
    assert world.counted() == cost
    assert world.works() == []


@pytest.mark.parametrize("is_start", [False, True])
def test_a_last_try_does_not_hide_a_run(is_start: bool) -> None:
    """The commit shows that it is built again. It does not turn green meanwhile."""
    world = _Reporting()
    _report_late(world, is_start=is_start)
    world.push(message="m2", ref="refs/heads/next")
    world.tick()
    world.recover(14)
    assert world.shown() == "pending"
    assert world.works() == []


@pytest.mark.parametrize("rerun", ["failure", "pending"])
def test_a_last_try_of_a_busy_job_hides_no_run(rerun: str) -> None:
    """It does not read hundreds of running invocations. If there are more than a few, it reports nothing."""
    world = _Reporting()
    world.sync(config(("job",), "triggering_policy { max_concurrent_invocations: 1000 max_batch_size: 1 }"))
    _report_late(world, is_start=True)
    world.push(message="m2", ref="refs/heads/next")
    world.tick()
    if rerun == "failure":
        world.end("FAILURE", "n2")
        world.tick()
    for number in range(11):
        world.push(f"{number:040x}", f"m{number}")
    world.tick()
    world.recover(14)
    assert world.shown() == rerun
    assert [work for work in world.works() if work.payload["revision"] == _SHA] == []


def test_an_end_that_only_has_its_last_try_left_is_reported_again() -> None:
    """The tasks of both states were lost, and the first delivery of the pending stood still until after the end."""
    world = _Reporting()
    world.push()

    def meanwhile() -> None:
        world.end()
        world.queue.purge()
        world.recover(4)
        assert world.shown() == "success"

    world.run_task(_stand_still(world, meanwhile))
    world.recover(20)
    assert world.shown() == "success"
    assert world.works() == []


def test_each_late_try_moves_the_last_one() -> None:
    """The work was late before an outage already. A delivery stood still after the outage, until after a rerun."""
    world = _Reporting()
    world.push()
    world.tick()
    world.end()
    world.queue.purge()

    def refuse(_: CommitStatus) -> None:
        raise _DOWN

    world.shown_at.before_report = refuse
    world.recover(30)
    world.shown_at.before_report = lambda _: None
    (work,) = world.works()
    world.clock.advance(max(0, work.next_due - world.clock.now()))

    def meanwhile() -> None:
        world.rerun()
        world.recover(4)
        assert world.shown() == "failure"

    world.run_task(_stand_still(world, meanwhile))
    world.recover(20)
    assert world.shown() == "failure"
    assert world.works() == []


@pytest.mark.parametrize("is_start", [False, True])
def test_a_last_try_does_not_hide_an_end_that_the_job_lists_no_more(is_start: bool) -> None:
    """Ten other invocations have ended since. Then the work cannot know which end is the latest."""
    world = _Reporting()
    _report_late(world, is_start=is_start)
    world.rerun()
    world.tick()
    for number in range(10):
        world.push(f"{number:040x}", f"m{number}")
        world.tick()
        world.end(message=f"n{number}")
        world.tick()
    world.recover(14)
    assert world.shown() == "failure"
    assert world.works() == []


def test_a_busy_queue_does_not_repeat_reports() -> None:
    """Each task comes more than the sweep's grace late. A last try reports nothing if nothing is newer."""
    world = _Reporting()
    world.push()
    world.tick()
    world.end()
    for _ in range(60):
        world.clock.advance(130 * SECOND)
        world.tick()
    assert world.states() == ["pending", "success"]
    assert world.works() == []


def test_a_second_call_that_stands_still_is_followed_by_the_newest_state() -> None:
    """The end came during the first call. A rerun ended during the second call, which shows the older end."""
    world, calls = _Reporting(), list[State]()
    world.push()
    report = world.shown_at.report

    def slow(status: CommitStatus, page: str) -> None:
        calls.append(status.state)
        world.shown_at.report = report  # type: ignore[method-assign]
        world.clock.advance(8 * SECOND)
        if len(calls) == 2:
            world.push(message="m2", ref="refs/heads/next")
        world.end("SUCCESS" if len(calls) == 1 else "FAILURE", f"n{len(calls)}")
        world.tick()
        report(status, page)
        if len(calls) == 1:
            world.shown_at.report = slow  # type: ignore[method-assign]

    world.shown_at.report = slow  # type: ignore[method-assign]
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    world.queue.purge()
    world.run_task(task)
    assert calls == [State.PENDING, State.SUCCESS]
    assert world.shown() == "failure"
    assert world.works() == []


def test_a_last_try_that_fails_drops_no_status() -> None:
    """The status was reported long before, so no line says that it was dropped."""
    world, refused = _Reporting(), list[State]()
    _report_late(world, is_start=False)
    world.rerun()
    world.tick()

    def refuse(status: CommitStatus) -> None:
        refused.append(status.state)
        raise _DOWN

    world.shown_at.before_report = refuse
    with capture_logs() as lines:
        world.recover(80)
    assert refused
    assert _dropped(lines) == []
    assert world.works() == []


@pytest.mark.parametrize(("later", "shown"), [(_SHA, "failure"), ("b" * 40, "success")])
@pytest.mark.parametrize("late", ["success", "pending"])
def test_a_late_report_does_not_hide_a_later_invocation(late: str, later: str, shown: str) -> None:
    """The host took no report of the first invocation, until after the end of another one of this or another commit."""
    world, waiting = _Reporting(), True

    def refuse(status: CommitStatus) -> None:
        if waiting and status.state == late:
            raise _DOWN

    world.shown_at.before_report = refuse
    world.push()
    world.tick()
    world.finish()
    world.notify("n1")
    world.tick()
    waiting = False
    world.clock.advance(HOUR // 2)
    world.push(later, "m2")
    world.finish("FAILURE")
    world.notify("n2")
    for task in [task for task in world.queue.tasks if task.kind == "deferred"][::-1]:
        world.run_task(task)
    assert (world.shown(), world.shown(later)) == (shown, "failure")
    (page,) = [page for status, page in world.shown_at.reported if status.revision == _SHA][-1:]
    assert page.endswith(f"/{world.invocations()[0 if later == _SHA else 1].id}")
    world.recover(14)
    assert world.works() == []


def test_an_end_during_the_report_of_the_start_is_reported_after_it() -> None:
    """The host may take the pending last, so the handler of the pending reports the end again."""
    world = _Reporting()
    world.push()

    def end(status: CommitStatus) -> None:
        if status.state is State.PENDING:
            world.finish()
            world.notify("n")
            world.tick()

    world.shown_at.before_report = end
    world.tick()
    assert world.states() == ["success", "pending", "success"]
    assert world.works() == []


def test_a_pending_of_unknown_outcome_is_followed_by_the_end() -> None:
    """Its first call may reach the host at any time, so the second try reports the end instead of the pending."""
    world = _Reporting()
    world.push()
    calls: list[State] = []

    def lose_answer(status: CommitStatus) -> None:
        calls.append(status.state)
        if len(calls) == 1:
            raise GitilesError("DEADLINE_EXCEEDED", "no answer", transient=True)

    world.shown_at.after_report = lose_answer
    world.tick()
    world.finish()
    world.notify("n")
    world.recover(2)
    assert world.states() == ["pending", "success", "success"]
    assert world.works() == []


# --- faults -----------------------------------------------------------------------------------------------------------


class _Points:
    """Kills the process, or fails, at one of the calls that change something.

    ``place`` counts the moments before and after them. A failure after a call is a lost answer.
    """

    def __init__(self, world: _Reporting, place: int, *, kills: bool) -> None:
        self.left = place
        self._kills = kills
        lost = TransientError("no answer")
        world.store.commit = self._failing(world.store.commit, lost)  # type: ignore[method-assign]
        world.queue.enqueue = self._failing(world.queue.enqueue, lost)  # type: ignore[method-assign]
        world.shown_at.report = self._failing(world.shown_at.report, _DOWN)  # type: ignore[method-assign]

    def _failing(self, call: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            self._pass(error)
            result = call(*args)
            self._pass(error)
            return result

        return called

    def _pass(self, error: Exception) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash if self._kills else error


def _life(world: _Reporting) -> Sequence[Callable[[], Any]]:
    """Return the deliveries of a build's life; each one is repeated after a crash, as its sender does."""
    return (
        lambda: accept_triggers(
            world.runtime, JOB, [gitiles_trigger(_REPO, "refs/heads/main", _SHA, Instant(1))], "commit-m1"
        ),
        world.tick,
        lambda: world.notify("n") if world.buildbucket.builds and not world.finish() else None,
        world.tick,
    )


def _survive(world: _Reporting, delivery: Callable[[], Any]) -> None:
    """Make a delivery, and make it again if the process was killed. Tasks of a killed delivery are lost."""
    for _ in range(3):
        try:
            delivery()
        except Crash:
            world.clock.advance(2 * MINUTE)  # a claim of the killed process ends
        except SchedulerError:
            world.clock.advance(MINUTE)
        else:
            return


@pytest.mark.parametrize("kills", [True, False], ids=["crash", "failure"])
def test_a_fault_at_any_point_loses_no_status(kills: bool) -> None:
    """Before and after each commit, task and report: the commit shows the end, one build runs, and no work is left."""
    places = 0
    while True:
        places += 1
        world = _Reporting()
        points = _Points(world, places, kills=kills)
        for delivery in _life(world):
            _survive(world, delivery)
        world.recover()
        world.finish()  # a build that started late
        world.recover()
        assert world.shown() == "success", places
        assert world.works() == [], places
        assert len(world.buildbucket.builds) == 1, places
        if points.left > 0:
            break
    assert places > 20


@pytest.mark.parametrize("lost", ["task", "answer of the commit", "queue"])
def test_a_fault_around_the_commit_loses_no_status(lost: str) -> None:
    """The document is part of the commit, and the sweep makes the task again."""
    world = _Reporting()
    world.push()
    world.tick()
    world.finish()
    commit, enqueue, done = world.store.commit, world.queue.enqueue, []

    def failing(writes: Any) -> Any:
        versions = commit(writes)
        if not done and any(isinstance(write, PutDeferred) for write in writes):
            done.append(lost)
            if lost == "answer of the commit":
                raise StoreConflictError("the commit landed; this is the answer to the client's second try")
        return versions

    def refuse(_: Any) -> None:
        raise TransientError("the queue is down")

    world.store.commit = failing  # type: ignore[method-assign]
    if lost == "queue":
        world.queue.enqueue = refuse  # type: ignore[method-assign]
    world.notify("n")
    world.queue.enqueue = enqueue  # type: ignore[method-assign]
    if lost == "task":
        world.queue.purge()
    assert world.states() == ["pending"]
    world.recover(4)
    assert done
    assert world.states() == ["pending", "success"]
    world.recover(14)  # the sweep repeated a task, so its work has a last try
    assert world.states() == ["pending", "success"]
    assert world.works() == []


def _dropped(lines: Sequence[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "commit_status_dropped"]


def test_an_outage_of_the_host_delays_no_build_and_ends_after_an_hour() -> None:
    """One line for each status that was given up. The pauses grow, so an outage costs few calls."""
    world, calls = _Reporting(), []

    def refuse(_: CommitStatus) -> None:
        calls.append(world.clock.now())
        raise _DOWN

    world.shown_at.before_report = refuse
    with capture_logs() as lines:
        for number, end in ((1, "SUCCESS"), (2, "FAILURE")):
            world.push(f"{number:x}" * 40, f"m{number}")
            world.finish(end)
            world.notify(f"n{number}")
        assert [item.status for item in world.invocations()] == [Status.FAILED, Status.SUCCEEDED]
        for _ in range(75):
            world.tick(60)
            sweep(world.runtime)
    assert world.works() == []
    assert {(line["state"], line["log_level"]) for line in _dropped(lines)} == {
        ("success", "warning"), ("failure", "warning"),
    }  # fmt: skip
    assert all("UNAVAILABLE: HTTP 503" in line["reason"] for line in _dropped(lines))
    assert len(_dropped(lines)) == 2
    assert len(calls) < 2 * 15
    assert max(calls) - min(calls) < HOUR + 15 * MINUTE


def test_a_status_that_is_refused_for_good_is_dropped_at_once() -> None:
    world = _Reporting()

    def refuse(_: CommitStatus) -> None:
        raise GitilesError("PERMISSION_DENIED", "Resource not accessible by integration", transient=False)

    world.shown_at.before_report = refuse
    world.push()
    with capture_logs() as lines:
        world.tick()
    assert [line["reason"] for line in _dropped(lines)] == ["PERMISSION_DENIED: Resource not accessible by integration"]
    assert world.works() == []


def test_a_host_names_the_time_of_the_next_try() -> None:
    """GitHub may ban a caller that goes on above a limit."""
    world = _Reporting()

    def refuse(_: CommitStatus) -> None:
        raise GitilesError("RESOURCE_EXHAUSTED", "limit", transient=True, throttled=True, retry_after=20 * MINUTE)

    world.shown_at.before_report = refuse
    world.push()
    world.tick()
    (work,) = world.works()
    assert work.next_due - world.clock.now() == 20 * MINUTE


def test_an_option_that_was_switched_off_leaves_no_work() -> None:
    world = _Reporting()
    world.push()
    world.runtime = replace(world.runtime, statuses=None)
    with capture_logs() as lines:
        world.tick()
    assert [line["reason"] for line in _dropped(lines)] == ["SCHEDULER_GITHUB_STATUSES is not true any more"]
    assert world.works() == []


def test_a_host_that_was_removed_leaves_no_work() -> None:
    """Its reports could never succeed, and would fail as unexpected errors for a week."""
    world = _Reporting()
    world.push()
    world.runtime = replace(world.runtime, hosts=CommitHosts({}))
    with capture_logs() as lines:
        world.tick()
    (reason,) = [line["reason"] for line in _dropped(lines)]
    assert reason.startswith("SCHEDULER_COMMIT_HOSTS does not name")
    assert world.works() == []


@pytest.mark.parametrize("payload", [{}, {"state": "running"}, {"job": 5}, {"invocation": "x"}, {"last_try": "x"}])
def test_a_bad_document_is_dropped(payload: dict[str, Any]) -> None:
    """Only a defect or a person could write one."""
    world = _Reporting()
    world.push()
    (work,) = world.works()
    found = world.store.deferred(work.id)
    assert found is not None
    bad: Deferred = replace(work, payload=(work.payload | payload) if payload else {})  # type: ignore[operator]
    world.store.commit([PutDeferred(bad, found.version)])
    (task,) = [task for task in world.queue.tasks if task.kind == "deferred"]
    with pytest.raises(PermanentError, match="holds no commit status"):
        world.run_task(task)
    assert world.works() == []
