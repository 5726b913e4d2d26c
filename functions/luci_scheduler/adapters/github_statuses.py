"""Commit statuses on GitHub. An installation without them loads nothing of this module."""

from __future__ import annotations

from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.commit_status import CommitStatus
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.ports import GitilesError

__all__ = ["GitHubStatuses"]


class GitHubStatuses:
    """``ports.CommitStatuses`` on GitHub's REST API. Each call is one attempt. Thread-safe."""

    def __init__(self, hosts: CommitHosts, api: GitHubApi) -> None:
        """Make the client.

        Args:
            hosts: the commit hosts of the installation.
            api: the client of the API, which all callers of a process share: it knows the hosts' limits.
        """
        self._hosts = hosts
        self._api = api

    def report(self, status: CommitStatus, page: str) -> None:
        """Show a status, with the deadline of the client.

        Raises:
            GitilesError: GitHub does not take the status. If the error is not transient, GitHub refuses it for good:
                the token lacks ``statuses: write``, the commit does not exist, or it has too many statuses; or the
                settings do not name its host any more.
            TransientError: the delivery has no time left.
        """
        try:
            repo = self._hosts.parse(status.repo)
        except BadRepoUrlError as error:  # the settings have changed since the status was recorded
            raise GitilesError("INVALID_ARGUMENT", f"{status.repo}: {error}", transient=False) from error
        body = {
            "state": str(status.state),
            "target_url": page,
            "description": status.description,
            "context": status.context,
        }
        self._api.post(repo.host, f"/repos/{repo.project}/statuses/{status.revision}", body)
