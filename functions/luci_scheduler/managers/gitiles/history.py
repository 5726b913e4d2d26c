"""The commits that are new on a ref, from Gitiles' logs."""

from __future__ import annotations

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.poller_record import Backlog
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.gitiles.repository import WatchedRepo
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError, LogPage

__all__ = ["History", "NewCommits"]

_REF_LIMIT = MINUTE
"""The time limit for all log requests of one ref together. The original makes one request, with this limit."""

_PAGE = 1000  # commits
_MAX_RANGE = 10_000
"""The maximum number of commits of a range that a poll lists to count them. A page of 1,000 takes about a megabyte."""


@frozen
class NewCommits:
    """The new commits of a ref."""

    commits: tuple[GitCommit, ...]
    """Newest first."""
    is_fresh: bool = False
    """Whether the ref is new, or was force-pushed; then ``commits`` holds only its head."""
    skipped: int = 0
    """How many older commits get no trigger."""
    skipped_all_counted: bool = True
    """Whether ``skipped`` is exact; otherwise it is a lower bound."""
    backlog: Backlog | None = None
    """The remaining part of the range, which the next polls trigger."""
    left: int = 0
    """The number of commits in ``backlog``."""
    reached: str = ""
    """The newest revision of the range, if it is not the ref's head."""


class History:
    """Requests logs for one poll, each once per delivery, and writes failures into the debug log."""

    def __init__(self, controller: Controller, gitiles: Gitiles, watched: WatchedRepo, limit: int) -> None:
        """Make a reader; ``limit`` is the maximum number of new commits of one ref that get triggers."""
        self._controller = controller
        self._gitiles = gitiles
        self._watched = watched
        self._limit = limit
        self._until = Instant(0)

    def of_new_ref(self, ref: str, head: str) -> NewCommits:
        """Return the head of a ref that was unknown before.

        Raises:
            TransientError: the request failed; the next attempt may succeed.
        """
        self._begin()
        try:
            return NewCommits(self._log(head, 1, diffs=True).commits, is_fresh=True)
        except GitilesError as error:
            if error.code == "NOT_FOUND":
                raise self._failed(log_lines.NO_FIRST_LOG.format(ref=ref, head=head), error) from error
            raise self._no_range(ref, "", head, error) from error

    def newest(self, ref: str, old: str, head: str) -> NewCommits:
        """Return the newest commits between ``old`` and ``head``, and the number of older commits.

        Raises:
            TransientError: a request failed; the next attempt may succeed.
        """
        self._begin()
        try:
            page = self._log(head, self._limit, exclude=old, diffs=True)
        except GitilesError as error:
            return self._without_range(ref, old, head, error)
        if not page.next:
            return NewCommits(page.commits)
        older: list[str] = []
        try:
            all_counted = self._list(older, old, head, page.next)
        except GitilesError:  # the exact number is not worth failing the poll
            all_counted = False
        return NewCommits(page.commits, skipped=max(1, len(older)), skipped_all_counted=all_counted)

    def oldest(self, ref: str, old: str, head: str, backlog: Backlog | None) -> NewCommits:
        """Return the oldest commits between ``old`` and ``head`` that have no triggers yet.

        Polls finish one range before they start the next, even if new commits are pushed during that time. The list of
        commits in a range never changes, so each commit gets one trigger.

        Raises:
            TransientError: a request failed; the next attempt may succeed.
        """
        self._begin()
        if backlog is None:
            try:
                page = self._log(head, self._limit, exclude=old, diffs=True)
            except GitilesError as error:
                return self._without_range(ref, old, head, error)
            if not page.next:
                return NewCommits(page.commits)
        target, taken = (backlog.target, backlog.taken) if backlog else (head, 0)
        try:
            return self._part(old, target, taken)
        except GitilesError as error:
            if backlog and error.code == "NOT_FOUND":  # a force push removed it: continue with the current head
                return self.oldest(ref, old, head, None)
            raise self._no_range(ref, old, target, error) from error

    def _part(self, old: str, target: str, taken: int) -> NewCommits:
        hashes: list[str] = []
        all_listed = self._list(hashes, old, target, "")
        left = len(hashes) - taken
        place = max(0, left - self._limit)
        page = LogPage(())
        if left > place:
            page = self._log(target, left - place, exclude=old, start=hashes[place], diffs=True)
        return NewCommits(
            page.commits,
            skipped=0 if all_listed or taken else 1,
            skipped_all_counted=all_listed,
            backlog=Backlog(target, len(hashes) - place) if place else None,
            left=place,
            reached=target,
        )

    def _list(self, hashes: list[str], old: str, head: str, start: str) -> bool:
        """Append a range's hashes from ``start`` on to ``hashes``, newest first. Return whether that is all."""
        while len(hashes) < _MAX_RANGE:
            page = self._log(head, _PAGE, exclude=old, start=start)
            hashes += [commit.id for commit in page.commits]
            start = page.next
            if not start:
                return True
            if not page.commits:
                raise GitilesError(
                    "INTERNAL", "a page of the log is empty, and yet there is a next one", transient=True
                )
        return False

    def _without_range(self, ref: str, old: str, head: str, error: GitilesError) -> NewCommits:
        """Determine why a range has no log: the old revision is gone, or the server does not have the new one yet."""
        if error.code != "NOT_FOUND":
            raise self._no_range(ref, old, head, error) from error
        self._controller.log(log_lines.RANGE_NOT_FOUND.format(ref=ref))
        try:
            page = self._log(head, 1)
        except GitilesError as second:
            text = log_lines.NO_NEW_LOG.format(ref=ref, head=head, error=error)
            raise self._failed(text, second) from second
        try:
            self._log(old, 1)
        except GitilesError as second:
            if second.code == "NOT_FOUND":
                self._controller.log(log_lines.FORCE_PUSH.format(ref=ref))
                return NewCommits(page.commits, is_fresh=True)
            text = log_lines.NO_OLD_LOG.format(ref=ref, old=old, error=second)
            raise self._failed(text, second) from second
        text = log_lines.WEIRD_RANGE.format(ref=ref, from_old=old, from_head=head, old=old, head=head)
        raise self._failed(text, error) from error

    def _no_range(self, ref: str, old: str, head: str, error: GitilesError) -> TransientError:
        return self._failed(log_lines.NO_RANGE.format(ref=ref, old=old, head=head), error)

    def _failed(self, line: str, error: GitilesError) -> TransientError:
        self._controller.log(line)
        return TransientError(str(error), throttled=error.throttled, retry_after=error.retry_after)

    def _begin(self) -> None:
        self._until = Instant(self._controller.clock.now() + _REF_LIMIT)

    def _log(self, revision: str, limit: int, *, exclude: str = "", start: str = "", diffs: bool = False) -> LogPage:
        with_diffs = diffs and self._watched.paths.is_active

        def call() -> LogPage:
            if self._controller.clock.now() > self._until:
                raise GitilesError("DEADLINE_EXCEEDED", "the ref's logs took more than a minute", transient=True)
            return self._gitiles.log(
                self._watched.url, revision, limit=limit, exclude=exclude, start=start, diffs=with_diffs
            )

        page: LogPage = self._controller.call_once(f"log {exclude}..{revision} {limit} {start} {with_diffs}", call)
        return page
