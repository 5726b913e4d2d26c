"""The commits that are new on a ref, from Gitiles' logs."""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.poller_record import Backlog
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.gitiles.repository import Watched
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError, LogPage

__all__ = ["History", "NewCommits"]

_REF_LIMIT = MINUTE
"""For all logs of one ref together (the original's, for the one that it asks)."""

_PAGE = 1000
_MAX_RANGE = 10_000
"""Commits of a range that are looked at beyond those that get triggers; a page of 1,000 takes about a megabyte."""


@dataclass(frozen=True, slots=True)
class NewCommits:
    """What is new on a ref."""

    commits: tuple[GitCommit, ...]
    """Newest first."""
    is_fresh: bool = False
    """Whether the ref is new, or was force pushed: only its head is here."""
    skipped: int = 0
    """How many commits, older than these, get no trigger."""
    skipped_all_counted: bool = True
    """Whether ``skipped`` is exact; otherwise there are more."""
    backlog: Backlog | None = None
    """What is left of the range for the next polls."""
    left: int = 0
    """How many commits that is."""
    reached: str = ""
    """The revision that these lead up to, if it is not the ref's head."""


class History:
    """Asks for logs on behalf of one poll, each once per delivery, and writes into the debug log what is wrong."""

    def __init__(self, controller: Controller, gitiles: Gitiles, what: Watched, limit: int) -> None:
        """Make one; ``limit`` is how many new commits of one ref are taken up."""
        self._controller = controller
        self._gitiles = gitiles
        self._what = what
        self._limit = limit
        self._until = Instant(0)

    def of_new_ref(self, ref: str, head: str) -> NewCommits:
        """Return the head of a ref that was not known before.

        Raises:
            TransientError: it could not be fetched; the next attempt may succeed.
        """
        self._begin()
        try:
            return NewCommits(self._log(head, 1, diffs=True).commits, is_fresh=True)
        except GitilesError as error:
            if error.code == "NOT_FOUND":
                raise self._trouble(log_lines.NO_FIRST_LOG.format(ref=ref, head=head), error) from error
            raise self._no_range(ref, "", head, error) from error

    def newest(self, ref: str, old: str, head: str) -> NewCommits:
        """Return the newest of the commits that lead from ``old`` to ``head``, and how many older ones there are.

        Raises:
            TransientError: they could not be fetched; the next attempt may succeed.
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
        except GitilesError:  # how many they are is worth knowing, but not worth a poll
            all_counted = False
        return NewCommits(page.commits, skipped=max(1, len(older)), skipped_all_counted=all_counted)

    def oldest(self, ref: str, old: str, head: str, backlog: Backlog | None) -> NewCommits:
        """Return the oldest of the commits that lead from ``old`` to ``head`` and were not taken up yet.

        A range is gone through to its end, whatever is pushed meanwhile, before a newer one is begun: its list of commits is
        always the same, so that each commit is taken up once.

        Raises:
            TransientError: they could not be fetched; the next attempt may succeed.
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
            if backlog and error.code == "NOT_FOUND":  # forced away: what leads to the present head counts
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
        """Add the hashes of a range from ``start`` on to ``hashes``, newest first; return whether those are all."""
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
        """Find out why there is no log of a range: the old end is gone, or the new one is not there yet."""
        if error.code != "NOT_FOUND":
            raise self._no_range(ref, old, head, error) from error
        self._controller.log(log_lines.RANGE_NOT_FOUND.format(ref=ref))
        try:
            page = self._log(head, 1)
        except GitilesError as second:
            text = log_lines.NO_NEW_LOG.format(ref=ref, head=head, error=error)
            raise self._trouble(text, second) from second
        try:
            self._log(old, 1)
        except GitilesError as second:
            if second.code == "NOT_FOUND":
                self._controller.log(log_lines.FORCE_PUSH.format(ref=ref))
                return NewCommits(page.commits, is_fresh=True)
            text = log_lines.NO_OLD_LOG.format(ref=ref, old=old, error=second)
            raise self._trouble(text, second) from second
        text = log_lines.WEIRD_RANGE.format(ref=ref, from_old=old, from_head=head, old=old, head=head)
        raise self._trouble(text, error) from error

    def _no_range(self, ref: str, old: str, head: str, error: GitilesError) -> TransientError:
        return self._trouble(log_lines.NO_RANGE.format(ref=ref, old=old, head=head), error)

    def _trouble(self, line: str, error: GitilesError) -> TransientError:
        self._controller.log(line)
        return TransientError(str(error))

    def _begin(self) -> None:
        self._until = Instant(self._controller.clock.now() + _REF_LIMIT)

    def _log(self, revision: str, limit: int, *, exclude: str = "", start: str = "", diffs: bool = False) -> LogPage:
        with_diffs = diffs and self._what.paths.is_active

        def call() -> LogPage:
            if self._controller.clock.now() > self._until:
                raise GitilesError("DEADLINE_EXCEEDED", "the ref's logs took more than a minute", transient=True)
            return self._gitiles.log(
                self._what.url, revision, limit=limit, exclude=exclude, start=start, diffs=with_diffs
            )

        page: LogPage = self._controller.call_once(f"log {exclude}..{revision} {limit} {start} {with_diffs}", call)
        return page
