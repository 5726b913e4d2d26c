"""Sets of refs, from ``refs`` of a gitiles trigger: which refs belong, and which folders to list to find them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from luci_scheduler.core.pattern_budget import COMPILE_UNITS, ENTRY_UNITS, PatternBudget
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.regexps import Pattern, compile_regexp, literal_prefix

__all__ = ["RefSet", "ref_set"]

_CACHED = 256  # sets of one process; an instance sees few different ones


class RefSet:
    """The refs that entries name: full names of refs, and ``regexp:`` patterns of whole names.

    Immutable; threads may share it. Entries are grouped by their folder of refs. As in the original, the patterns of
    one folder are joined as ``^(r1)|(r2)$``, so with several patterns the first is not anchored at its end and the last
    not at its start. This quirk is kept, because a trigger must keep its meaning.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        """Read the entries.

        Raises:
            BadRegexpError: a pattern is not valid RE2.
        """
        self._literals: set[str] = set()
        self._alone: list[tuple[str, Pattern]] = []
        patterns: dict[str, list[str]] = {}
        for entry in entries:
            literal, pattern = _parse(entry)
            prefix = _folder(literal)
            # A literal also needs its folder, even if no pattern lies there.
            patterns.setdefault(prefix, [])
            if pattern:
                patterns[prefix].append(pattern)
                # The joined pattern cannot report which entry matched; `missing` needs each one.
                self._alone.append((entry, compile_regexp(pattern)))
            else:
                self._literals.add(literal)
        self._joined: dict[str, Pattern | None] = {
            prefix: compile_regexp(f"^{'|'.join(f'({text})' for text in texts)}$") if texts else None
            for prefix, texts in patterns.items()
        }

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The folders of refs to list, such as ``refs/heads``, sorted. Every ref in the set lies in one of them."""
        return tuple(sorted(self._joined))

    @property
    def size(self) -> int:
        """Instructions of all compiled programs."""
        joined = sum(pattern.size for pattern in self._joined.values() if pattern)
        return joined + sum(pattern.size for _, pattern in self._alone)

    def __contains__(self, ref: str) -> bool:
        return self.covers(ref)

    def covers(self, ref: str, budget: PatternBudget | None = None) -> bool:
        """Whether a ref belongs to the set.

        Raises:
            PatternCostError: the budget is used up.
        """
        return any(
            ref.startswith(f"{prefix}/")
            and (ref in self._literals or (joined is not None and joined.search(ref, budget)))
            for prefix, joined in self._joined.items()
        )

    def missing(self, existing: Collection[str], budget: PatternBudget | None = None) -> tuple[str, ...]:
        """Return the entries that no existing ref matches, sorted.

        Each pattern counts by itself, anchored at both ends.

        Raises:
            PatternCostError: the budget is used up.
        """
        literals = [literal for literal in self._literals if literal not in existing]
        patterns = [
            entry for entry, pattern in self._alone if not any(pattern.fullmatch(ref, budget) for ref in existing)
        ]
        return tuple(sorted(literals + patterns))


def ref_set(entries: tuple[str, ...], budget: PatternBudget | None = None) -> RefSet:
    """Return the set of some entries. Equal entries are compiled once, and charged each time.

    Raises:
        BadRegexpError: a pattern is not valid RE2.
        PatternCostError: the budget does not allow to compile them.
    """
    # Charge for the entries before they are compiled, and for the size of the programs once it is known.
    if budget is not None:
        budget.charge(ENTRY_UNITS * sum(entry.startswith(REGEXP) for entry in entries))
    made = _made(entries)
    if budget is not None:
        budget.charge(COMPILE_UNITS * made.size)
    return made


@lru_cache(_CACHED)
def _made(entries: tuple[str, ...]) -> RefSet:
    return RefSet(entries)


def _parse(entry: str) -> tuple[str, str]:
    """Return the literal text that an entry begins with, and its pattern (empty if it is all literal)."""
    if not entry.startswith(REGEXP):
        return entry, ""
    pattern = entry.removeprefix(REGEXP)
    compile_regexp(pattern)
    literal, is_all = literal_prefix(pattern)
    return literal, "" if is_all else pattern


def _folder(literal: str) -> str:
    return literal.rpartition("/")[0]
