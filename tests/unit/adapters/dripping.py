"""A server with an endless answer: an occasional byte keeps a call alive whose timeout applies to each read."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PAUSE = 0.02  # seconds
_MOST = 1000  # bytes: then the answer is complete

HEAD = b"HTTP/1.1 200 OK\r\nX-Prpc-Grpc-Code: 0\r\nContent-Length: %d\r\n\r\n{" % (_MOST + 2)
"""In the middle of the body."""
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nX-Long: "
"""In the middle of a header."""


@contextmanager
def dripping(beginning: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve one answer with this beginning, which then drips; encrypted if ``tls`` is given. Yield the base URL."""
    stopped = threading.Event()

    def serve() -> None:
        with server, server.accept()[0] as plain, encrypted(plain) as connection:
            connection.recv(1 << 16)
            connection.sendall(beginning)
            for _ in range(_MOST):
                if stopped.wait(_PAUSE):
                    return
                try:
                    connection.sendall(b" ")
                except OSError:
                    return  # the client has gone
            connection.sendall(b"}")

    def encrypted(plain: socket.socket) -> socket.socket:
        return tls.wrap_socket(plain, server_side=True) if tls else plain

    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stopped.set()
        thread.join()
