"""Validation of ``refs`` of a gitiles trigger: full names of refs, and ``regexp:`` patterns of them."""

from __future__ import annotations

import re

from luci_scheduler.core.go_text import quote
from luci_scheduler.core.regexps import BadRegexpError, compile_regexp, literal_prefix

__all__ = ["ANCHORS", "REGEXP", "is_anchored", "named_ref", "ref_problems"]

REGEXP = "regexp:"
"""The prefix of an entry that is a pattern."""
ANCHORS = "^ and $ qualifiers are added automatically, please remove them"
_ESCAPED = re.compile(r"\\([./-])")
_NAME = re.compile(r"[\w./-]+")
_SLASHES = 2  # fewer would list all refs of a repository, with those of every code review


def is_anchored(pattern: str) -> bool:
    """Whether a pattern contains its own anchors."""
    return pattern.startswith("^") or pattern.endswith("$")


def named_ref(entry: str) -> str:
    """Return the ref that a valid entry names: a literal, or a pattern that reads like one; empty for other patterns.

    Generated configs write ``regexp:refs/heads/main``, and often leave out the backslash before a dot, as in
    ``regexp:refs/heads/release-1.2``.
    """
    if not entry.startswith(REGEXP):
        return entry
    text = _ESCAPED.sub(r"\1", entry.removeprefix(REGEXP))
    return text if _NAME.fullmatch(text) else ""


def ref_problems(entry: str) -> list[str]:
    """Return the problems of an entry of ``refs``, in the original's words and order; empty if there are none."""
    if entry.startswith(REGEXP):
        return _regexp_problems(entry.removeprefix(REGEXP))
    problems = []
    if not entry.startswith("refs/"):
        problems.append(f"ref must start with 'refs/' not {quote(entry)}")
    if entry.count("/") < _SLASHES:
        problems.append(f"fewer than 2 slashes in ref {quote(entry)}")
    return problems


def _regexp_problems(pattern: str) -> list[str]:
    if is_anchored(pattern):
        return [ANCHORS]
    try:
        compile_regexp(pattern)
    except BadRegexpError as error:
        return [f"invalid regexp: {error}"]
    # The literal prefix names the folder to list. Without it a poll would list the whole repository.
    prefix, _ = literal_prefix(pattern)
    problems = []
    if prefix.count("/") < _SLASHES:
        problems.append(
            f"fewer than 2 slashes in literal prefix {quote(prefix)}: the pattern must begin with the text of the "
            "refs' folder, such as refs/heads/"
        )
    if not prefix.startswith("refs/"):
        problems.append(f'literal prefix {quote(prefix)} must start with "refs/"')
    return problems
