"""What the suite needs around the server: a target that records, and a client."""

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
    """One request as it came in; header names in lower case, as HTTP means them."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Script:
    """What a path answers: statuses in turn, then 200; extra headers; whether it waits for `Target.release`."""

    statuses: deque[int] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    is_held: bool = False


class Target:
    """An HTTP server that records what it is sent and answers as told."""

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
                    return  # the server under test hung up; a test of that looks at the server

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Stay silent."""

        for method in METHODS:
            setattr(Handler, f"do_{method}", Handler._answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path: str = "/") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def at(self, path: str) -> list[Received]:
        """What came to a path, in order."""
        return [received for received in list(self.received) if received.path == path]

    def release(self) -> None:
        """Let the held requests answer."""
        self._released.set()

    def close(self) -> None:
        """Stop."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def client_of(server: CloudTasksServer) -> Iterator[tasks_v2.CloudTasksClient]:
    """The real client, pointed at the server as an application would be."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
