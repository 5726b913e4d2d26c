"""Every decision of a run, as a pure function of the seed, the point where it is made, and how often it came there.

No decision comes from a sequential stream. The removal of one fault therefore changes no other decision, as long as the
run reaches the same points as often. This is why a failing run can be shrunk fault by fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emulator.storm.faults import KINDS, Fault, Kind, Spec, kinds_at

__all__ = ["Choices", "Draw", "Trace"]

_SCALE = 1 << 32
_FOCUSED = 0.5
"""The highest rate of a kind in a focused run: often enough to meet itself, seldom enough that calls succeed."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Two independent 32-bit numbers for one occurrence of a point."""

    point: str
    nth: int
    """How often the point had occurred before."""
    first: int
    second: int

    def below(self, bound: int) -> int:
        """Return a number in [0, bound)."""
        return self.first * bound >> 32

    def between(self, low: int, high: int) -> int:
        """Return a number in [low, high]."""
        return low + (self.second * (high - low + 1) >> 32)

    @property
    def share(self) -> float:
        """A number in [0, 1)."""
        return self.first / _SCALE


class Trace:
    """A running SHA-256 over everything that happens in a run, equal in each process and for each hash seed."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._effect = hashlib.sha256()

    def add(self, *parts: object) -> None:
        """Add an event. Each part must print the same in every process: texts and numbers, no sets."""
        line = "\t".join(map(str, parts)).encode(errors="replace") + b"\n"
        self._hash.update(line)
        self._effect.update(line)

    def add_fault(self, fault: Fault) -> None:
        """Add a fault."""
        self._hash.update(f"fault\t{fault}\n".encode())

    def hexdigest(self) -> str:
        """Return the hash so far."""
        return self._hash.hexdigest()

    def effect(self) -> str:
        """Return the hash of everything but the faults. Faults that have the same effect give the same one."""
        return self._effect.hexdigest()


class Choices:
    """The decisions of one run, drawn from a seed or, for faults, replayed from a list.

    Args:
        seed: of the run.
        faults: exactly these faults happen; None: faults are drawn.
        without: kinds that are never drawn. A kind that is switched off leaves the others as they are.
        rate: multiplies the rate of each kind.
        focus: only these kinds are drawn, each at no more than half of its occasions; empty: all kinds are.
        trace: gets each fault.
    """

    def __init__(
        self,
        seed: int,
        faults: Sequence[Fault] | None = None,
        *,
        without: Iterable[Kind] = (),
        rate: float = 1.0,
        focus: Iterable[Kind] = (),
        trace: Trace,
    ) -> None:
        self._key = seed.to_bytes(16, "big", signed=True)
        self._counts: Counter[str] = Counter()
        self._rate = rate
        self._without = frozenset(without)
        self._focus = frozenset(focus)
        self._given: Mapping[tuple[str, int], Fault] | None = None
        if faults is not None:
            self._given = {(fault.point, fault.nth): fault for fault in faults}
        self._trace = trace
        self.is_calm = False
        """Whether no fault is drawn any more."""
        self.happened: list[Fault] = []
        """The faults so far."""
        self._tables: dict[str, list[tuple[float, Kind, Spec]]] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each point has occurred."""
        return self._counts

    @property
    def points(self) -> list[str]:
        """The points that the run has reached."""
        return list(self._counts)

    def draw(self, point: str) -> Draw:
        """Return the numbers for the next occurrence of a point."""
        nth = self._counts[point]
        self._counts[point] = nth + 1
        digest = hashlib.blake2b(f"{point}#{nth}".encode(), digest_size=8, key=self._key).digest()
        return Draw(point, nth, int.from_bytes(digest[:4]), int.from_bytes(digest[4:]))

    def fault(self, point: str) -> Fault | None:
        """Return the fault of the next occurrence of a point, and record it; None: nothing goes wrong."""
        return self.fault_of(self.draw(point))

    def fault_of(self, draw: Draw) -> Fault | None:
        """Return the fault of an occurrence that is drawn already, and record it."""
        if self._given is not None:
            fault = self._given.get((draw.point, draw.nth))
        else:
            fault = None if self.is_calm else self._drawn(draw)
        if fault is not None:
            self.happened.append(fault)
            self._trace.add_fault(fault)
        return fault

    def _drawn(self, draw: Draw) -> Fault | None:
        share = draw.share
        for end, kind, spec in self._table(draw.point):
            if share < end:
                if kind in self._without:
                    return None
                return Fault(kind, draw.point, draw.nth, draw.between(spec.low, spec.high))
        return None

    def _table(self, point: str) -> list[tuple[float, Kind, Spec]]:
        """Return the kinds at a point, each with the end of its part of [0, 1)."""
        table = self._tables.get(point)
        if table is None:
            table, end = [], 0.0
            for kind in kinds_at(point):
                if kind in self._focus:
                    end += min(KINDS[kind].rate * self._rate, _FOCUSED)
                elif not self._focus:
                    end += KINDS[kind].rate * self._rate
                table.append((end, kind, KINDS[kind]))
            self._tables[point] = table
        return table
