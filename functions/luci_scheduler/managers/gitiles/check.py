"""The rules of a ``gitiles`` block in a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from luci_scheduler.core.commit_hosts import https_form
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.path_filter import compose
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.ref_validation import ANCHORS, REGEXP, is_anchored, ref_problems
from luci_scheduler.core.regexps import BadRegexpError, compile_regexp
from luci_scheduler.managers.gitiles.kind import PATH_REGEXPS
from luci_scheduler.managers.task_kind import TaskCheck
from luci_scheduler.managers.urls import url_problem

__all__ = ["MAX_ENTRY", "check_task", "patterns_of"]

MAX_ENTRY = 2000
"""The maximum length of one ref or path pattern, in characters."""


def patterns_of(task: Any) -> list[str]:
    """Return the regular expressions among the refs of a block, and all its path patterns."""
    refs = [ref for ref in task.refs if ref.startswith(REGEXP)]
    return [*refs, *task.path_regexps, *task.path_regexps_exclude]


def check_task(task: Any, check: TaskCheck) -> None:
    """Validate the repository, the refs and the path filters of a block."""
    with check.within("repo"):
        _check_repo(task.repo, check)
    if check.few("refs", task.refs):
        _check_refs(task.refs, check)
    if not task.refs:
        check.warning("no 'refs' are given: nothing is watched")
    for name in PATH_REGEXPS:
        if check.few(name, getattr(task, name)):
            _check_path_regexps(name, getattr(task, name), check)
    if task.path_regexps_exclude and not task.path_regexps:
        message = "Specifying path_regexps_exclude not allowed without at least one path_regexps"
        check.error(message, "path_regexps_exclude")


def _check_repo(url: str, check: TaskCheck) -> None:
    if form := https_form(url):
        check.error(f"only https scheme is supported: write {form}", "repo")
    elif problem := url_problem(url, "repository") or check.hosts.problem(url):
        check.error(problem, "repo")
    elif not check.hosts.knows(url):
        # Not an error: the original accepts any URL here, and a config must stay valid.
        host = quote(urlsplit(url).netloc or url)
        named = "unless SCHEDULER_COMMIT_HOSTS names it (for luci-scheduler config: --github-hosts)"
        near = check.hosts.near(url)
        remedy = f"; write https://{near}/OWNER/NAME" if near else f" {named}"
        check.warning(f"no commit host is configured for {host}: its polls fail{remedy}", "repo")


def _check_refs(refs: Sequence[str], check: TaskCheck) -> None:
    with check.within("refs"):
        shown = [(ref,) if ref.startswith(REGEXP) else () for ref in refs]
        if _check_each("refs", refs, shown, _ref_problems, check):
            check.compile_together("refs", ("refs", *refs), lambda: ref_set(tuple(refs)))


def _check_path_regexps(name: str, patterns: Sequence[str], check: TaskCheck) -> None:
    shown = [(f"{name} {quote(pattern)}",) for pattern in patterns]
    if _check_each(name, patterns, shown, _path_regexp_problems, check) and patterns:
        with check.within(name):
            check.compile_together(name, tuple(patterns), lambda: compile_regexp(compose(patterns)))


def _check_each(
    field: str,
    entries: Sequence[str],
    shown: Sequence[tuple[str, ...]],
    problems_of: Callable[[str], list[str]],
    check: TaskCheck,
) -> bool:
    """Check each entry; ``shown`` is how the path of a problem names each. Return whether all are valid."""
    is_valid = True
    for index, entry in enumerate(entries):
        problems = check.pattern_problems(field, index, entry, problems_of)
        is_valid = is_valid and not problems
        with check.within(*shown[index]):
            for problem in problems:
                check.error(problem, field, index)
    return is_valid


def _ref_problems(ref: str) -> list[str]:
    return _too_long(ref) or ref_problems(ref)


def _path_regexp_problems(pattern: str) -> list[str]:
    if too_long := _too_long(pattern):
        return too_long
    if not pattern:
        return ["must not be empty"]
    if is_anchored(pattern):
        return [ANCHORS]
    try:
        compile_regexp(pattern)
    except BadRegexpError as error:
        return [f"invalid regexp: {error}"]
    return []


def _too_long(entry: str) -> list[str]:
    return [f"has {len(entry)} characters, at most {MAX_ENTRY} are allowed"] if len(entry) > MAX_ENTRY else []
