"""Revisions as people write them: short hashes, branches, tags, ``HEAD~2``.

The API takes such an expression wherever it asks for a revision of its own methods. The repository's host resolves it,
so it means what ``git rev-parse`` would print in an up-to-date mirror.
"""

from __future__ import annotations

import re

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code, HostUnavailableError, failed_precondition, invalid
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import GitilesError

__all__ = ["MAX_EXPRESSION", "check_expression", "resolve_revision"]

MAX_EXPRESSION = 1024
"""The longest expression, in characters: as long as the longest ref of a commit event."""

_HASH = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?")
_NAME = r"(?![-./@])(?!.*(?:\.\.|@\{|//|/\.|\.lock(?:/|[~^]|$)))[^\s\x00-\x20\x7f~^:?*\[\\!+]+(?<![./])"
"""A name that git allows for a ref. None of its characters has another meaning for the host.

Git also allows ``!`` and ``+``, which Gitiles reads as a range or as the end of the repository's name.
"""
_STEPS = r"(?:[~^]\d{0,4})*"
_EXPRESSION = re.compile(_NAME + _STEPS)


def _is_hash(expression: str) -> bool:
    """Return whether an expression is a full hash, in lower or upper case, which needs no call to be resolved."""
    return _HASH.fullmatch(expression) is not None


def check_expression(expression: str, name: str = "revision") -> None:
    """Check the syntax of an expression, before any call.

    Args:
        expression: any text.
        name: the name of the field in the error.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    is_short = len(expression) <= MAX_EXPRESSION and expression.isprintable()
    if not is_short or not _EXPRESSION.fullmatch(expression):
        raise invalid(f"{name} must be a hash, a branch, a tag or HEAD, perhaps followed by ~N or ^N")


def resolve_revision(context: Context, repo: RepoUrl, expression: str, name: str = "revision") -> str:
    """Return the hash of the commit that an expression names in a repository.

    A full hash is returned in lower case, without a call, even if the repository does not have it. Everything else
    costs one call to the repository's host. This function does not check permissions: the API's caller must see a job
    that watches the repository.

    Args:
        context: the caller's context.
        repo: the repository.
        expression: a hash or its beginning, a branch, a tag, a full ref or ``HEAD``, perhaps followed by ``~N`` or
            ``^N``.
        name: the name of the field in errors.

    Raises:
        ApiError: INVALID_ARGUMENT: it is malformed or ambiguous; NOT_FOUND: the repository has no such commit;
            FAILED_PRECONDITION: the scheduler may not read the repository.
        HostUnavailableError: the host did not answer; a retry may succeed.
    """
    check_expression(expression, name)
    if _is_hash(expression):
        return expression.lower()
    try:
        return context.runtime.gitiles.resolve(repo, expression)
    except GitilesError as error:
        raise _translated(error, repo, f"{name} {expression!r}") from error
    except TransientError as error:  # the time of the caller is over
        raise _unavailable(error, repo, f"{name} {expression!r}") from error


def _unavailable(error: Exception, repo: RepoUrl, about: str) -> HostUnavailableError:
    return HostUnavailableError(
        f"{about} could not be resolved, because the host of {repo} did not answer ({error}): "
        "give the whole hash, or try again"
    )


def _translated(error: GitilesError, repo: RepoUrl, about: str) -> ApiError | HostUnavailableError:
    if error.transient:
        return _unavailable(error, repo, about)
    if error.code == "NOT_FOUND":
        return ApiError(Code.NOT_FOUND, f"{repo} has no commit with this name: {about}")
    if error.code == "INVALID_ARGUMENT":
        return invalid(f"{about} is ambiguous or unreadable for {repo}: add digits, or name a branch ({error})")
    return failed_precondition(f"{about} could not be resolved in {repo}: {error}")
