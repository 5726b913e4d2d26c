"""Helpers of the suite: a target that records requests, and a client."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from emulator.cloud_tasks import CloudTasksServer

LOCATION = "projects/test-project/locations/us-central1"
START = 1_773_756_432_882_000_000
METHODS = ("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
_HOLD_SECONDS = 60.0
"""How long a request is held at most, if nobody releases it."""


@dataclass(frozen=True)
class Received:
    """A received request; header names are in lower case, because HTTP ignores case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Script:
    """The responses of a path: statuses in order, then 200; extra headers; whether it waits for `Target.release`."""

    statuses: deque[int] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    is_held: bool = False


class Target:
    """An HTTP server that records requests and responds as scripted."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.scripts: dict[str, Script] = defaultdict(Script)
        self.holds = 0
        """How many requests wait for `release` at this moment."""
        self._released = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script = target.scripts[self.path]
                target.received.append(Received(self.command, self.path, headers, body, time.monotonic()))
                if script.is_held:
                    target.holds += 1
                    target._released.wait(_HOLD_SECONDS)
                    target.holds -= 1
                try:
                    self.send_response(script.statuses.popleft() if script.statuses else 200)
                    for name, value in script.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except ConnectionError:
                    return  # the server under test hung up; tests check that at the server

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Write nothing."""

        for method in METHODS:
            setattr(Handler, f"do_{method}", Handler._answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path: str = "/") -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def at(self, path: str) -> list[Received]:
        """The requests to a path, in order."""
        return [received for received in list(self.received) if received.path == path]

    def release(self) -> None:
        """Let the held requests complete."""
        self._released.set()

    def close(self) -> None:
        """Stop."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def client_of(server: CloudTasksServer) -> Iterator[tasks_v2.CloudTasksClient]:
    """Return the real client, connected to the server like an application's client."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
