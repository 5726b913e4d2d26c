"""The state of the Gitiles server that tests read and change, apart from its repositories."""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.gitiles.errors import ErrorForm
from emulator.gitiles.faults import GitilesFaults
from emulator.serving.emulated_server import ServerState

__all__ = ["GitilesRequest", "GitilesState"]


@dataclass(frozen=True, slots=True)
class GitilesRequest:
    """A request in the log, with its response.

    Attributes:
        path: the path without ``/h/<host>`` and ``/a``.
        query: the query string.
        host: the host after ``/h/``; empty if there was none.
        authenticated: whether the path began with ``/a``.
        status: the HTTP status; 0 if the connection was cut.
        answer: the response's body; empty if the connection was cut.
    """

    path: str
    query: str
    host: str
    authenticated: bool
    status: int
    answer: str


@dataclass(slots=True)
class GitilesState(ServerState[GitilesFaults, GitilesRequest]):
    """Faults, request log, authentication and formats of a Gitiles server.

    Attributes:
        zones: whether each time is shown in its own zone; otherwise in UTC.
        errors: whether errors look like those of the hosted service or of open-source Gitiles.
    """

    faults: GitilesFaults = field(default_factory=GitilesFaults)
    zones: bool = False
    errors: ErrorForm = "hosted"
