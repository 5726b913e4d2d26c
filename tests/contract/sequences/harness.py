"""Random sequences of operations on both implementations of a port, with a comparison after each operation.

A sequence is plain data, drawn from a seed. An operation names the versions and pages of earlier answers by their
place ("the latest version of this document that was seen"), so that a sequence stays valid when operations are removed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from structlog.testing import capture_logs

from luci_scheduler.core.errors import TransientError
from luci_scheduler.ports import ServiceError

__all__ = ["Difference", "Operation", "Port", "Side", "difference", "drawn", "report", "shrunk"]


_EVENTS = frozenset({"document_unreadable", "document_newer", "trigger_set_aside", "commit_unreadable"})
"""The events of implementations. Other threads may log at the same time."""


class Operation(NamedTuple):
    """One call, as data: the name of a method ``do_<name>`` of a `Side`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


class Side(ABC):
    """One implementation of a port during one sequence. Its answers are plain values that can be compared."""

    def apply(self, operation: Operation) -> object:
        """Run an operation; return its result or its error, and the events that it logged."""
        method = getattr(self, f"do_{operation.name}")
        with capture_logs() as logs:
            try:
                answer = ("returned", method(*operation.arguments))
            except Exception as error:  # noqa: BLE001 - errors are answers, and are compared
                answer = ("raised", _described(error))
        return (*answer, sorted(line["event"] for line in logs if line["event"] in _EVENTS))

    @abstractmethod
    def state(self) -> object:
        """Return everything that the implementation holds."""


def _described(error: Exception) -> tuple[object, ...]:
    """Return the parts of an error that callers decide by: its class, and whether a repetition may succeed."""
    name = type(error).__name__
    if isinstance(error, ServiceError):
        return name, error.code, error.transient, error.throttled, error.retry_after
    if isinstance(error, TransientError):
        return name, error.throttled, error.retry_after
    return (name,)


@dataclass(frozen=True, slots=True)
class Port:
    """A port with two implementations.

    Attributes:
        name: the name in reports.
        draw: returns the next operation of a sequence.
        sides: returns the implementation in memory and the other one, both empty.
        longest: the largest number of operations of a sequence.
    """

    name: str
    draw: Callable[[random.Random], Operation]
    sides: Callable[[], AbstractContextManager[tuple[Side, Side]]]
    longest: int = 14


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference of a sequence.

    Attributes:
        place: the number of the operation, from zero; the number of operations if only the final states differ.
        memory: the answer or the state in memory.
        other: the answer or the state of the other implementation.
    """

    place: int
    memory: object
    other: object


def drawn(port: Port, seed: int) -> list[Operation]:
    """Return the sequence of a seed."""
    entropy = random.Random(f"{port.name} {seed}")  # noqa: S311 - to be drawn again
    return [port.draw(entropy) for _ in range(entropy.randint(3, port.longest))]


def difference(port: Port, operations: Sequence[Operation]) -> Difference | None:
    """Run a sequence on both implementations; return the first difference, or None."""
    with port.sides() as (memory, other):
        for place, operation in enumerate(operations):
            answers = memory.apply(operation), other.apply(operation)
            if answers[0] != answers[1]:
                return Difference(place, *answers)
        states = memory.state(), other.state()
    return None if states[0] == states[1] else Difference(len(operations), *states)


def shrunk(operations: Sequence[Operation], fails: Callable[[Sequence[Operation]], bool]) -> list[Operation]:
    """Return a part of a failing sequence that still fails, and of which no single operation can be left out."""
    left, size = list(operations), max(1, len(operations) // 2)
    while size:
        for start in reversed(range(0, len(left), size)):
            fewer = left[:start] + left[start + size :]
            if fails(fewer):
                left = fewer
        size //= 2
    return left


def report(port: Port, seed: int) -> str:
    """Describe the difference that a seed finds, with a shrunk sequence; empty without a difference."""
    operations = drawn(port, seed)
    found = difference(port, operations)
    if found is None:
        return ""
    kept = shrunk(operations[: found.place + 1], lambda fewer: difference(port, fewer) is not None)
    found = difference(port, kept) or found
    return "\n".join(_lines(port, seed, kept, found))


def _lines(port: Port, seed: int, operations: Sequence[Operation], found: Difference) -> Iterator[str]:
    yield f"{port.name}, seed {seed}: memory differs from the emulator after {len(operations)} operations:"
    yield from (f"  {operation}" for operation in operations)
    yield f"at {'the end' if found.place == len(operations) else operations[found.place]}:"
    memory, other = found.memory, found.other
    if isinstance(memory, dict) and isinstance(other, dict):
        names = {name for name in {*memory, *other} if memory.get(name) != other.get(name)}
        memory, other = ({name: side.get(name) for name in names} for side in (memory, other))
    yield f"  memory: {memory!r:.4000}"
    yield f"  other:  {other!r:.4000}"
