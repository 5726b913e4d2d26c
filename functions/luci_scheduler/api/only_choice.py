"""The repository and the ref of a request that names none, if the configs leave one choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import invalid
from luci_scheduler.api.overviews import visible_sources
from luci_scheduler.core.job import Job
from luci_scheduler.core.ref_validation import named_ref
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.managers.task_kind import PolledRepo

__all__ = ["only_repo", "repo_and_ref"]

_HEX = re.compile("[0-9a-fA-F]{4,64}")
_LISTED = 8  # repositories that an error names


def repo_and_ref(context: Context, jobs: Iterable[Job], repo: str, ref: str, revision: str) -> tuple[str, str]:
    """Return the repository and the ref that jobs watch, as the configs of the jobs that trigger them name them.

    Costs up to ten reads for each job, if one of the two is not given.

    Args:
        context: the caller's context.
        jobs: the jobs.
        repo: the given repository; empty: the only repository of the jobs.
        ref: the given ref; empty: the only ref of the jobs. If they watch several refs or a pattern, it is the
            branch that the revision names, and main for HEAD.
        revision: as `api.revisions` reads it.

    Raises:
        ApiError: INVALID_ARGUMENT: one is not given, and the jobs watch none or several.
    """
    if repo and ref:
        return repo, ref
    tasks = [source.definition.task for job in jobs for source in visible_sources(context, job)]
    polled = [found for found in (kind_of(task).polled_repo(task) for task in tasks) if found]
    repo = repo or _only("repo", [item.url for item in polled])
    return repo, ref or _watched_ref(context, repo, polled, revision)


def only_repo(context: Context) -> str:
    """Return the only repository that the projects watch whose jobs the caller sees; costs one read for each project.

    Raises:
        ApiError: INVALID_ARGUMENT: there is none or there are several. The error names them if the caller sees all
            jobs of their projects.
    """
    records = context.runtime.store.projects() if context.sees_some() else []
    repos = sorted({repo for record in records if context.sees_all(record.id) for repo in record.repos})
    if len(repos) == 1:
        return repos[0]
    more = f" and {len(repos) - _LISTED} more" if len(repos) > _LISTED else ""
    known = f"the projects watch {', '.join(repos[:_LISTED])}{more}" if repos else "no project that you see watches one"
    raise invalid(f"repo must be given: {known}")


def _watched_ref(context: Context, repo: str, polled: Sequence[PolledRepo], revision: str) -> str:
    """Return the only ref of a repository that is polled; otherwise the branch that the revision names."""
    wanted = _normal(context, repo)
    refs = [named_ref(ref) for item in polled if _normal(context, item.url) == wanted for ref in item.refs]
    is_one = len(set(refs)) <= 1 and all(refs)
    return _only("ref", refs if is_one else [_branch_of(revision)])


def _branch_of(expression: str) -> str:
    """Return the ref of the branch that an expression begins with, main for HEAD; empty for a hash."""
    name = re.split("[~^]", expression)[0]
    if _HEX.fullmatch(name):
        return ""
    return name if name.startswith("refs/") else f"refs/heads/{'main' if name == 'HEAD' else name}"


def _normal(context: Context, url: str) -> str:
    try:
        return str(context.runtime.hosts.parse(url))
    except BadRepoUrlError:
        return url


def _only(name: str, found: Sequence[str]) -> str:
    """Return the only one of these texts."""
    first, *others = dict.fromkeys(found) or [""]
    if others or not first:
        raise invalid(
            f"{name} must be given: the job watches {'several, or a pattern' if found else 'none that is known'}"
        )
    return first
