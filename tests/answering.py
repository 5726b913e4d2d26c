"""A server on loopback that sends the answers that a test defines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "Answering", "answering"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Answering:
    """The server's answers: the next of ``answers``, or the result of ``otherwise`` for path and body."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.otherwise: Callable[[str, Any], Answer] = lambda _path, _body: Answer(404)
        self.paths: list[str] = []

    def answer(self, path: str, body: bytes) -> Answer:
        """Return the answer to a request."""
        self.paths.append(path)
        return self.answers.pop(0) if self.answers else self.otherwise(path, json.loads(body or b"{}"))


@contextmanager
def answering(always: Answer | None = None) -> Iterator[Answering]:
    """Serve on loopback; ``always`` is the answer to each request unless the test defines others."""
    said = Answering()
    if always is not None:
        said.otherwise = lambda _path, _body: always

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = said.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_PUT = do_POST  # noqa: N815 - names of the base class

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    said.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
