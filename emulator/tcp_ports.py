"""TCP ports for the servers of a local cloud."""

from __future__ import annotations

import random
import socket
import threading

from emulator.errors import LocalCloudError

__all__ = ["HOST", "free_port", "is_free", "is_open", "require_free"]

HOST = "127.0.0.1"
"""The only address that anything of the local cloud listens on."""

# Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections: one of those could take
# a port between its choice and its use, or while a function that listens on it is being restarted.
_RANGE = range(18_000, 32_000)
_TRIES = 200
_given: set[int] = set()
_lock = threading.Lock()
_entropy = random.SystemRandom()


def free_port() -> int:
    """Return an unused port that this function has not returned before."""
    with _lock:
        for _ in range(_TRIES):
            port = _entropy.choice(_RANGE)
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise LocalCloudError(f"no free port between {_RANGE.start} and {_RANGE.stop}: end programs that listen there")


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        # As servers do: what lingers of a connection that ended does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Return whether a server accepts connections on ``port``."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def require_free(port: int, what: str) -> int:
    """Return ``port`` (0: a free one) for ``what``.

    Raises:
        LocalCloudError: something listens there already.
    """
    if port == 0:
        return free_port()
    if not is_free(port):
        raise LocalCloudError(
            f"port {port} for {what} is in use: end the program that listens there, "
            "or choose another port (0: any free one)"
        )
    return port
