"""The state of the Gitiles server that tests read and change, apart from its repositories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.gitiles.errors import ErrorForm
from emulator.gitiles.faults import GitilesFaults
from emulator.gitiles.refs import Push
from emulator.gitiles.smart_http import Limits
from emulator.serving.emulated_server import ServerState

__all__ = ["GitilesRequest", "GitilesState", "Surroundings"]


@dataclass(slots=True)
class Surroundings:
    """The local cloud around the server. A server alone has none of it."""

    pushed: Callable[[Push], None] = lambda _: None
    """Gets each push that changed refs, before the client gets its answer."""
    is_watched: Callable[[str], bool] = lambda _: False
    """Returns whether a config watches a repository (``https://<host>/<name>``): a push then creates it."""
    missing: Callable[[str, str], None] = lambda _repo, _advice: None
    """Gets each repository that a request did not find, and the sentence that says where to put it."""
    console_url: str = ""
    """Where the console is; empty: pages do not link to it."""


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
        around: the local cloud around the server.
        limits: the limits of ``git clone``, ``git fetch`` and ``git push``.
    """

    faults: GitilesFaults = field(default_factory=GitilesFaults)
    zones: bool = False
    errors: ErrorForm = "hosted"
    around: Surroundings = field(default_factory=Surroundings)
    limits: Limits = field(default_factory=Limits)
