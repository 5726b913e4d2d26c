"""Names that do not resolve in time, addresses that do not answer in time, credentials that do not arrive in time."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import google.auth
import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError

from luci_scheduler.adapters import http
from luci_scheduler.adapters.http import Deadline, default_credentials, sessions
from luci_scheduler.adapters.sockets import bounded, connect
from luci_scheduler.core.errors import TransientError

LIMIT = 0.4  # seconds
SLACK = 10.0  # seconds that a busy machine may add


@pytest.fixture
def blocked() -> Iterator[Any]:
    """A call that blocks until the test ends."""
    over = threading.Event()
    yield lambda *_, **__: over.wait(60)
    over.set()


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener with a full backlog: connecting takes forever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.settimeout(0)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        _, connected, _ = select.select([], waiting[:1], [], SLACK)
        assert connected == waiting[:1]
        yield int(listener.getsockname()[1])
        for client in waiting:
            client.close()


def test_a_blocking_call_is_abandoned(blocked: Any) -> None:
    """A result or an error in time is the outcome."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        bounded(blocked, LIMIT)
    assert time.monotonic() - begun < LIMIT + SLACK
    assert bounded(lambda: 7, 30) == 7
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 30)


def test_all_addresses_together_have_one_limit(full: int) -> None:
    """A host with many addresses takes no longer than a host with one."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(["127.0.0.1"] * 40, full, LIMIT)
    assert LIMIT * 0.9 < time.monotonic() - begun < LIMIT + SLACK


def test_a_good_address_after_a_silent_address_is_reached(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address has its share of the time."""
    places = iter([("127.0.0.1", full)])
    create = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as good:
        monkeypatch.setattr(
            socket, "create_connection", lambda _, timeout: create(next(places, good.getsockname()), timeout=timeout)
        )
        with connect(["first", "second"], 1, 1.0) as reached:
            assert reached.getpeername() == good.getsockname()


def test_a_session_ends_at_its_deadline_during_resolution_and_connection(
    blocked: Any, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server, or the host's addresses."""
    session = sessions(authenticated=False)()
    for url, resolver in ((f"http://127.0.0.1:{full}/", None), ("http://name.invalid/", blocked)):
        if resolver:
            monkeypatch.setattr(socket, "getaddrinfo", resolver)
        begun = time.monotonic()
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=Deadline(LIMIT))  # type: ignore[arg-type] # any timeout of urllib3 will do
        assert time.monotonic() - begun < LIMIT + SLACK


def test_a_body_that_is_not_read_ends_at_the_deadline() -> None:
    """The server accepts the connection and reads nothing, so sending blocks."""
    session = sessions(authenticated=False)()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url, begun = f"http://127.0.0.1:{server.getsockname()[1]}/", time.monotonic()
        with pytest.raises(requests.RequestException):
            session.put(url, data=b"x" * (64 << 20), timeout=Deadline(LIMIT))  # type: ignore[arg-type]
        assert time.monotonic() - begun < LIMIT + SLACK


def test_credentials_that_do_not_arrive(blocked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent metadata server, for a session and for Google's libraries; and a server that refuses."""
    monkeypatch.setattr(http, "_tokens", {})
    monkeypatch.setattr(google.auth, "default", blocked)
    session, begun = sessions(authenticated=True)(), time.monotonic()
    with pytest.raises(requests.Timeout, match="no token"):
        session.get("http://127.0.0.1:1/", timeout=Deadline(LIMIT))  # type: ignore[arg-type]
    with pytest.raises(TransientError, match="credentials are not available: TimeoutError"):
        default_credentials(LIMIT)
    assert time.monotonic() - begun < 2 * LIMIT + SLACK

    def none(**_: Any) -> Any:
        raise DefaultCredentialsError("none")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(TransientError, match="credentials are not available: DefaultCredentialsError"):
        default_credentials(LIMIT)
