"""Why the files of a commit do not pass a path filter: the files, and the patterns that decide. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.core.commit_hosts import HostKind
from luci_scheduler.core.path_filter import PathFilter, path_filter
from luci_scheduler.core.pattern_budget import QUICK_UNITS, PatternBudget, PatternCostError
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.core.watcher import Watcher

__all__ = ["MAX_FILES", "changed_files", "filter_sentence"]

MAX_FILES = 50
"""The largest number of files of a commit that an answer names."""

_NAMED = 3  # files and patterns in a sentence
_MAX_TEXT = 100  # characters of a file or pattern in a sentence

Diff = Sequence[tuple[str, str]]


def changed_files(diff: Diff) -> list[str]:
    """Return the paths that a commit changed, each once, in the order of the commit."""
    return list(dict.fromkeys(path for change in diff for path in change if path))


def filter_sentence(watcher: Watcher, diff: Diff, kind: HostKind) -> str:
    """Return the sentence about a commit that does not pass a watcher's path filter.

    Args:
        watcher: the watcher.
        diff: the changes of the commit. On Gitiles, a merge has none.
        kind: the software of the commit's host.
    """
    files = changed_files(diff)
    if not files:
        it = "It changed no files" if kind is HostKind.GITHUB else "Like most merges, it changed no files itself"
        return f"{it}, so it does not pass the job's path filter."
    excluded = _excluded(watcher, files)
    others = [path for path in files if path not in excluded]
    parts = [_listed(others, f"{_verb(others)} no path_regexps ({_joined(watcher.path_regexps)})")]
    for pattern in dict.fromkeys(excluded.values()):
        paths = [path for path, found in excluded.items() if found == pattern]
        parts.append(_listed(paths, f"{_verb(paths)} path_regexps_exclude ({_cut(pattern)})"))
    return (
        f"No file that it changed passes the job's path filter: {'; '.join(part for part in parts[:_NAMED] if part)}."
    )


def _excluded(watcher: Watcher, files: Sequence[str]) -> dict[str, str]:
    """Return the excluded files, each with the first pattern that excludes it; nothing if that costs too much."""
    budget, found = PatternBudget(QUICK_UNITS), dict[str, str]()
    try:
        for pattern in watcher.path_regexps_exclude:
            alone: PathFilter = path_filter((pattern,), (), budget)
            for path in files:
                if path not in found and alone.interesting([("", path)], budget):
                    found[path] = pattern
    except (PatternCostError, BadRegexpError):
        return {}
    return found


def _listed(paths: Sequence[str], predicate: str) -> str:
    return f"{_joined(paths)} {predicate}" if paths else ""


def _verb(paths: Sequence[str]) -> str:
    return "matches" if len(paths) == 1 else "match"


def _joined(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    shown = ", ".join(_cut(text) for text in texts[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
