"""What task managers are given: plain values and ports, so that they read no settings themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luci_scheduler.core.era import Era
from luci_scheduler.ports import Buildbucket, Fetch

__all__ = ["Environment", "Server"]


@dataclass(frozen=True, slots=True)
class Server:
    """A Buildbucket server: how to speak to it, and the topic that it publishes to."""

    protocol: Era
    topic: str


@dataclass(frozen=True, slots=True)
class Environment:
    """The world of the task managers."""

    buildbucket: Buildbucket
    fetch: Fetch
    app_id: str
    hostname: str
    token_secrets: Sequence[str]
    """The first signs notification tokens."""
    servers: Mapping[str, Server] = field(default_factory=dict)
    check_interval: int = 0
    """Nanoseconds between status checks; 0: the era's default."""
