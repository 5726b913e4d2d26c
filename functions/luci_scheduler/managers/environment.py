"""The environment of the task managers: ports and plain values. A manager reads no settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.ports import Buildbucket, Fetch, Gitiles, Pollers

__all__ = ["Environment", "Polling", "Server"]


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
    hosts: CommitHosts = DEFAULT_HOSTS
    """The commit hosts of the installation."""
