"""Redirects of a Buildbucket server: the request holds a token, so it goes to the configured server and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from emulator.memory.sources import ManualClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError

BODY = {"notify": {"userData": "the token"}}


@contextmanager
def _answering(status: int, headers: dict[str, str], body: bytes = b"{}") -> Iterator[tuple[str, list[str]]]:
    """Answer every request on loopback in the same way; yield the address, and a list that grows by each request's line."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            requests.append(self.requestline)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that the library looks for

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _client(url: str) -> BuildbucketClient:
    return BuildbucketClient(
        lambda _: url, sessions(authenticated=False), ManualClock(Instant(100 * SECOND)), 5 * SECOND
    )


def _v1_put(client: BuildbucketClient) -> Any:
    return client.v1("host", "PUT", "builds", BODY)


def _v1_get(client: BuildbucketClient) -> Any:
    return client.v1("host", "GET", "builds/1")


def _v2(client: BuildbucketClient) -> Any:
    return client.v2("host", "ScheduleBuild", BODY)


@pytest.mark.parametrize("call", [_v1_put, _v1_get, _v2])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int, call: Any) -> None:
    """The second server, which would answer well, gets no request."""
    with (
        _answering(200, {"X-Prpc-Grpc-Code": "0"}) as (elsewhere, strayed),
        _answering(status, {"Location": f"{elsewhere}/builds"}, b"moved") as (url, received),
        pytest.raises(BuildbucketError),
    ):
        call(_client(url))
    assert len(received) == 1
    assert strayed == []


@pytest.mark.parametrize("call", [_v1_put, _v1_get, _v2])
def test_the_second_server_answers_well(call: Any) -> None:
    """The control of the test above: asked directly, that server's answer is taken."""
    with _answering(200, {"X-Prpc-Grpc-Code": "0"}) as (url, received):
        assert call(_client(url)) == {}
    assert len(received) == 1
