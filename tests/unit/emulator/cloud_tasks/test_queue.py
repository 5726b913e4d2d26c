"""The queue as a state machine: dispatch times, and the effect of results."""

from __future__ import annotations

import pytest

from emulator.cloud_tasks.errors import AlreadyExistsError, NotFoundError
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.model import DeliveryResult, HttpRequest, QueueState, RateLimits, RetryConfig, Task
from emulator.cloud_tasks.queue import Attempt, Outcome
from emulator.cloud_tasks.queues import NewTask, Queues
from luci_scheduler.core.instants import DAY, HOUR, MILLISECOND, SECOND

NOW = 1_773_756_432_882_000_000
QUEUE = "projects/p/locations/l/queues/q"
OTHER = "projects/p/locations/l/queues/r"
REQUEST = HttpRequest("http://127.0.0.1/")
OK = DeliveryResult(200)
FAILED = DeliveryResult(500)


def make(rate: RateLimits | None = None, retry: RetryConfig | None = None, limits: Limits | None = None) -> Queues:
    """Return a server's state with one queue."""
    queues = Queues(limits or Limits())
    queues.create_queue(QUEUE, rate or RateLimits(), retry or RetryConfig(), NOW)
    return queues


def add(
    queues: Queues, task_id: str = "", at: int | None = None, *, queue: str = QUEUE, now: int = NOW, **more
) -> Task:
    """Create a task; without an ID the server chooses the name."""
    name = f"{queue}/tasks/{task_id}" if task_id else ""
    return queues.create_task(queue, NewTask(REQUEST, name, at, **more), now)


def took(attempt: Attempt | None) -> Attempt:
    """Return an attempt that must exist."""
    assert attempt is not None
    return attempt


def test_a_task_is_dispatched_at_its_time_and_not_before():
    """A later task is not dispatched one nanosecond early, and `next_ready` returns its instant."""
    queues = make()
    add(queues, at=NOW + SECOND)
    assert queues.take(NOW + SECOND - 1) is None
    assert queues.next_ready() == NOW + SECOND
    assert queues.take(NOW + SECOND) is not None
    assert queues.next_ready() is None


def test_tasks_of_one_instant_are_dispatched_in_the_order_of_their_creation():
    """The earlier time goes first, then the earlier creation."""
    queues = make()
    for task_id, at in (("b", NOW + 2_000), ("a", NOW + 2_000), ("c", None)):
        add(queues, task_id, at)
    order = [took(queues.take(NOW + SECOND)).task.name[-1] for _ in range(3)]
    assert order == ["c", "b", "a"]


def test_success_removes_the_task_and_failure_keeps_it():
    """Any 2xx ends the task; any other result retries it after the backoff."""
    queues = make()
    task = add(queues)
    attempt = took(queues.take(NOW))
    assert queues.finish(attempt, FAILED, NOW + 5 * SECOND) is Outcome.RETRY
    assert queues.next_due() == NOW + 5 * SECOND + 100 * MILLISECOND
    attempt = took(queues.take(NOW + 6 * SECOND))
    assert queues.finish(attempt, DeliveryResult(202), NOW + 6 * SECOND) is Outcome.SUCCEEDED
    with pytest.raises(NotFoundError):
        queues.get_queue(QUEUE).get(task.name, NOW + 6 * SECOND)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int):
    """The whole range counts, including 202."""
    queues = make()
    add(queues)
    assert queues.finish(took(queues.take(NOW)), DeliveryResult(status), NOW) is Outcome.SUCCEEDED


@pytest.mark.parametrize("status", [0, 100, 199, 300, 302, 400, 404, 409, 429, 500, 503, 504])
def test_nothing_else_is_success(status: int):
    """A redirect, an error or a missing response leads to a retry."""
    queues = make()
    add(queues)
    assert queues.finish(took(queues.take(NOW)), DeliveryResult(status), NOW) is Outcome.RETRY


def test_the_backoff_doubles_then_grows_linearly_then_stays():
    """The example of the API reference: 10 s, three doublings, at most 300 s."""
    retry = RetryConfig(min_backoff=10 * SECOND, max_backoff=300 * SECOND, max_doublings=3)
    assert [retry.backoff(n) // SECOND for n in range(1, 10)] == [10, 20, 40, 80, 160, 240, 300, 300, 300]


def test_a_huge_number_of_doublings_stays_at_the_longest_backoff():
    """Many failures or doublings do not make the number grow without limit."""
    assert RetryConfig(max_doublings=2**31 - 1).backoff(10**9) == HOUR


@pytest.mark.parametrize(
    ("attempts", "duration", "given_up"),
    [
        (3, 0, [False, False, True, True]),
        (-1, 0, [False, False, False, False]),
        (-1, 2 * SECOND, [False, False, True, True]),
        (2, 3 * SECOND, [False, False, False, True]),
        (4, 1 * SECOND, [False, False, False, True]),
    ],
)
def test_retries_end_when_every_limit_that_is_set_is_reached(attempts: int, duration: int, given_up: list[bool]):
    """Attempt n ends at second n-1. Both limits must be reached; -1 and 0 mean no limit."""
    retry = RetryConfig(max_attempts=attempts, max_retry_duration=duration)
    assert [retry.is_exhausted(n, (n - 1) * SECOND) for n in range(1, 5)] == given_up


def test_the_attempt_limit_counts_the_first_attempt():
    """With three attempts a task is retried twice."""
    queues = make(retry=RetryConfig(max_attempts=3, min_backoff=SECOND, max_backoff=SECOND))
    add(queues, "t")
    outcomes = [queues.finish(took(queues.take(NOW + n * SECOND)), FAILED, NOW + n * SECOND) for n in range(3)]
    assert outcomes == [Outcome.RETRY, Outcome.RETRY, Outcome.GIVEN_UP]
    with pytest.raises(AlreadyExistsError):
        add(queues, "t", now=NOW + 3 * SECOND)
    assert queues.take(NOW + DAY) is None


def test_retry_duration_is_measured_from_the_first_attempt_and_not_from_the_creation():
    """A task that waited on a paused queue still has its whole retry duration."""
    queues = make(retry=RetryConfig(max_attempts=1, max_retry_duration=10 * SECOND))
    add(queues)
    late = NOW + HOUR
    assert queues.finish(took(queues.take(late)), FAILED, late) is Outcome.RETRY


def test_a_tasks_own_retry_settings_override_the_queues():
    """A task with one attempt is dropped on a queue that allows more."""
    queues = make()
    add(queues, retry_config=RetryConfig(max_attempts=1))
    assert queues.finish(took(queues.take(NOW)), FAILED, NOW) is Outcome.GIVEN_UP


def test_execution_count_leaves_out_5xx_and_unanswered_attempts():
    """RetryCount counts all retries, ExecutionCount only responses other than server errors."""
    queues = make()
    add(queues)
    seen = []
    now = NOW
    for answer in (
        DeliveryResult(503),
        DeliveryResult(404),
        DeliveryResult(500),
        DeliveryResult(0, responded=False),
        DeliveryResult(504, responded=False),
        OK,
    ):
        now += HOUR
        attempt = took(queues.take(now))
        previous = attempt.previous.status if attempt.previous else None
        seen.append((attempt.retry_count, attempt.execution_count, previous, attempt.task.response_count))
        queues.finish(attempt, answer, now)
    assert seen == [(0, 0, None, 0), (1, 0, 503, 1), (2, 1, 404, 2), (3, 1, 500, 3), (4, 1, 0, 3), (5, 1, 504, 3)]


def test_the_name_of_a_finished_task_stays_used_until_the_tombstones_end():
    """This holds after deletion and after execution, until the last nanosecond."""
    queues = make(limits=Limits(task_tombstone=10 * SECOND))
    add(queues, "done")
    queues.finish(took(queues.take(NOW)), OK, NOW)
    add(queues, "deleted")
    queues.get_queue(QUEUE).delete(f"{QUEUE}/tasks/deleted", NOW)
    for task_id in ("done", "deleted"):
        with pytest.raises(AlreadyExistsError):
            add(queues, task_id, now=NOW + 10 * SECOND - 1)
    for task_id in ("done", "deleted"):
        add(queues, task_id, now=NOW + 10 * SECOND)
    assert queues.stats().refused_duplicates == 2


def test_a_name_on_the_queue_is_refused_however_old_it_is():
    """A task that waits for days keeps its name."""
    queues = make(limits=Limits(task_tombstone=SECOND))
    add(queues, "t", at=NOW + 20 * DAY)
    with pytest.raises(AlreadyExistsError):
        add(queues, "t", now=NOW + 10 * DAY)


def test_a_result_after_the_deletion_is_ignored():
    """A later failure does not restore the task."""
    queues = make()
    task = add(queues)
    attempt = took(queues.take(NOW))
    queues.get_queue(QUEUE).delete(task.name, NOW)
    assert queues.finish(attempt, FAILED, NOW) is Outcome.GONE
    assert queues.next_due() is None
    assert queues.get_queue(QUEUE).running == 0


def test_an_attempt_outlives_its_queue():
    """A result for a queue that was deleted, or deleted and created again, does no harm."""
    queues = make(limits=Limits(queue_tombstone=0))
    add(queues, "t")
    attempt = took(queues.take(NOW))
    queues.delete_queue(QUEUE, NOW)
    queues.create_queue(QUEUE, RateLimits(), RetryConfig(), NOW)
    add(queues, "t")
    assert queues.finish(attempt, OK, NOW) is Outcome.GONE
    assert queues.get_queue(QUEUE).get(f"{QUEUE}/tasks/t", NOW).dispatch_count == 0
    assert queues.get_queue(QUEUE).running == 0


def test_a_paused_queue_dispatches_nothing_but_accepts_tasks():
    """Pausing stops dispatches, resuming allows them."""
    queues = make()
    queues.set_state(QUEUE, QueueState.PAUSED)
    add(queues)
    assert (queues.take(NOW), queues.next_ready(), queues.due(NOW)) == (None, None, [])
    queues.set_state(QUEUE, QueueState.RUNNING)
    assert queues.take(NOW) is not None


def test_a_forced_task_overrides_pause_rate_concurrency_and_time():
    """RunTask dispatches a future task of a paused queue whose limits are used up."""
    queues = make(RateLimits(1.0, 1))
    add(queues)
    took(queues.take(NOW))
    later = add(queues, at=NOW + HOUR)
    queues.set_state(QUEUE, QueueState.PAUSED)
    queues.get_queue(QUEUE).force(later.name, NOW)
    assert [task.name for task in queues.due(NOW)] == [later.name]
    assert queues.next_ready() == 0
    assert took(queues.take(NOW)).task is later
    assert queues.next_ready() is None


def test_a_forced_task_that_fails_is_scheduled_from_the_time_of_the_call():
    """RunTask resets the schedule time to the call plus the backoff, even if that is past when the result arrives."""
    queues = make(retry=RetryConfig(min_backoff=10 * SECOND))
    task = add(queues, at=NOW + HOUR)
    queues.get_queue(QUEUE).force(task.name, NOW)
    attempt = took(queues.take(NOW + SECOND))
    queues.finish(attempt, FAILED, NOW + 4 * SECOND)
    assert queues.next_due() == NOW + 10 * SECOND
    assert task.eta == NOW + HOUR


def test_a_running_task_can_be_forced_and_ends_with_the_first_success():
    """Two attempts of one task run at once. The first success ends the task, and the other result is ignored."""
    queues = make()
    task = add(queues)
    first = took(queues.take(NOW))
    queues.get_queue(QUEUE).force(task.name, NOW)
    second = took(queues.take(NOW))
    assert (second.task, second.retry_count) == (task, 1)
    assert queues.finish(first, FAILED, NOW) is Outcome.RETRY
    assert queues.next_due() is None, "it still runs"
    assert queues.finish(second, OK, NOW) is Outcome.SUCCEEDED
    assert queues.next_due() is None


def test_forcing_a_task_twice_before_it_begins_makes_one_attempt():
    """The second RunTask finds an already forced task."""
    queues = make()
    task = add(queues, at=NOW + HOUR)
    for _ in range(2):
        queues.get_queue(QUEUE).force(task.name, NOW)
    took(queues.take(NOW))
    assert queues.take(NOW) is None


def test_concurrency_is_limited_until_a_result_arrives():
    """The third task waits for one of two to end."""
    queues = make(RateLimits(max_concurrent_dispatches=2))
    for _ in range(3):
        add(queues)
    first = took(queues.take(NOW))
    took(queues.take(NOW))
    assert (queues.take(NOW), queues.next_ready()) == (None, None)
    queues.finish(first, OK, NOW)
    assert queues.take(NOW) is not None


def test_429_and_503_hold_the_whole_queue_longer_each_time():
    """After such a result nothing is dispatched for 100 ms, then 200 ms; any other result resets the hold."""
    queues = make(retry=RetryConfig(min_backoff=HOUR))
    for _ in range(5):
        add(queues)
    now = NOW
    for status, hold in ((429, 100), (503, 200), (500, 0), (503, 100)):
        queues.finish(took(queues.take(now)), DeliveryResult(status), now)
        assert queues.next_due() == now + hold * MILLISECOND
        if hold:
            assert queues.take(now + hold * MILLISECOND - 1) is None
            assert queues.due(now + hold * MILLISECOND - 1) == []
        now += hold * MILLISECOND


def test_retry_after_is_honored_for_the_task_and_with_503_for_the_queue():
    """The target's wait replaces a shorter backoff."""
    queues = make()
    add(queues, "first")
    add(queues, "second")
    queues.finish(took(queues.take(NOW)), DeliveryResult(503, 7 * SECOND), NOW)
    assert queues.next_due() == NOW + 7 * SECOND
    queues = make()
    add(queues)
    queues.finish(took(queues.take(NOW)), DeliveryResult(409, 7 * SECOND), NOW)
    assert queues.next_due() == NOW + 7 * SECOND


def test_purge_leaves_nothing_and_forgets_forced_tasks():
    """It removes waiting, forced and running tasks, and records its time."""
    queues = make()
    forced = add(queues, at=NOW + HOUR)
    add(queues)
    running = took(queues.take(NOW))
    queue = queues.get_queue(QUEUE)
    queue.force(forced.name, NOW)
    queue.purge(NOW + 1)
    assert queue.page("", 10, NOW) == []
    assert (queues.take(NOW + DAY), queue.purge_time) == (None, NOW + 1)
    assert queues.finish(running, FAILED, NOW + 2) is Outcome.GONE


def test_a_task_older_than_31_days_is_deleted_undelivered():
    """This holds on a paused queue as well."""
    queues = make()
    queues.set_state(QUEUE, QueueState.PAUSED)
    task = add(queues)
    queues.get_queue(QUEUE).get(task.name, NOW + 31 * DAY - 1)
    with pytest.raises(NotFoundError):
        queues.get_queue(QUEUE).get(task.name, NOW + 31 * DAY)


def test_queues_take_turns():
    """A queue with many tasks does not starve another queue."""
    queues = make()
    queues.create_queue(OTHER, RateLimits(), RetryConfig(), NOW)
    for _ in range(3):
        add(queues)
        add(queues, queue=OTHER)
    order = [took(queues.take(NOW)).queue.name for _ in range(4)]
    assert order in ([QUEUE, OTHER, QUEUE, OTHER], [OTHER, QUEUE, OTHER, QUEUE])


def test_deleted_future_tasks_leave_few_entries():
    """A thousand created and deleted timers leave few entries."""
    queues = make()
    queue = queues.get_queue(QUEUE)
    for _ in range(1_000):
        queue.delete(add(queues, at=NOW + 20 * DAY).name, NOW)
    assert len(queue._agenda) < 100


def test_generated_names_are_unique_numbers_and_the_same_in_every_run():
    """A replay uses the same task names as the first run."""
    names = [[add(queues).name for _ in range(1_000)] for queues in (make(), make())]
    assert names[0] == names[1]
    assert len(set(names[0])) == 1_000
    assert all(name.rpartition("/")[2].isdecimal() for name in names[0])
