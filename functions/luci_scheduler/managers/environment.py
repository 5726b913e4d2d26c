"""The environment of the task managers: ports and plain values. A manager reads no settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.ports import Buildbucket, CloudBuild, Fetch, Gitiles, Pollers

__all__ = ["CloudBuildDefaults", "Environment", "Polling", "Server"]


@frozen
class Server:
    """A Buildbucket server."""

    protocol: Era
    """The protocol that it speaks, named by its era."""
    topic: str
    """The topic that it publishes notifications to; empty if it sends none."""


@frozen
class Polling:
    """How gitiles jobs poll. The defaults are the original's."""

    era: Era = Era.V2
    commits_per_ref: int = 50
    """The maximum number of new commits of one ref that one poll triggers."""
    commits_per_poll: int = 100
    """A poll that might exceed this with one more ref leaves the remaining refs to the next poll."""
    backfill: bool = False
    """Whether later polls trigger the commits beyond ``commits_per_ref``, oldest first. Otherwise they are skipped."""


@frozen
class CloudBuildDefaults:
    """How ``cloud_build`` jobs build: the values that a definition leaves out, and the limits of their calls."""

    project: str = ""
    """The project of builds whose definition names none."""
    location: str = "global"
    account: str = ""
    """The service account of builds whose definition names none; empty: the project's default account."""
    projects: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Project → the service accounts that definitions may name there. Empty: only the default project and account."""
    check_interval: int = 0
    """Nanoseconds between status checks; 0: at random 1 to 10 minutes."""
    run_deadline: int = 120 * SECOND
    """Nanoseconds within which Cloud Build must answer the request to run a trigger, at most 180 seconds."""


@frozen
class Environment:
    """The ports and values that task managers use."""

    buildbucket: Buildbucket
    gitiles: Gitiles
    pollers: Pollers
    fetch: Fetch
    app_id: str
    hostname: str
    token_secrets: Sequence[str] = field(repr=False)
    """The first secret signs notification tokens; all of them verify."""
    servers: Mapping[str, Server] = field(default_factory=dict)
    check_interval: int = 0
    """Nanoseconds between status checks; 0 means the era's default."""
    request_deadline: int = MINUTE
    """Nanoseconds within which all calls of a launch attempt must be answered, search and request together."""
    polling: Polling = field(default_factory=Polling)
    cloud_build: CloudBuild | None = None
    """The Cloud Build API; None: the installation has no ``cloud_build`` jobs, and their launches are refused."""
    cloud_build_defaults: CloudBuildDefaults = field(default_factory=CloudBuildDefaults)
    hosts: CommitHosts = DEFAULT_HOSTS
    """The commit hosts of the installation."""
