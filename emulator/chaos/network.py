"""An observed network of a local cloud: it counts each call between the parts, and lets a test interfere."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar

from emulator.chaos.relays import Call, CutError, GrpcRelay, HttpRelay, HttpResponse, Interfere
from emulator.supervisor import FUNCTIONS

__all__ = ["Network", "Tripwire", "pass_on", "thrice"]

T = TypeVar("T")


def pass_on(_: Call, send: Callable[[], T], /) -> T:
    """Send a call unchanged."""
    return send()


def thrice(call: Call, send: Callable[[], T]) -> T:
    """Deliver each message and task three times in parallel. It counts as taken once all three succeed."""
    if call.server not in FUNCTIONS or not call.key():
        return send()
    with ThreadPoolExecutor(3) as pool:
        responses = [future.result() for future in [pool.submit(send) for _ in range(3)]]
    return max(responses, key=lambda response: response.status if isinstance(response, HttpResponse) else 0)


class Network:
    """Puts a relay before each server of a local cloud. Close it after the local cloud.

    Attributes:
        interfere: decides about each call; may be replaced at any time.
        deliveries: how often each message and task was delivered to a function, by `Call.key`.
        urls: the base URLs of the relays, by server name.
        calls: how often each method of each server was called, by ``(server, method)``.
    """

    def __init__(self, interfere: Interfere = pass_on) -> None:
        self.interfere = interfere
        self.deliveries: Counter[str] = Counter()
        self.urls: dict[str, str] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        self._taken: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
        self._lock = threading.Lock()
        self._relays = ExitStack()

    def http(self, name: str, url: str) -> str:
        """Put a relay before an HTTP server; return the relay's base URL."""
        relay = HttpRelay(name, url, self._carry)
        self._relays.callback(relay.stop)
        self.urls[name] = relay.url
        return relay.url

    def grpc(self, name: str, address: str) -> str:
        """Put a relay before a gRPC server; return the relay's ``host:port``."""
        relay = GrpcRelay(name, address, self._carry)
        self._relays.callback(relay.stop)
        return relay.address

    def taken(self, server: str) -> set[str]:
        """Return the keys of the messages and tasks that a function handled successfully."""
        with self._lock:
            return set(self._taken[server])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._relays.close()

    def _carry(self, call: Call, send: Callable[[], T]) -> T:
        key = call.key() if call.server in FUNCTIONS else ""
        with self._lock:
            self.calls[call.server, call.method] += 1

        def counted() -> T:
            if key:
                with self._lock:
                    self.deliveries[key] += 1
            return send()

        response = self.interfere(call, counted)
        if key and isinstance(response, HttpResponse) and response.status < 300:  # noqa: PLR2004 - HTTP
            with self._lock:
                self._taken[call.server].add(key)
        return response


class Tripwire:
    """Acts at the ``number``-th future call of a method, usually by killing a function. All other calls pass.

    Args:
        server: the name of the called server.
        method: as in `Call`.
        when: ``before`` the server receives the call, or ``after`` it completed the call. In both cases the caller gets
            no response.
        action: runs once.
        number: the number of the call, counted from one.
    """

    def __init__(self, server: str, method: str, when: str, action: Callable[[], None], number: int = 1) -> None:
        self._wanted = (server, method)
        self._when = when
        self._action = action
        self._left = number
        self._lock = threading.Lock()
        self.tripped = threading.Event()

    def __call__(self, call: Call, send: Callable[[], T]) -> T:
        """Send a call, or cut it and act."""
        if not self._trips_at(call):
            return send()
        if self._when == "after":
            try:
                send()
            except CutError:
                with self._lock:
                    self._left = 1  # the server was down and did not see the call: act at the next call
                raise
        self._action()
        self.tripped.set()
        raise CutError

    def _trips_at(self, call: Call) -> bool:
        if (call.server, call.method) != self._wanted:
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0
