"""The quotas of requests at GitHub, which only ``luci-scheduler doctor`` reads."""

from __future__ import annotations

from typing import Any

from luci_scheduler.adapters.github_api import GitHubApi, GitHubError
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.ports import GitilesError, HostQuota

__all__ = ["GitHubQuotas"]

_NO_LIMITS = 404
"""GitHub Enterprise Server gives this status while its rate limits are switched off."""


class GitHubQuotas:
    """``ports.HostQuotas`` on GitHub's REST API. A request for the quota does not count. Thread-safe."""

    def __init__(self, api: GitHubApi) -> None:
        """Make the client, with the API's client that all callers of a process share."""
        self._api = api

    def quota(self, host: str) -> HostQuota | None:
        """Return the quota of a host; see `ports.HostQuotas`."""
        try:
            document = self._api.get(host, "/rate_limit").document
        except GitHubError as error:
            if error.status == _NO_LIMITS:
                return None
            raise
        try:
            return _quota(document["resources"]["core"])
        except PARSER_ERRORS as error:
            raise GitilesError("INTERNAL", "GitHub's answer holds no quota", transient=True) from error


def _quota(core: Any) -> HostQuota:
    return HostQuota(int(core["limit"]), int(core["remaining"]), Instant(int(core["reset"]) * SECOND))
