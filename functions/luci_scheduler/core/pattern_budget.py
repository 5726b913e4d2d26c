"""Limits on the cost of one project's patterns for one commit: counted, not timed, so that a replay decides the same.

RE2 takes time linear in the text, but also linear in the compiled program in the worst case. A unit of cost is one instruction
for one byte. The slowest pattern of a search for slow ones (``(a?){900}``, ``((a{0,30}){0,30})b``) took 15 ns for a unit;
ordinary patterns take less than a tenth of a nanosecond, because RE2 caches the states that it has seen.
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
"""For the refs of one project and one commit: 0.3 s at worst. The most expensive of 25 real configs (73 watchers) takes 30,000."""
MESSAGE_UNITS = 200_000_000
"""For the refs of all projects and all events of one message: 5 s or so at worst. Each of its other events is decided by
itself, in a task. A message of 3,000 refs takes 90,000,000 for the most expensive of 25 real configs."""
QUICK_UNITS = 20_000_000
"""For the paths of one project and one commit, before other projects go first: 0.3 s at worst. The most expensive of
25 real configs takes 4,400,000 for a commit of 1,000 files."""
PATH_UNITS = 1_000_000_000
"""For the paths of one project and one commit: 15 s at worst. It is enough for 50 triggers with a filter each, such as
``src/tint/.+``, and a commit of 10,000 files; such ordinary patterns take 0.7 s for it."""
POLL_REF_UNITS = 4_000_000_000
"""For all refs that one poll lists: 60 s at worst, which is the poll's limit for the listing. It is enough for 100 patterns and 30,000
refs. Only the poll waits for it."""

COMPILE_UNITS = 25
"""For each instruction of a compiled program; compiling one takes up to 400 ns. Cached programs are charged as well: the
content of the cache depends on other projects."""
ENTRY_UNITS = 4_000
"""For each ``regexp:`` entry of a list of refs: each entry is also read by itself."""
EVALUATION_UNITS = 500
"""For each call of the engine, which takes some microseconds even if the pattern and the text are short."""


class PatternCostError(Exception):
    """The patterns of a project cost more than the budget allows."""


class PatternBudget:
    """The units that are left for some evaluations."""

    def __init__(self, units: int) -> None:
        self._units = units
        self.spent = 0

    def charge(self, units: int) -> None:
        """Pay for an evaluation; if its cost is known beforehand, pay first.

        Raises:
            PatternCostError: the budget does not allow it.
        """
        self.spent += units
        if self.spent > self._units:
            raise PatternCostError(f"the patterns cost more than {self._units} units")
