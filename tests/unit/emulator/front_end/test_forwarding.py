"""Requests through an entrance to a server on loopback: unchanged, bounded in size, and limited in time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from emulator.front_end import entrance, forward
from emulator.front_end.entrance import Entrance
from emulator.front_end.exchange import ANSWERED_BY, Answer, Handler, Message
from emulator.front_end.forward import Forward
from emulator.serving.local_server import LocalServer
from emulator.tcp_ports import HOST, free_port

SHORT = 0.3
"""Seconds; the servers of these tests would answer much later, or never."""


@contextmanager
def serving(answer: Callable[[Request], Response]) -> Iterator[str]:
    """Run a server; yield its base URL."""
    server = LocalServer(Request.application(answer), HOST, 0)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def entered(handler: Handler, seconds: float = 60.0) -> Iterator[str]:
    """Run an entrance; yield its base URL."""
    port = free_port()
    door = Entrance(handler, port, request_seconds=seconds)
    door.start()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        door.stop()


@contextmanager
def raw_server(send: Callable[[socket.socket, threading.Event], object]) -> Iterator[str]:
    """Run a server that accepts one connection and does as it likes; the event ends the test."""
    done = threading.Event()
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                send(connection, done)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def ask(url: str, method: str = "GET", body: bytes = b"", seconds: float = SHORT) -> Answer:
    """Send a request with a short limit."""
    return Forward(url, seconds)(Message(method, "/x", Headers({"Host": "h"}), body, HOST))


def test_a_request_and_its_answer_pass_unchanged() -> None:
    """Path, query, headers and body; the answer's headers, redirect included."""
    seen = []

    def function(request: Request) -> Response:
        seen.append((request.environ["REQUEST_URI"], request.headers.get("X-A"), request.host, request.get_data()))
        answer = Response(b"\x00body", 201, {"X-B": "b", "Content-Encoding": "odd", "Content-Type": "a/b"})
        answer.headers.add("Set-Cookie", "a=1")
        answer.headers.add("Set-Cookie", "b=2")
        answer.headers["Location"] = "/elsewhere"
        answer.autocorrect_location_header = False
        return answer

    with serving(function) as url, entered(Forward(url, 30)) as door:
        sent = requests.Request("POST", f"{door}/a%2Fb//c?d=%20&e", headers={"X-A": "a"}, data=b"\xff").prepare()
        sent.url = f"{door}/a%2Fb//c?d=%20&e"
        with requests.Session() as session:
            got = session.send(sent, allow_redirects=False, stream=True)
            assert got.raw.read(decode_content=False) == b"\x00body"
    assert seen == [("/a%2Fb//c?d=%20&e", "a", door.removeprefix("http://"), b"\xff")]
    assert got.status_code == 201
    assert got.headers["Location"] == "/elsewhere"
    assert got.headers["X-B"] == "b"
    assert got.headers["Content-Encoding"] == "odd"
    assert got.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert got.headers[ANSWERED_BY] == "function"


def test_an_answer_to_head_keeps_its_length() -> None:
    """The length is that of the body that GET gets."""
    with serving(lambda _: Response(b"12345")) as url, entered(Forward(url, 30)) as door:
        assert requests.head(door, timeout=30).headers["Content-Length"] == "5"
        assert requests.get(door, timeout=30).content == b"12345"


def test_a_server_that_refuses_the_connection_is_503() -> None:
    """The container is down."""
    assert ask(f"http://{HOST}:{free_port()}").status == 503


def test_a_server_that_breaks_off_is_503() -> None:
    """In the middle of a body, and without any answer."""

    def half(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with raw_server(half) as url:
        assert ask(url, seconds=30).status == 503
    with raw_server(lambda connection, _: connection.close()) as url:
        assert ask(url, seconds=30).status == 503


def test_a_silent_server_is_504() -> None:
    """It accepts the request and never answers."""
    with raw_server(lambda _, done: done.wait(60)) as url:
        assert ask(url).status == 504


def test_a_server_that_sends_single_bytes_is_504() -> None:
    """The limit covers the whole answer, so a byte now and then does not extend it."""

    def dribble(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not done.wait(SHORT / 10):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    with raw_server(dribble) as url:
        assert ask(url).status == 504


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger request is 413 and never reaches the function; a larger answer is 500."""
    monkeypatch.setattr(forward, "MAX_BODY", 10)
    monkeypatch.setattr(entrance, "MAX_BODY", 10)
    seen = []

    def function(request: Request) -> Response:
        seen.append(request.get_data())
        return Response(b"x" * int(request.args["size"]))

    with serving(function) as url, entered(Forward(url, 30)) as door:

        def post(sent: int, size: int) -> int:
            return requests.post(f"{door}/?size={size}", data=b"x" * sent, timeout=30).status_code

        assert post(10, 10) == 200
        assert post(11, 10) == 413
        assert post(10, 11) == 500
    assert len(seen) == 2


def test_a_client_that_never_finishes_its_request_is_408() -> None:
    """Its body does not arrive in time, however slowly it sends."""
    with (
        entered(lambda _: Answer(200, Headers()), SHORT) as door,
        socket.create_connection((HOST, int(door.rpartition(":")[2])), timeout=60) as client,
    ):
        client.sendall(f"POST / HTTP/1.1\r\nHost: {door[7:]}\r\nContent-Length: 5\r\n\r\nab".encode())
        assert client.recv(100).split(b" ")[1] == b"408"


def test_pages_of_other_sites_do_not_pass() -> None:
    """The guard of all local servers stands before the front end, because a cookie opens the console."""
    with entered(lambda _: Answer(200, Headers())) as door:
        assert requests.get(door, timeout=30).status_code == 200
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            assert requests.get(door, headers=headers, timeout=30).status_code == 403
