"""Focused schedules: a few kinds of faults at a high rate, where work is contended.

A schedule with all kinds at once rarely has the three faults in a row that a bug needs, and its other faults excuse
much. A focused schedule switches most kinds off. Half of them draw gentle kinds only, so that the sweep may have
nothing to do (`Invariant.PROMPT`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from emulator.storm.faults import GENTLE, KINDS, Kind
from emulator.storm.history import Schedule
from emulator.storm.scripts import DRAWN, SCENARIOS

__all__ = ["focused"]

_USERS = "platform/users"
_RATES = (6.0, 12.0, 25.0)
_MOTIFS = (
    (25.0, (Kind.CONFIG_SLOW, Kind.CONFIG_CHANGE, Kind.POLICY_CHANGE)),
    (20.0, (Kind.BUILD_ANSWER_LATE, Kind.BUILD_SEARCH_LAG, Kind.ABORT_JOB)),
    (20.0, (Kind.BUILD_ANSWER_LOST, Kind.BUILD_SEARCH_LAG, Kind.ABORT_JOB)),
    (12.0, (Kind.BUILD_UNAVAILABLE, Kind.STORE_ABORTED)),
    (20.0, (Kind.BUILD_UNAVAILABLE, Kind.TASK_DOUBLED)),
    (3.0, (Kind.STORE_FALSE_CONFLICT,)),
    (20.0, (Kind.STALL, Kind.BUILD_ANSWER_LATE, Kind.STORE_SLOW)),
    (10.0, (Kind.EVENT_DOUBLED, Kind.STORE_SLOW)),
    (25.0, (Kind.STORE_SLOW, Kind.TRIGGER)),
)
"""Kinds that meet in one contended moment: a slow read and the change behind it, an abort behind a slow launch."""


def focused(seed: int, scenario: str = "") -> Schedule:
    """Return the focused schedule of a seed: its kinds, their rate, and a scenario unless one is given."""
    if seed % 3:
        rate, motif = _MOTIFS[(seed - seed // 3) % len(_MOTIFS)]
        return Schedule(seed, focus=frozenset(motif), rate=rate, scenario=scenario or "busy")
    numbers = hashlib.blake2b(f"focus {seed}".encode(), digest_size=32).digest()
    is_gentle = numbers[0] & 1
    outside = [kind for kind, spec in KINDS.items() if spec.at != _USERS and (not is_gentle or kind in GENTLE)]
    users = [kind for kind, spec in KINDS.items() if spec.at == _USERS and (not is_gentle or kind in GENTLE)]
    kinds = [*_drawn(outside, numbers[1:], 1 + numbers[20] % 4), *_drawn(users, numbers[8:], numbers[21] % 3)]
    rate = _RATES[numbers[22] % len(_RATES)]
    return Schedule(seed, focus=frozenset(kinds), rate=rate, scenario=scenario or _scenario(numbers[23], numbers[24]))


def _drawn(kinds: Sequence[Kind], numbers: bytes, count: int) -> list[Kind]:
    return [kinds[number % len(kinds)] for number in numbers[:count]]


def _scenario(first: int, second: int) -> str:
    """Half of the schedules are busy, and the others take each scenario in turn."""
    fixed = [name for name in SCENARIOS if name not in DRAWN]
    return "busy" if first & 1 else fixed[second % len(fixed)]
