"""The rules that an installation sets for all configs."""

from __future__ import annotations

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.frozen import frozen

__all__ = ["ConfigRules"]


@frozen
class ConfigRules:
    """Rules for every project's config. The defaults are those of the settings."""

    lenient_triggers: bool = False
    """Whether an unknown job in ``triggers`` is only a warning, as in the original; otherwise it is an error."""
    max_active_invocations: int = 20_000
    """The limit of active invocations of one project: a limit for the sum of ``max_concurrent_invocations``."""
    max_pending_triggers: int = 5_000_000
    """The limit of pending triggers of one project. Each job keeps an equal share, at most the original's 1,000."""
    hosts: CommitHosts = DEFAULT_HOSTS
    """The commit hosts of the installation."""
