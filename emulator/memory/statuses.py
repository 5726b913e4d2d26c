"""Commit statuses in memory: they are kept in the order of their reports."""

from __future__ import annotations

from collections.abc import Callable

from luci_scheduler.core.commit_status import CommitStatus

__all__ = ["MemoryStatuses"]


class MemoryStatuses:
    """``ports.CommitStatuses`` that keeps the reports."""

    def __init__(self) -> None:
        self.reported: list[tuple[CommitStatus, str]] = []
        """Each status with its link."""
        self.before_report: Callable[[CommitStatus], None] = lambda _: None
        """Called before each report is kept; it may raise an error."""
        self.after_report: Callable[[CommitStatus], None] = lambda _: None

    def report(self, status: CommitStatus, page: str) -> None:
        """Keep a status."""
        self.before_report(status)
        self.reported.append((status, page))
        self.after_report(status)

    def shown(self) -> dict[tuple[str, str], str]:
        """Return the state that each commit shows, by revision and context: the last report counts."""
        return {(status.revision, status.context): str(status.state) for status, _ in self.reported}
