"""What task managers are given: plain values and ports, so that they read no settings themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.ports import Buildbucket, Fetch, Gitiles, Pollers

__all__ = ["Environment", "Polling", "Server"]


@dataclass(frozen=True, slots=True)
class Server:
    """A Buildbucket server: how to speak to it, and the topic that it publishes to."""

    protocol: Era
    topic: str


@dataclass(frozen=True, slots=True)
class Polling:
    """How gitiles jobs poll; the defaults are the original's."""

    era: Era = Era.V2
    commits_per_ref: int = 50
    """New commits of one ref that one poll takes up."""
    commits_per_poll: int = 100
    """A poll that might exceed this with one more ref leaves the rest to the next one."""
    backfill: bool = False
    """Whether commits beyond ``commits_per_ref`` are taken up by later polls, oldest first, instead of being skipped."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The world of the task managers."""

    buildbucket: Buildbucket
    gitiles: Gitiles
    pollers: Pollers
    fetch: Fetch
    app_id: str
    hostname: str
    token_secrets: Sequence[str] = field(repr=False)
    """The first signs notification tokens."""
    servers: Mapping[str, Server] = field(default_factory=dict)
    check_interval: int = 0
    """Nanoseconds between status checks; 0: the era's default."""
    request_deadline: int = MINUTE
    """What a launch attempt asks for, look-up and request together, has to be answered within these nanoseconds."""
    polling: Polling = field(default_factory=Polling)
