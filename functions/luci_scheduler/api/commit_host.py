"""Questions about one commit to its repository's host: few, each with a short limit, none after the host has failed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from luci_scheduler.api.explanation import CommitQuery
from luci_scheduler.budget import limited, time_left
from luci_scheduler.core.errors import TransientError
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError

__all__ = ["MAX_HOST_CALLS", "CommitHost"]

MAX_HOST_CALLS = 8
"""The largest number of calls about one commit."""

_COMMIT_SECONDS = 5.0  # the list of a commit's files may be long
_SECONDS = 2.0

T = TypeVar("T")


class CommitHost:
    """Asks a repository's host about one commit. Each question is asked once."""

    def __init__(self, gitiles: Gitiles, query: CommitQuery) -> None:
        self._gitiles = gitiles
        self._query = query
        self._calls = 0
        self._leads: dict[str, bool | None] = {}
        self.failure: GitilesError | None = None
        """Why the host could not be queried; it is not asked again."""

    @cached_property
    def commit(self) -> GitCommit | GitilesError:
        """The commit with its paths, or why the host did not return it."""
        query = self._query
        try:
            page = self._call(_COMMIT_SECONDS, lambda: self._log(query.revision, diffs=True))
        except GitilesError as error:
            return error
        return page[0] if page else GitilesError("NOT_FOUND", "", transient=False)

    def leads(self, end: str) -> bool | None:
        """Whether a ref or a hash leads to the commit; None if that is unknown."""
        if end not in self._leads:
            try:
                rest = self._call(_SECONDS, lambda: self._log(self._query.revision, exclude=end))
                self._leads[end] = not rest
            except GitilesError as error:
                # A ref that does not exist leads nowhere.
                self._leads[end] = False if error.code == "NOT_FOUND" else None
        return self._leads[end]

    def _log(self, revision: str, *, exclude: str = "", diffs: bool = False) -> tuple[GitCommit, ...]:
        return self._gitiles.log(self._query.repo, revision, limit=1, exclude=exclude, diffs=diffs).commits

    def _call(self, seconds: float, call: Callable[[], T]) -> T:
        if self.failure is not None:
            raise self.failure
        if self._calls >= MAX_HOST_CALLS:
            raise GitilesError("RESOURCE_EXHAUSTED", "too many questions about one commit", transient=True)
        self._calls += 1
        try:
            with limited(time_left(seconds)):
                return call()
        except GitilesError as error:
            self.failure = error if error.transient else None
            raise
        except TransientError as error:
            self.failure = GitilesError("DEADLINE_EXCEEDED", str(error), transient=True)
            raise self.failure from error
