"""Blocking calls and connections, each with one total time limit."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

__all__ = ["bounded", "connect", "resolve"]

T = TypeVar("T")


def bounded(call: Callable[[], T], seconds: float) -> T:
    """Return the result of a call that accepts no timeout, or raise its error.

    Raises:
        TimeoutError: the call did not return in time. It continues in its thread, which ends with it.
    """
    results: queue.SimpleQueue[tuple[bool, T | Exception]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((True, call()))
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            results.put((False, error))

    threading.Thread(target=run, daemon=True, name="bounded").start()
    try:
        _, result = results.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise TimeoutError("a blocking call did not return in time") from None
    if isinstance(result, Exception):
        raise result
    return result


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the numeric addresses of a host, in the order of the system's resolver. May block for a long time.

    Raises:
        OSError: the name has no address, or the resolver does not answer.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def connect(addresses: Sequence[str], port: int, seconds: float) -> socket.socket:
    """Connect to the first address that accepts the connection. Each may use its share of the remaining time.

    Args:
        addresses: at least one, numeric.
        port: the port.
        seconds: the limit for all of them together.

    Raises:
        OSError: the last address does not accept the connection; TimeoutError if it does not in time.
    """
    end = time.monotonic() + seconds

    def left() -> float:
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no address accepted the connection in time")
        return remaining

    *others, last = addresses
    for place, address in enumerate(others):
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=left() / (len(addresses) - place))
    return socket.create_connection((last, port), timeout=left())
