"""The state of the Buildbucket server that tests read and change, apart from its builds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from emulator.buildbucket.canned import CannedResponses
from emulator.buildbucket.faults import Fault
from emulator.serving.emulated_server import ServerState
from emulator.serving.faults import Faults

__all__ = ["BuildbucketRequest", "BuildbucketState", "CommitKey", "Surroundings"]

CommitKey = tuple[str, str, str]
"""Host, project and hash of a commit."""


@dataclass(slots=True)
class Surroundings:
    """The local cloud around the server, for its pages. A server alone has none of it."""

    console_url: str = ""
    """Where the console is; empty: pages do not link to it."""
    gitiles_url: str = ""
    """Where the pages of commits are: ``<url>/<host>/<project>/+/<hash>``; empty: pages do not link to them."""
    subjects: Callable[[Collection[CommitKey]], Mapping[CommitKey, str]] = lambda _: {}
    """Returns the first lines of commits; unknown commits are left out."""


@dataclass(frozen=True, slots=True)
class BuildbucketRequest:
    """A request in the log, with its response.

    Attributes:
        method: ``ScheduleBuild``, ``v1.put`` and so on.
        caller: the caller's identity.
        http_method: the HTTP method.
        path: the path with the query.
        body: the request's body.
        time: when the request arrived.
        status: the HTTP status; 0 if the connection was cut.
        answer: the response's body; empty if the connection was cut.
        headers: the request's headers.
    """

    method: str
    caller: str
    http_method: str
    path: str
    body: str
    time: int
    status: int
    answer: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class BuildbucketState(ServerState[Faults[Fault], BuildbucketRequest]):
    """Faults, prepared responses, request log and authentication of a Buildbucket server, and its surroundings."""

    faults: Faults[Fault] = field(default_factory=Faults)
    canned: CannedResponses = field(default_factory=CannedResponses)
    around: Surroundings = field(default_factory=Surroundings)
