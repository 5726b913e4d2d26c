"""The network between the real HTTP clients and the servers of a world: the part of a session that the clients use."""

from __future__ import annotations

import json as jsons
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

import requests

from emulator.storm.faults import Fault, Kind
from emulator.storm.outside import Calling, Outside
from luci_scheduler.adapters.http import Deadline
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant

__all__ = ["HttpRequest", "Reply", "Server", "WireSession"]

_PROXY = (400, 401, 403, 404, 429, 502)
_SLOW = 10
"""How many times as long a request to run a trigger may take to land: Cloud Build ends it after three minutes, and does
not know its caller's limit of two."""
_LISTS = ("SearchBuilds", "v1.search", "cloud_build.list")
_HTML = b"<html><body>Something on the way went wrong</body></html>"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as a server reads it."""

    method: str
    host: str
    path: str
    query: Sequence[tuple[str, str]]
    body: bytes
    delivery: int = 0
    """The number of the `Delivery` that sends it."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, with the members of ``requests.Response`` that the clients use."""

    status_code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Begin to read."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""

    @property
    def links(self) -> Mapping[str, Mapping[str, str]]:
        """The links of the header ``Link``: no answer has any, because each list fits on one page."""
        return {}

    def iter_content(self, _size: int) -> Iterator[bytes]:
        """Yield the body in one piece."""
        yield self.body

    @classmethod
    def of(cls, document: object, status: int = 200, **headers: str) -> Self:
        """Return an answer in JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, jsons.dumps(document).encode(), {"Content-Type": "application/json", **named})


class Server(Protocol):
    """A server of the world."""

    part: str
    """Names it among the outages."""

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method, for the point of the call."""

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:
        """Carry a request out.

        Args:
            request: the request.
            as_of: the instant whose state a read shows.
            fault: the fault before the call, which may concern the server.
        """

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:
        """Return the answer of a server that refuses because of a fault, or because it is down (None)."""


class WireSession:
    """The session of an instance's HTTP clients."""

    def __init__(self, outside: Outside, server_of: Callable[[str], Server]) -> None:
        self._outside = outside
        self._server_of = server_of

    def get(self, url: str, *, params: Any = (), **named: Any) -> Reply:
        """Send a GET, as clients of earlier releases do."""
        return self.request("GET", url, params=params, **named)

    def request(
        self,
        method: str,
        url: str,
        *,
        timeout: Deadline,
        params: Any = (),
        data: bytes | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Reply:
        """Send a request; ``timeout`` is the whole call's."""
        parts, sender = urlsplit(url), self._outside.running.delivery.number
        query = tuple(params.items() if isinstance(params, Mapping) else params or parse_qsl(parts.query))
        body = data or (b"" if json is None else jsons.dumps(json).encode())
        request = HttpRequest(method, parts.hostname or "", parts.path, query, body, sender, headers or {})
        server = self._server_of(request.host)
        with self._outside.call(server.method(request)) as calling:
            return self._send(server, request, calling, timeout)

    def _send(self, server: Server, request: HttpRequest, calling: Calling, timeout: Deadline) -> Reply:
        outside, now, fault = self._outside, self._outside.kernel.now(), calling.fault
        if outside.outages.is_down(server.part, now):
            refusal = server.refusal(request, None)
            if refusal is None:
                raise requests.ConnectionError("connection refused")
            return refusal
        if timeout.passed:
            raise requests.Timeout("no time is left for the request")
        if fault is not None:
            self._hang(server, request, fault, timeout)
            if (refusal := self._refusal(server, request, fault)) is not None:
                return refusal
        as_of = now - fault.amount * SECOND if fault is not None and fault.kind is Kind.HOST_LAG else now
        reply = server.answer(request, as_of=as_of, fault=fault)
        return self._answered(server, request, reply, outside.landed(calling), timeout)

    def _hang(self, server: Server, request: HttpRequest, fault: Fault, timeout: Deadline) -> None:
        if fault.kind not in (Kind.BUILD_HANG, Kind.BUILD_LATE_LANDING, Kind.HOST_HANG):
            return
        self._wait(timeout)
        if fault.kind is Kind.BUILD_LATE_LANDING:
            kernel = self._outside.kernel
            later = _SLOW if request.path.endswith(":run") else 1
            landing = Instant(kernel.now() + fault.amount * MILLISECOND * later)
            kernel.at(landing, lambda: _land(server, request, landing))
        raise requests.Timeout("no answer in time")

    def _refusal(self, server: Server, request: HttpRequest, fault: Fault) -> Reply | None:
        if fault.kind is Kind.BUILD_PROXY:
            return Reply(_PROXY[fault.amount % len(_PROXY)], _HTML, {"Content-Type": "text/html"})
        return server.refusal(request, fault)

    def _answered(
        self, server: Server, request: HttpRequest, reply: Reply, fault: Fault | None, timeout: Deadline
    ) -> Reply:
        """Return the answer that arrives."""
        match fault.kind if fault else None:
            case Kind.BUILD_ANSWER_LOST if fault:
                if fault.amount:
                    self._wait(timeout)
                    raise requests.Timeout("no answer in time")
                raise requests.ConnectionError("connection reset")
            case Kind.BUILD_ANSWER_LATE | Kind.CONFIG_SLOW if fault:
                self._delay(fault.amount * MILLISECOND, timeout)
            case Kind.PUBLISH_ANSWER_LOST:
                raise requests.ConnectionError("connection reset")
            case Kind.BUILD_ANSWER_BROKEN if fault:
                return _broken(fault.amount, is_list=server.method(request).endswith(_LISTS))
            case Kind.BUILD_STALE | Kind.BUILD_SEARCH_LAG | Kind.BUILD_LIST_LAG if fault:
                as_of = self._outside.kernel.now() - fault.amount * SECOND
                return server.answer(request, as_of=as_of, fault=None)
        return reply

    def _delay(self, nanoseconds: int, timeout: Deadline) -> None:
        left = round(timeout.left() * SECOND)
        if nanoseconds > left:
            self._wait(timeout)
            raise requests.Timeout("the answer is not complete in time")
        self._outside.sleep(nanoseconds)

    def _wait(self, timeout: Deadline) -> None:
        self._outside.sleep(round(timeout.left() * SECOND) + 1_000)  # the clock of a deadline is a float


def _land(server: Server, request: HttpRequest, at: Instant) -> None:
    """Carry a request out after its caller has given up."""
    server.answer(request, as_of=at, fault=None)


def _broken(which: int, *, is_list: bool) -> Reply:
    # A list without builds is an empty object. No client could recognize it as the word of a proxy.
    empty = b"[]" if is_list else b"{}"
    bodies: Iterable[tuple[int, bytes]] = ((200, b"<html>"), (200, empty), (403, _HTML), (400, _HTML))
    status, body = list(bodies)[which % 4]
    headers = {"X-Prpc-Grpc-Code": "0"} if status == 200 else {"Content-Type": "text/html"}  # noqa: PLR2004 - HTTP
    return Reply(status, body, headers)
