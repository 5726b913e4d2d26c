"""Work that is deferred twice is one document, and work for two refs is two."""

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.engine.deferral import abort_work, commit_work, trigger_work
from luci_scheduler.engine.outbox import deferred_task
from tests.unit.engine.world import JOB, REPO, World

NOW = Instant(1_772_366_400 * SECOND)
LATER = Instant(NOW + SECOND)
OTHER = JobId("proj/other")


def _commit(ref: str = "refs/heads/main", revision: str = "a", key: str = "m", now: Instant = NOW) -> str:
    return commit_work(CommitEvent(REPO, ref, revision * 40), NOW, key, now, LATER).id


def test_commit_waits_once_for_each_of_its_refs() -> None:
    """A push of one commit to two branches must not lose the second branch."""
    assert _commit(key="again", now=LATER) == _commit()
    assert len({_commit(), _commit("refs/heads/release"), _commit(revision="b")}) == 3


@pytest.mark.parametrize(("job_id", "key"), [(OTHER, "k"), (JOB, "l")])
def test_triggers_wait_once_for_each_job_and_delivery(job_id: JobId, key: str) -> None:
    """The second delivery of one message to one job is the same work."""
    known = trigger_work(JOB, [], "k", NOW, NOW).id
    assert trigger_work(JOB, [], "k", LATER, LATER).id == known
    assert trigger_work(job_id, [], key, NOW, NOW).id != known


def test_aborts_of_two_invocations_are_two_works() -> None:
    """The invocations of two jobs may even have equal IDs."""
    known = abort_work(JOB, InvocationId(7), "user:a@example.com", "", NOW).id
    assert abort_work(JOB, InvocationId(7), "user:b@example.com", "again", LATER).id == known
    assert abort_work(OTHER, InvocationId(7), "user:a@example.com", "", NOW).id != known
    assert abort_work(JOB, InvocationId(8), "user:a@example.com", "", NOW).id != known


def test_task_of_an_earlier_try_has_no_effect() -> None:
    """The queue may deliver it again after the try was recorded: it neither asks the host nor shortens the pause."""
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(gitiles=git)
    world.commit("a")
    (work,) = world.works()
    task = deferred_task(work, world.clock.now())
    world.clock.move_to(work.next_due)
    world.run_task(task)
    (postponed,) = world.works()
    assert (work.tries, postponed.tries) == (0, 1)
    git.calls.clear()
    world.run_task(task)
    assert git.calls == []
    assert world.works() == [postponed]
