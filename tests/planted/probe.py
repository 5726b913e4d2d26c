"""Plays focused schedules of the storm until one violates an invariant: ``python -m tests.planted.probe N``.

Prints the invariant and the seed. Exit code 1: an invariant was violated.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from emulator.storm.focus import focused
from emulator.storm.storming import Outcome, play_and_judge

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Play this number of schedules; return the exit code."""
    for seed in range(int(arguments[0])):
        outcome = play_and_judge(focused(seed))
        if not outcome.holds:
            sys.stdout.write(f"{_name(outcome)} seed {seed}\n")
            return 1
    return 0


def _name(outcome: Outcome) -> str:
    """Return the invariant that was violated first; the type of the error if the run itself failed."""
    names = [str(violation.invariant) for violation in outcome.violations]
    return names[0] if names else outcome.error.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
