"""Limits on the cost of one project's patterns for one commit.

Cost is counted, not timed, so a replay decides the same.

RE2 takes time linear in the text, and in the worst case also linear in the compiled program. A unit of cost is one
instruction for one byte. The slowest patterns found (``(a?){900}``, ``((a{0,30}){0,30})b``) took 15 ns for a unit.
Ordinary patterns take less than a tenth of a nanosecond, because RE2 caches the states of its automaton.
"""

from __future__ import annotations

__all__ = [
    "COMPILE_UNITS",
    "ENTRY_UNITS",
    "EVALUATION_UNITS",
    "MESSAGE_UNITS",
    "PATH_UNITS",
    "POLL_REF_UNITS",
    "QUICK_UNITS",
    "REF_UNITS",
    "PatternBudget",
    "PatternCostError",
]

REF_UNITS = 20_000_000
"""For the refs of one project and one commit: at most 0.3 s. The most expensive of 25 real configs (73 watchers) takes
30,000."""
MESSAGE_UNITS = 200_000_000
"""For the refs of all projects and all events of one message: at most about 5 s. The remaining events are decided one
by one, each in a task. For the most expensive of 25 real configs, a message of 3,000 refs takes 90,000,000."""
QUICK_UNITS = 20_000_000
"""For the paths of one project and one commit, before other projects go first: at most 0.3 s. The most expensive of 25
real configs takes 4,400,000 for a commit of 1,000 files."""
PATH_UNITS = 1_000_000_000
"""For the paths of one project and one commit: at most 15 s. It suffices for 50 triggers, each with a filter such as
``src/tint/.+``, and a commit of 10,000 files. Such ordinary patterns take 0.7 s for it."""
POLL_REF_UNITS = 4_000_000_000
"""For all refs that one poll lists: at most 60 s, the poll's limit for the listing. It suffices for 100 patterns and
30,000 refs. Only the poll waits for it."""

COMPILE_UNITS = 25
"""For each instruction of a compiled program. Compiling one takes up to 400 ns. Cached programs are charged as well,
because the content of the cache depends on other projects."""
ENTRY_UNITS = 4_000
"""For each ``regexp:`` entry of a list of refs, which is also read by itself."""
EVALUATION_UNITS = 500
"""For each call of the engine, which takes some microseconds even for a short pattern and text."""


class PatternCostError(Exception):
    """The patterns of a project cost more than the budget allows."""


class PatternBudget:
    """The remaining units for some evaluations."""

    def __init__(self, units: int) -> None:
        self._units = units
        self.spent = 0

    def charge(self, units: int) -> None:
        """Pay for an evaluation; if its cost is known beforehand, pay first.

        Raises:
            PatternCostError: the budget is used up.
        """
        # An evaluation that exceeds the budget also counts, so every later one fails as well.
        self.spent += units
        if self.spent > self._units:
            raise PatternCostError(f"the patterns cost more than {self._units} units")
