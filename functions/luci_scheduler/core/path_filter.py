"""Path filters of gitiles triggers: whether a commit changed a path of interest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from luci_scheduler.core.pattern_budget import COMPILE_UNITS, PatternBudget
from luci_scheduler.core.regexps import compile_regexp

__all__ = ["PathFilter", "compose", "path_filter"]

_CACHED = 256  # filters of one process; an instance sees few different ones


class PathFilter:
    """The filter of ``path_regexps`` and ``path_regexps_exclude`` of a gitiles trigger. Immutable."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        """Read the patterns; each must match a whole path.

        Raises:
            BadRegexpError: a pattern is not valid RE2.
        """
        self._include = compile_regexp(compose(include)) if include else None
        self._exclude = compile_regexp(compose(exclude)) if exclude else None

    @property
    def is_active(self) -> bool:
        """Whether the filter can reject a commit. Excluded paths need at least one pattern of included paths."""
        return self._include is not None

    @property
    def size(self) -> int:
        """Instructions of the compiled programs."""
        return sum(pattern.size for pattern in (self._include, self._exclude) if pattern)

    def interesting(self, diff: Iterable[tuple[str, str]], budget: PatternBudget | None = None) -> bool:
        """Whether a commit passes. One path that is included and not excluded suffices.

        Args:
            diff: the old and the new path of each change; an empty text for a missing path.
            budget: limits the cost of the evaluation; None for no limit.

        Raises:
            PatternCostError: the budget is used up.
        """
        # A rename counts under both of its names.
        return self._include is None or any(self._passes(path, budget) for change in diff for path in change if path)

    def _passes(self, path: str, budget: PatternBudget | None) -> bool:
        if self._exclude is not None and self._exclude.search(path, budget):
            return False
        return self._include is not None and self._include.search(path, budget)


def path_filter(include: tuple[str, ...], exclude: tuple[str, ...], budget: PatternBudget | None = None) -> PathFilter:
    """Return the filter of some patterns. Equal patterns are compiled once, and charged each time.

    Raises:
        BadRegexpError: a pattern is not valid RE2.
        PatternCostError: the budget does not allow to compile them.
    """
    made = _made(include, exclude)
    # The cache is shared by projects: an uncharged hit would let one project's load decide another project's result.
    if budget is not None:
        budget.charge(COMPILE_UNITS * made.size)
    return made


@lru_cache(_CACHED)
def _made(include: tuple[str, ...], exclude: tuple[str, ...]) -> PathFilter:
    return PathFilter(include, exclude)


def compose(patterns: Sequence[str]) -> str:
    """Return one pattern for several, each of which must match the whole text."""
    return f"^({'|'.join(f'({pattern})' for pattern in patterns)})$"
