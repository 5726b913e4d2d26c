"""The filters of all watchers of a repository, for one commit. The patterns of each project have their own budget.

If the patterns of a project cost more than the budget, the project gets no triggers for the commit. Other projects
neither pay nor wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from luci_scheduler.core.identifiers import JobId, project_of
from luci_scheduler.core.path_filter import path_filter
from luci_scheduler.core.pattern_budget import (
    PATH_UNITS,
    QUICK_UNITS,
    REF_UNITS,
    PatternBudget,
    PatternCostError,
)
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.core.watcher import Watcher

__all__ = ["CommitFilters", "has_path_filter"]

Diff = Sequence[tuple[str, str]] | None
"""The old and the new path of each change; None if only a part is known: such a commit passes every filter."""


class CommitFilters:
    """Decides which watchers one commit passes, project by project, and keeps the undecided projects."""

    def __init__(self) -> None:
        self.too_costly: dict[str, tuple[Watcher, ...]] = {}
        """Project whose patterns cost too much → its undecided watchers."""
        self.bad: dict[Watcher, str] = {}
        """Watcher with an invalid pattern → the reason. The config reader refuses such patterns, but an older version
        may not have."""
        self._decisions: dict[tuple[str, str], _Decisions] = {}

    @property
    def spent(self) -> int:
        """The total cost of all decisions up to now, in units."""
        return sum(decisions.budget.spent for decisions in self._decisions.values())

    def by_ref(self, watchers: Sequence[Watcher], ref: str) -> list[Watcher]:
        """Return the watchers that watch a ref."""

        def watches(watcher: Watcher, budget: PatternBudget) -> bool:
            return ref_set(watcher.refs, budget).covers(ref, budget)

        passed: list[Watcher] = []
        for project, own in _by_project(watchers).items():
            try:
                passed += self._passed(own, watches, self._of(project, f"refs {ref}", REF_UNITS))
            except PatternCostError:
                self.too_costly[project] = tuple(own)
        return passed

    def by_paths(self, watchers: Sequence[Watcher], diff: Diff) -> Iterator[list[Watcher]]:
        """Yield the watchers whose path filter the commit passes: first all quick projects, then each slow project.

        The caller handles each part before it takes the next one, so no project waits for another project's patterns.
        """
        # Quick projects come first, because the patterns of one slow project may take seconds.
        quick, slow = self.quick_by_paths(watchers, diff)
        yield quick
        for project, own in slow.items():
            try:
                yield self._passed(own, _path_rule(diff), self._of(project, "paths", PATH_UNITS))
            except PatternCostError:
                self.too_costly[project] = tuple(own)

    def quick_by_paths(
        self, watchers: Sequence[Watcher], diff: Diff
    ) -> tuple[list[Watcher], Mapping[str, list[Watcher]]]:
        """Return the watchers whose path filter the commit passes, and the undecided watchers of slow projects."""
        quick: list[Watcher] = []
        slow: dict[str, list[Watcher]] = {}
        for project, own in _by_project(watchers).items():
            try:
                quick += self._passed(own, _path_rule(diff), self._of(project, "quick", QUICK_UNITS))
            except PatternCostError:
                slow[project] = own
        return quick, slow

    def excluded_by_paths(self, watchers: Sequence[Watcher], diff: Diff) -> set[JobId]:
        """Return the watching jobs whose path filters all exclude the commit; undecided jobs are not among them."""
        passed, undecided = self.quick_by_paths(watchers, diff)
        kept = {watcher.job_id for own in (passed, *undecided.values()) for watcher in own}
        return {watcher.job_id for watcher in watchers} - kept

    def _of(self, project: str, stage: str, units: int) -> _Decisions:
        return self._decisions.setdefault((project, stage), _Decisions(PatternBudget(units)))

    # The stage is part of the key: a project that has used up its quick budget starts again with the full one.

    def _passed(self, own: Iterable[Watcher], rule: _Rule, decisions: _Decisions) -> list[Watcher]:
        return [watcher for watcher in own if self._passes(watcher, rule, decisions)]

    def _passes(self, watcher: Watcher, rule: _Rule, decisions: _Decisions) -> bool:
        # The triggers of a project often share their filters, and each target of a trigger has the same filter.
        known, patterns = decisions.known, (watcher.refs, watcher.path_regexps, watcher.path_regexps_exclude)
        if patterns not in known:
            try:
                known[patterns] = rule(watcher, decisions.budget)
            except BadRegexpError as error:
                self.bad[watcher] = str(error)
                known[patterns] = False
        return known[patterns]


_Rule = Callable[[Watcher, PatternBudget], bool]


@dataclass(slots=True)
class _Decisions:
    """The decisions for one project, and its budget."""

    budget: PatternBudget
    known: dict[tuple[tuple[str, ...], ...], bool] = field(default_factory=dict)


def _path_rule(diff: Diff) -> _Rule:
    def is_interesting(watcher: Watcher, budget: PatternBudget) -> bool:
        if diff is None or not has_path_filter(watcher):
            return True
        paths = path_filter(watcher.path_regexps, watcher.path_regexps_exclude, budget)
        return paths.interesting(diff, budget)

    return is_interesting


def has_path_filter(watcher: Watcher) -> bool:
    """Whether a watcher filters by path. Patterns of excluded paths need at least one pattern of included paths."""
    return bool(watcher.path_regexps)


def _by_project(watchers: Iterable[Watcher]) -> Mapping[str, list[Watcher]]:
    found: dict[str, list[Watcher]] = {}
    for watcher in watchers:
        found.setdefault(project_of(watcher.job_id), []).append(watcher)
    return found
