"""The network of a local cloud under observation: every call between its parts is counted, and may be interfered with."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar

from emulator.storm.relays import Answer, Call, CutError, GrpcRelay, HttpRelay, Interfere
from emulator.supervisor import FUNCTIONS

__all__ = ["Network", "Tripwire", "pass_on", "thrice"]

T = TypeVar("T")


def pass_on(_: Call, send: Callable[[], T], /) -> T:
    """Leave a call alone."""
    return send()


def thrice(call: Call, send: Callable[[], T]) -> T:
    """Deliver every message and task three times, in parallel; it counts as taken once all three are."""
    if call.wire not in FUNCTIONS or not call.key():
        return send()
    with ThreadPoolExecutor(3) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(3)]]
    return max(answers, key=lambda answer: answer.status if isinstance(answer, Answer) else 0)


class Network:
    """``Interceptors`` with a relay before every server; ``interfere`` may be replaced at any time. Close it after its local cloud.

    Attributes:
        interfere: decides what becomes of each call.
        deliveries: how often each message and task was brought to a function, by `Call.key`.
        urls: the base URLs that were handed out, by name.
        calls: how often each method of each server was called, by ``(wire, method)``.
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
        """Put a relay before an HTTP server; return its base URL."""
        relay = HttpRelay(name, url, self._carry)
        self._relays.callback(relay.stop)
        self.urls[name] = relay.url
        return relay.url

    def grpc(self, name: str, address: str) -> str:
        """Put a relay before a gRPC server; return its ``host:port``."""
        relay = GrpcRelay(name, address, self._carry)
        self._relays.callback(relay.stop)
        return relay.address

    def taken(self, wire: str) -> set[str]:
        """Return the keys of the messages and tasks that a function has answered with a success."""
        with self._lock:
            return set(self._taken[wire])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._relays.close()

    def _carry(self, call: Call, send: Callable[[], T]) -> T:
        key = call.key() if call.wire in FUNCTIONS else ""
        with self._lock:
            self.calls[call.wire, call.method] += 1

        def counted() -> T:
            if key:
                with self._lock:
                    self.deliveries[key] += 1
            return send()

        answer = self.interfere(call, counted)
        if key and isinstance(answer, Answer) and answer.status < 300:  # noqa: PLR2004 - HTTP
            with self._lock:
                self._taken[call.wire].add(key)
        return answer


class Tripwire:
    """Does something, usually kills, at the ``number``-th call of a method from now on; all other calls pass.

    Args:
        wire: the server called.
        method: as in `Call`.
        when: ``before`` the server has seen the call, or ``after`` it has carried it out; either way the caller gets no answer.
        action: what is done, once.
        number: which call, counted from one.
    """

    def __init__(self, wire: str, method: str, when: str, action: Callable[[], None], number: int = 1) -> None:
        self._wanted = (wire, method)
        self._when = when
        self._action = action
        self._left = number
        self._lock = threading.Lock()
        self.tripped = threading.Event()

    def __call__(self, call: Call, send: Callable[[], T]) -> T:
        """Interfere."""
        if not self._is_it(call):
            return send()
        if self._when == "after":
            try:
                send()
            except CutError:
                with self._lock:
                    self._left = 1  # nobody was there to carry it out: the next one is it
                raise
        self._action()
        self.tripped.set()
        raise CutError

    def _is_it(self, call: Call) -> bool:
        if (call.wire, call.method) != self._wanted:
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0
