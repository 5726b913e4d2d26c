"""Calls of handlers to the outside: each one can be interrupted before and after it lands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from emulator.storm.choices import Choices, Draw, Trace
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Call, Delivery, History
from emulator.storm.kernel import Kernel
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant

__all__ = ["Calling", "Crash", "Outages", "Outside", "Running"]

_LATENCY = 60
"""The longest usual latency of one way of a call, in milliseconds. Half of the ways take no time at all."""


class Crash(BaseException):
    """The process dies. No code catches this."""


@dataclass(slots=True)
class Running:
    """A delivery while a process works on it."""

    delivery: Delivery
    is_alive: Callable[[], bool]
    """Whether the instance has not died since the delivery began."""


_running: ContextVar[Running] = ContextVar("running")


@dataclass(slots=True)
class Outages:
    """The parts that are down, each until an instant."""

    until: dict[str, Instant] = field(default_factory=dict)

    def is_down(self, part: str, now: int) -> bool:
        """Whether a part is down."""
        return self.until.get(part, 0) > now


@dataclass(slots=True)
class Calling:
    """A call in progress."""

    point: str
    before: Draw
    fault: Fault | None
    """The fault that prevents the call from landing as usual."""
    after: Draw | None = None
    landed: bool = False
    told: str = "ok"

    def has(self, kind: Kind) -> bool:
        """Whether the call has this fault before it lands."""
        return self.fault is not None and self.fault.kind is kind


class Outside:
    """Makes the calls of all instances."""

    def __init__(self, kernel: Kernel, choices: Choices, history: History, trace: Trace) -> None:
        self.kernel = kernel
        self.choices = choices
        self.outages = Outages()
        self._history = history
        self._trace = trace

    def enter(self, running: Running) -> None:
        """Make the calling process work on a delivery."""
        _running.set(running)

    @property
    def running(self) -> Running:
        """The delivery that the calling process works on."""
        return _running.get()

    @contextmanager
    def call(self, name: str) -> Iterator[Calling]:
        """Make a call: ``<service>.<method>``. Inside, the service acts on the fault and calls `landed`."""
        running = _running.get()
        point = f"{running.delivery.handler}/{name}"
        draw = self.choices.draw(f"{point}/before")
        calling = Calling(point, draw, self.choices.fault_of(draw))
        at = self.kernel.now()
        try:
            self.require_alive()
            self._travel(draw)
            if calling.has(Kind.CRASH_BEFORE):
                raise Crash  # noqa: TRY301 - it is noted below
            yield calling
        except BaseException as error:
            calling.told = "crash" if isinstance(error, Crash) else type(error).__name__
            raise
        finally:
            self._note(calling, at, running)

    def landed(self, calling: Calling) -> Fault | None:
        """Note that a call has landed, and let its answer travel; return the fault of the answer.

        Raises:
            Crash: the process dies before the answer arrives.
        """
        calling.landed = True
        calling.after = draw = self.choices.draw(f"{calling.point}/after")
        fault = self.choices.fault_of(draw)
        if fault is not None and fault.kind is Kind.CRASH_AFTER:
            raise Crash
        if fault is not None and fault.kind is Kind.STALL:
            self.sleep(fault.amount * SECOND)
            return None
        self._travel(draw)
        return fault

    def sleep(self, nanoseconds: int) -> None:
        """Wait, as part of a call.

        Raises:
            Crash: the instance has died meanwhile.
        """
        self.kernel.sleep(nanoseconds)
        self.require_alive()

    def require_alive(self) -> None:
        """End the process if its instance has died."""
        if not _running.get().is_alive():
            raise Crash

    def _travel(self, draw: Draw) -> None:
        if draw.second & 1:
            self.sleep((draw.second >> 8) % _LATENCY * MILLISECOND)

    def _note(self, calling: Calling, at: Instant, running: Running) -> None:
        after = calling.after.nth if calling.after else None
        number = running.delivery.number
        now = self.kernel.now()
        call = Call(calling.point, calling.before.nth, after, at, number, calling.landed, calling.told, now)
        self._history.calls.append(call)
        self._trace.add("call", call.point, call.before, call.told, now)
