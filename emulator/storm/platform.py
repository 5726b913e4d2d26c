"""The platform of a world: it routes deliveries to instances, and repeats failed deliveries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emulator.settings import QUEUE_RETRIES
from emulator.storm.choices import Choices, Trace
from emulator.storm.faults import Kind
from emulator.storm.history import Delivery, History
from emulator.storm.instances import Event, HttpCall, Instance
from emulator.storm.kernel import Kernel
from emulator.storm.outside import Crash, Outside, Running
from emulator.storm.queue import HeldTask, TaskQueue
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant

__all__ = ["LIMITS", "Platform", "PubSubMessage"]

LIMITS = {"on_gitiles_commit": 300, "on_build_completion": 120, "on_task": 600, "console": 60, "on_cloud_build": 120}
"""Function → seconds until the platform breaks the connection (infra/terraform)."""
_ATTEMPTS = 20  # of a push, until the message is a dead letter
_LONGEST_PAUSE = 600
_GATEWAY_TIMEOUT = 504
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class PubSubMessage:
    """A message for one of the event functions."""

    id: str
    function: str
    data: bytes
    attributes: Mapping[str, str]
    published: Instant


class Platform:
    """Calls functions. A function that does not answer in time goes on, and its delivery is repeated meanwhile."""

    def __init__(self, kernel: Kernel, choices: Choices, history: History, trace: Trace, outside: Outside) -> None:
        self._kernel = kernel
        self._choices = choices
        self._history = history
        self._trace = trace
        self._outside = outside
        self.instances: dict[str, list[Instance]] = {}
        """Function → its instances."""
        self.pending = 0
        """Messages that are neither acknowledged nor dead letters."""
        self.queue = TaskQueue(kernel, choices, self._deliver_task)

    def publish(self, message: PubSubMessage, point: str, kinds: tuple[Kind, Kind, Kind]) -> None:
        """Deliver a message at least once. ``kinds`` are the faults: lost, late, doubled."""
        fault, now = self._choices.fault(point), self._kernel.now()
        lost, late, doubled = kinds
        if fault is not None and fault.kind is lost:
            return
        delay = fault.amount * MILLISECOND if fault is not None and fault.kind is late else 0
        self._send(message, now + delay, 0)
        if fault is not None and fault.kind is doubled:
            self._send(message, now + fault.amount * MILLISECOND, 0)

    def schedule(self, kind: str, number: int) -> None:
        """Call a task as Cloud Scheduler does: once, without repetitions."""
        call = HttpCall(f"/{kind}", b"{}", {"X-CloudScheduler-JobName": f"{kind}-{number}"})
        self.deliver("on_task", f"on_task {kind}", f"{kind}-{number}", 0, lambda instance: instance.task(call), _ignore)

    def deliver(
        self,
        function: str,
        handler: str,
        key: str,
        attempt: int,
        call: Callable[[Instance], tuple[int, str]],
        done: Callable[[Delivery], None],
    ) -> None:
        """Call a function in a separate process. ``done`` is called once, when the sender knows the outcome."""
        instances = self.instances[function]
        instance = instances[self._choices.draw(f"route/{function}").below(len(instances))]
        number = len(self._history.deliveries) + 1
        delivery = Delivery(number, handler, instance.name, key, attempt, self._kernel.now())
        self._history.deliveries.append(delivery)
        life = instance.life
        is_told = False

        def tell(code: int | None = None) -> None:
            nonlocal is_told
            instance.open.pop(number, None)
            if not is_told:
                is_told = True
                delivery.code = code
                self._trace.add("delivery", number, handler, instance.name, code, self._kernel.now())
                done(delivery)

        def process() -> None:
            self._outside.enter(Running(delivery, lambda: instance.life == life))
            try:
                code, delivery.body = call(instance)
            except Crash:
                tell()
            else:
                tell(code)
            delivery.ended = self._kernel.now()

        def give_up() -> None:
            if delivery.ended is None:
                tell(_GATEWAY_TIMEOUT)

        instance.open[number] = tell
        self._kernel.spawn(self._kernel.now(), process)
        self._kernel.at(self._kernel.now() + LIMITS[function] * SECOND, give_up)

    def _send(self, message: PubSubMessage, at: int, attempt: int) -> None:
        self.pending += 1
        event = Event.of(message.id, message.data, message.attributes, message.published)

        def done(delivery: Delivery) -> None:
            self.pending -= 1
            if delivery.code in _SUCCESS:
                return
            if attempt + 1 >= _ATTEMPTS:
                self._history.counts["dead letters"] += 1
                return
            pause = min(1 << attempt, _LONGEST_PAUSE) * SECOND
            self._send(message, self._kernel.now() + pause, attempt + 1)

        def begin() -> None:
            self.deliver(
                message.function, message.function, message.id, attempt, lambda instance: instance.event(event), done
            )

        self._kernel.at(at, begin)

    def _deliver_task(self, task: HeldTask) -> None:
        headers = {
            **task.headers,
            "X-CloudTasks-TaskName": task.name,
            "X-CloudTasks-TaskRetryCount": str(task.attempt),
        }
        call = HttpCall(f"/{task.kind}", task.body, headers)

        def done(delivery: Delivery) -> None:
            if delivery.code in _SUCCESS:
                self.queue.done(task)
            else:
                self.queue.again(task, QUEUE_RETRIES.backoff(task.attempt + 1))

        self.deliver(
            "on_task", f"on_task {task.kind}", task.name, task.attempt, lambda instance: instance.task(call), done
        )


def _ignore(_: Delivery) -> None:
    pass
