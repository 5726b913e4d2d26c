"""The branches that configs watch: by name, by a pattern that a branch matches, or by an open pattern."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from luci_scheduler.config.reader import ProjectConfig
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.ref_validation import REGEXP
from luci_scheduler.core.regexps import literal_prefix
from luci_scheduler.core.watcher import Watcher

__all__ = ["HEADS", "WatchedRepo", "watched_repos"]

HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class WatchedRepo:
    """A repository with a watched branch, or with a pattern that a branch could match."""

    repo: str
    """Its URL, ``https://<host>/<project>``."""
    branches: Sequence[str]
    """Full names of the watched branches that a config names or the repository has; sorted."""
    takes_more: bool
    """Whether a pattern matches branches that no config names."""
    ref_sets: Sequence[RefSet]
    """The ref set of each gitiles trigger that watches the repository."""

    def watches(self, ref: str) -> bool:
        """Return whether a gitiles trigger of the repository watches a ref, given by its full name."""
        return any(ref in refs for refs in self.ref_sets)


def watched_repos(
    configs: Iterable[ProjectConfig], existing: Callable[[str], Collection[str]] = lambda _: ()
) -> list[WatchedRepo]:
    """Return the repositories whose branches configs watch, sorted by URL.

    Args:
        configs: the configs of all projects.
        existing: returns the full names of the branches of the repository with a URL.
    """
    rows: dict[str, list[Watcher]] = {}
    for config in configs:
        for repo, watchers in config.watchers.items():
            rows.setdefault(repo, []).extend(watchers)
    found = [_watched(repo, watchers, existing(repo)) for repo, watchers in sorted(rows.items())]
    return [item for item in found if item.branches or item.takes_more]


def _watched(repo: str, watchers: Iterable[Watcher], existing: Collection[str]) -> WatchedRepo:
    sets = {watcher.refs: ref_set(watcher.refs) for watcher in watchers}
    literals = [_literal(entry) for refs in sets for entry in refs]
    named = {literal for literal, is_all in literals if is_all and literal.startswith(HEADS)}
    present = {ref for ref in existing if any(ref in refs for refs in sets.values())}
    takes_more = any(not is_all and _may_start_a_branch(literal) for literal, is_all in literals)
    return WatchedRepo(repo, sorted(named | present), takes_more, tuple(sets.values()))


def _may_start_a_branch(literal: str) -> bool:
    return literal.startswith(HEADS) or HEADS.startswith(literal)


def _literal(entry: str) -> tuple[str, bool]:
    """Return the literal prefix of the refs that an entry matches, and whether it matches that text only."""
    return literal_prefix(entry.removeprefix(REGEXP)) if entry.startswith(REGEXP) else (entry, True)
