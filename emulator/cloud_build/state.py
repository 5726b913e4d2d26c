"""The state of the Cloud Build server that tests read and change, apart from its builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.cloud_build.faults import Fault
from emulator.serving.emulated_server import ServerState
from emulator.serving.faults import Faults

__all__ = ["CloudBuildRequest", "CloudBuildState", "Surroundings"]


@dataclass(slots=True)
class Surroundings:
    """The local cloud around the server, for its pages. A server alone has none of it."""

    console_url: str = ""
    """Where the console is; empty: pages do not link to it."""
    commit_urls: Mapping[str, str] = field(default_factory=dict)
    """The address of a host's repositories (``https://github.com/``) → the address of their local pages."""


@dataclass(frozen=True, slots=True)
class CloudBuildRequest:
    """A request in the log, with its answer. It holds no token.

    Attributes:
        method: the short name of the method, such as ``create``; empty if the API has no such path.
        http_method: the HTTP method.
        path: the path with the query.
        body: the request's body.
        time: when the request arrived.
        status: the HTTP status; 0 if the connection was cut.
        answer: the answer's body; empty if the connection was cut.
    """

    method: str
    http_method: str
    path: str
    body: str
    time: int
    status: int
    answer: str


@dataclass(slots=True)
class CloudBuildState(ServerState[Faults[Fault], CloudBuildRequest]):
    """Faults, request log and authentication of a Cloud Build server, and its surroundings."""

    faults: Faults[Fault] = field(default_factory=Faults)
    around: Surroundings = field(default_factory=Surroundings)
