"""The threads that dispatch due tasks, and the runner of one attempt."""

import threading
from collections.abc import Iterator

import pytest

from emulator.clock import SteppedClock
from emulator.cloud_tasks.dispatcher import DeliveryRunner, Dispatcher
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.model import DeliveryResult, HttpRequest, QueueState, RateLimits, RetryConfig
from emulator.cloud_tasks.queue import Attempt
from emulator.cloud_tasks.queues import NewTask, Queues
from luci_scheduler.core.instants import SECOND
from tests.waiting import until

QUEUE = "projects/p/locations/l/queues/q"
START = 1_000 * SECOND
WAIT_SECONDS = 60


class Target:
    """Receives deliveries, and holds them until the test lets them end."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.running = 0
        self.changed = threading.Condition()
        self.released = threading.Event()
        self.released.set()
        self.result: DeliveryResult | Exception = DeliveryResult(200)

    def deliver(self, attempt: Attempt, _now: int) -> DeliveryResult:
        """Deliver an attempt."""
        with self.changed:
            self.names.append(attempt.task.name.rpartition("/")[2])
            self.running += 1
            self.changed.notify_all()
        self.released.wait(WAIT_SECONDS)
        with self.changed:
            self.running -= 1
            self.changed.notify_all()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def wait_for(self, count: int) -> None:
        """Wait until this many deliveries have begun."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.names) >= count, WAIT_SECONDS)


class World:
    """A queue, a target, and the parts that connect them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clock = SteppedClock(START)
        self.queues = Queues(Limits())
        self.queues.create_queue(QUEUE, RateLimits(), RetryConfig(max_attempts=2, min_backoff=SECOND), START)
        self.target = Target()
        self.runner = DeliveryRunner(self.lock, self.clock, self.target.deliver)

    def create(self, task_id: str, at: int | None = None) -> None:
        """Create a task."""
        with self.lock:
            request = HttpRequest("https://x.example/")
            self.queues.create_task(QUEUE, NewTask(request, f"{QUEUE}/tasks/{task_id}", at), self.clock.now())

    def outcomes(self) -> dict[str, int]:
        """Return the counts of outcomes."""
        with self.lock:
            return self.queues.stats().outcomes

    def until_outcome(self, name: str, count: int = 1) -> None:
        """Wait for an outcome."""
        until(lambda: self.outcomes().get(name) == count, f"{name}: {count}")


@pytest.fixture
def world() -> World:
    """A world without a dispatcher."""
    return World()


@pytest.fixture
def dispatcher(world: World) -> Iterator[Dispatcher]:
    """A running dispatcher with two workers."""
    dispatcher = Dispatcher(lambda: world.queues, world.lock, world.clock, world.runner, 2)
    dispatcher.start()
    yield dispatcher
    world.target.released.set()
    dispatcher.stop_taking()
    dispatcher.join()


class TestRunner:
    """One attempt."""

    def run(self, world: World, *, lose_answer: bool = False) -> DeliveryResult:
        """Run the attempt of a new task."""
        world.create("t")
        attempt = world.queues.take(START)
        assert attempt is not None
        return world.runner.run(world.queues, attempt, lose_answer=lose_answer)

    def test_the_result_is_recorded_and_returned(self, world: World) -> None:
        assert self.run(world) == DeliveryResult(200)
        assert world.outcomes() == {"succeeded": 1}

    def test_a_lost_response_leads_to_another_delivery(self, world: World) -> None:
        assert self.run(world, lose_answer=True).is_success
        assert world.outcomes() == {"retry": 1}
        task = world.queues.waiting()[0]
        assert (task.response_count, task.last_attempt.result.status) == (0, 0)  # type: ignore[union-attr]

    def test_a_defect_of_the_delivery_is_a_failed_attempt(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.target.result = ZeroDivisionError("defect")
        result = self.run(world)
        assert (result.status, result.responded) == (0, False)
        assert world.outcomes() == {"retry": 1}
        assert "failed inside the server" in caplog.text

    def test_giving_up_is_logged(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.target.result = DeliveryResult(500, message="HTTP status code 500")
        self.run(world)
        attempt = world.queues.take(START + SECOND)
        assert attempt is not None
        world.runner.run(world.queues, attempt)
        assert world.outcomes() == {"retry": 1, "given up": 1}
        assert f"task {QUEUE}/tasks/t was dropped: HTTP status code 500" in caplog.text

    def test_the_lock_is_free_during_the_delivery(self, world: World) -> None:
        """Other calls to the server do not wait for a target."""
        is_free: list[bool] = []

        def deliver(_attempt: Attempt, _now: int) -> DeliveryResult:
            def look() -> None:
                is_free.append(world.lock.acquire(timeout=1))
                world.lock.release()

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return DeliveryResult(200)

        world.create("t")
        attempt = world.queues.take(START)
        assert attempt is not None
        DeliveryRunner(world.lock, world.clock, deliver).run(world.queues, attempt)
        assert is_free == [True]


class TestDispatcher:
    """Due tasks are delivered by the clock."""

    def test_a_due_task_is_delivered_after_a_wake(self, world: World, dispatcher: Dispatcher) -> None:
        world.create("t")
        dispatcher.wake()
        world.until_outcome("succeeded")
        assert world.target.names == ["t"]

    def test_a_later_task_is_delivered_when_the_clock_reaches_its_time(
        self, world: World, dispatcher: Dispatcher
    ) -> None:
        world.create("later", START + 60 * SECOND)
        world.create("now")
        dispatcher.wake()
        world.until_outcome("succeeded")
        assert world.target.names == ["now"]
        world.clock.advance(60 * SECOND)
        world.until_outcome("succeeded", 2)
        assert world.target.names == ["now", "later"]

    def test_a_failed_task_is_delivered_again_after_its_backoff(self, world: World, dispatcher: Dispatcher) -> None:
        world.target.result = DeliveryResult(500)
        world.create("t")
        dispatcher.wake()
        world.until_outcome("retry")
        world.clock.advance(SECOND)
        world.until_outcome("given up")
        assert world.target.names == ["t", "t"]

    def test_no_more_deliveries_run_than_there_are_workers(self, world: World, dispatcher: Dispatcher) -> None:
        world.target.released.clear()
        for number in range(5):
            world.create(str(number))
        dispatcher.wake()
        world.target.wait_for(2)
        assert world.target.running == 2
        with world.lock:
            assert sum(world.queues.stats().attempts_by_task.values()) == 2
        world.target.released.set()
        world.until_outcome("succeeded", 5)
        assert sorted(world.target.names) == ["0", "1", "2", "3", "4"]

    def test_a_resumed_queue_is_delivered(self, world: World, dispatcher: Dispatcher) -> None:
        world.queues.set_state(QUEUE, QueueState.PAUSED)
        world.create("t")
        dispatcher.wake()
        assert world.outcomes() == {}
        with world.lock:
            world.queues.set_state(QUEUE, QueueState.RUNNING)
        dispatcher.wake()
        world.until_outcome("succeeded")

    def test_a_stopped_dispatcher_lets_deliveries_end_and_begins_none(
        self, world: World, dispatcher: Dispatcher
    ) -> None:
        world.target.released.clear()
        world.create("running")
        dispatcher.wake()
        world.target.wait_for(1)
        dispatcher.stop_taking()
        assert not dispatcher._thread.is_alive()
        world.create("late")
        dispatcher.wake()
        world.target.released.set()
        dispatcher.join()
        assert (world.outcomes(), world.target.names) == ({"succeeded": 1}, ["running"])
