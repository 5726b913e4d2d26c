"""The ``gitiles`` task kind: a job that polls a repository and triggers other jobs for its commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from luci_scheduler.core.commit_hosts import https_form
from luci_scheduler.core.era import Era
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.path_filter import compose
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.ref_validation import ANCHORS, REGEXP, is_anchored, ref_problems
from luci_scheduler.core.regexps import BadRegexpError, compile_regexp
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_kind import PolledRepo, TaskCheck, TaskKind
from luci_scheduler.managers.task_manager import TaskManager
from luci_scheduler.managers.urls import url_problem

__all__ = ["MAX_ENTRY", "GitilesKind"]

MAX_ENTRY = 2000
"""The maximum length of one ref or path pattern, in characters."""

_PATH_REGEXPS = ("path_regexps", "path_regexps_exclude")


class GitilesKind(TaskKind):
    """Polls the refs of a Gitiles repository. It has a single stage: each invocation is one poll."""

    name: ClassVar[str] = "gitiles"
    schema: ClassVar[str] = "1 repo string, 2 refs string*, 3 path_regexps string*, 4 path_regexps_exclude string*"
    trigger_field: ClassVar[int] = 101

    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager that polls."""
        from luci_scheduler.managers.gitiles.manager import GitilesManager  # noqa: PLC0415 - see `TaskKind.manager`

        return GitilesManager(environment)

    def era(self, task: TaskDefinition, environment: Environment) -> Era:  # noqa: ARG002 - one setting for all polls
        """Return the era from the installation's settings: polls speak to no Buildbucket server."""
        return environment.polling.era

    def polled_repo(self, task: TaskDefinition) -> PolledRepo:
        """Return the repository that the task polls."""
        fields = task.fields
        include, exclude = (tuple(fields.get(name, ())) for name in _PATH_REGEXPS)
        return PolledRepo(str(fields.get("repo", "")), tuple(fields.get("refs", ())), include, exclude)

    def patterns(self, task: Any) -> Iterable[str]:
        """Return the regular expressions among the refs, and all path patterns."""
        refs = [ref for ref in task.refs if ref.startswith(REGEXP)]
        return [*refs, *task.path_regexps, *task.path_regexps_exclude]

    def check(self, task: Any, check: TaskCheck) -> None:
        """Validate the repository, the refs and the path filters."""
        with check.within("repo"):
            _check_repo(task.repo, check)
        if check.few("refs", task.refs):
            _check_refs(task.refs, check)
        if not task.refs:
            check.warning("no 'refs' are given: nothing is watched")
        for name in _PATH_REGEXPS:
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
        host = quote(urlsplit(url).netloc)
        check.warning(f"no commit host is configured for {host}: its polls fail (see SCHEDULER_COMMIT_HOSTS)", "repo")


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
