"""The state of the Buildbucket server that tests read and change, apart from its builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.buildbucket.canned import CannedResponses
from emulator.buildbucket.faults import Fault
from emulator.serving.emulated_server import ServerState
from emulator.serving.faults import Faults

__all__ = ["BuildbucketRequest", "BuildbucketState"]


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
    """Faults, prepared responses, request log and authentication of a Buildbucket server."""

    faults: Faults[Fault] = field(default_factory=Faults)
    canned: CannedResponses = field(default_factory=CannedResponses)
