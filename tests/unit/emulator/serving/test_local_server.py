"""The HTTP server in a thread: ports, life, kept-alive connections, and requests of other sites."""

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from emulator.serving.emulated_server import EmulatedServer, ServerState
from emulator.serving.faults import Faults
from emulator.serving.local_server import LocalServer
from tests.waiting import until

HOST = "127.0.0.1"


@Request.application
def hello(request: Request) -> Response:
    """Respond with the path."""
    return Response(request.path)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A running server."""
    server = LocalServer(hello, HOST, 0)
    server.start()
    yield server
    server.stop()


def get(netloc: str, path: str = "/", **headers: str) -> tuple[int, bytes]:
    """Send a request over a new connection."""
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def test_a_started_server_accepts_connections_at_its_address(server: LocalServer) -> None:
    assert server.url == f"http://{server.netloc}"
    assert get(server.netloc, "/path") == (200, b"/path")


def test_the_port_is_unknown_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = LocalServer(hello, HOST, 0).url


def test_a_given_port_is_known_before_the_start() -> None:
    assert LocalServer(hello, HOST, 1234).netloc == f"{HOST}:1234"


def test_a_running_server_cannot_be_started_again(server: LocalServer) -> None:
    with pytest.raises(RuntimeError, match="running already"):
        server.start()


def test_a_port_in_use_is_an_error(server: LocalServer) -> None:
    with pytest.raises((OSError, SystemExit)):
        LocalServer(hello, HOST, int(server.netloc.rpartition(":")[2])).start()


def test_a_stopped_server_refuses_connections_and_starts_again_on_its_port(server: LocalServer) -> None:
    netloc = server.netloc
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        get(netloc)
    server.start()
    assert (server.netloc, get(netloc)[0]) == (netloc, 200)


def test_a_server_that_was_stopped_before_its_start_still_starts() -> None:
    server = LocalServer(hello, HOST, 0)
    server.stop()
    server.start()
    assert get(server.netloc)[0] == 200
    server.stop()


def test_stopping_closes_connections_of_running_requests_and_of_idle_clients() -> None:
    begun, released = threading.Event(), threading.Event()

    @Request.application
    def wait(_request: Request) -> Response:
        begun.set()
        released.wait(60)
        return Response("late")

    server = LocalServer(wait, HOST, 0)
    server.start()
    host, _, port = server.netloc.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as idle,
        socket.create_connection((host, int(port)), timeout=60) as waiting,
    ):
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert begun.wait(60)
        server.stop()
        assert (waiting.recv(1), idle.recv(1)) == (b"", b"")
    released.set()


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_reaches_no_server(server: LocalServer, header: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(server.netloc, timeout=60)
    connection.request("POST", "/", body=b"", headers=header)
    assert connection.getresponse().status == 403
    connection.close()


class TestEmulatedServer:
    """The part that the emulated services share."""

    @pytest.fixture
    def state(self) -> ServerState[Faults[Any], str]:
        """The state of a server."""
        return ServerState(Faults())

    @pytest.fixture
    def emulated(self, state: ServerState[Faults[Any], str]) -> Iterator[EmulatedServer[Faults[Any], str]]:
        """A running server."""
        server = EmulatedServer(hello, state, HOST, 0)
        server.start()
        yield server
        server.stop()

    def test_it_shares_its_state_with_the_application(self, emulated: Any, state: Any) -> None:
        state.log.add("request")
        assert (emulated.faults is state.faults, emulated.requests) == (True, ["request"])
        emulated.clear_requests()
        assert state.log.all() == []

    def test_it_switches_authentication(self, emulated: Any, state: Any) -> None:
        assert not emulated.strict_auth
        emulated.strict_auth = True
        assert state.strict_auth

    def test_it_serves_at_its_host(self, emulated: Any) -> None:
        assert emulated.url == f"http://{emulated.host}"
        assert get(emulated.host, "/x") == (200, b"/x")

    def test_stopping_ends_delays_and_starting_allows_them_again(self, emulated: Any, state: Any) -> None:
        assert not state.stopping.is_set()
        emulated.stop()
        assert state.stopping.is_set()
        emulated.start()
        assert not state.stopping.is_set()


def test_a_fault_of_an_application_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Its text may come from a repository or a request."""

    @Request.application
    def fails(_: Request) -> Response:
        raise RuntimeError("no \x1b]0;title\x07 such \x9b2J thing")

    server, parts = LocalServer(fails, HOST, 0), []

    def written() -> str:
        parts.append(capsys.readouterr().err)
        return "".join(parts)

    server.start()
    try:
        assert get(server.netloc)[0] == 500
        # The server answers first, and then writes.
        until(lambda: r"RuntimeError: no \x1b]0;title\a such \u009b2J thing" in written(), "the text of the fault")
    finally:
        server.stop()
    assert not [mark for mark in written() if not mark.isprintable() and mark != "\n"]
