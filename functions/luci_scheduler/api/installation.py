"""The public facts about an installation, which its administrators may read."""

from __future__ import annotations

from luci_scheduler.core.frozen import frozen

__all__ = ["Installation"]


@frozen
class Installation:
    """Names of an installation's parts; holds no secret."""

    service: str = ""
    """The console's Cloud Run service; empty in the local cloud."""
    revision: str = ""
    """The console's revision; empty in the local cloud."""
    project: str = ""
    """Cloud project."""
    location: str = ""
    database: str = ""
    queue: str = ""
    account: str = ""
    """The account in the tokens of tasks."""
    topics: tuple[str, ...] = ()
    """Full names of the topics that Buildbucket publishes to."""
    build_projects: tuple[str, ...] = ()
    """Cloud projects with builds of Cloud Build, the default first; none without Cloud Build jobs."""
    build_accounts: tuple[str, ...] = ()
    """E-mails of the accounts that builds of Cloud Build may run as, the default first."""
    config_projects: tuple[str, ...] = ()
    """LUCI projects whose configs the settings name; a folder's projects are not among them."""
