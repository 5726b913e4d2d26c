"""Commit statuses in memory: they are kept in the order of their reports."""

from __future__ import annotations

from collections.abc import Callable

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, HostKind
from luci_scheduler.core.commit_status import CommitStatus
from luci_scheduler.core.repo_url import BadRepoUrlError

__all__ = ["MemoryStatuses"]


class MemoryStatuses:
    """``ports.CommitStatuses`` that keeps the reports for repositories on GitHub hosts."""

    def __init__(self, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        self._hosts = hosts
        self.reported: list[tuple[CommitStatus, str]] = []
        """Each status with its link."""
        self.before_report: Callable[[CommitStatus], None] = lambda _: None
        """Called before each report is kept; it may raise an error."""
        self.after_report: Callable[[CommitStatus], None] = lambda _: None

    def serves(self, repo: str) -> bool:
        """Return whether a repository is on a GitHub host."""
        try:
            return self._hosts.kind(self._hosts.parse(repo)) is HostKind.GITHUB
        except BadRepoUrlError:
            return False

    def report(self, status: CommitStatus, page: str) -> None:
        """Keep a status."""
        self.before_report(status)
        self.reported.append((status, page))
        self.after_report(status)

    def shown(self) -> dict[tuple[str, str], str]:
        """Return the state that each commit shows, by revision and context: the last report counts."""
        return {(status.revision, status.context): str(status.state) for status, _ in self.reported}
