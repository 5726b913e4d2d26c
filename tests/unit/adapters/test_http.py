"""Sessions of many threads: one set of credentials, one token, shared connections; and deadlines."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google.auth
import pytest
import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError

from luci_scheduler.adapters import http
from luci_scheduler.adapters.http import Deadline, sessions
from tests.unit.adapters.dripping import HALF_A_HEAD, HEAD, dripping
from tests.waiting import until

THREADS = 8


class FakeCredentials(Credentials):
    """Credentials that count their tokens. A refresh waits for a second one, which must not come."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshed = 0
        self.together = threading.Event()
        self._refreshing = threading.Lock()

    def refresh(self, request: Any) -> None:
        """Fetch a token."""
        if not self._refreshing.acquire(blocking=False):
            self.together.set()
            return
        self.together.wait(0.1)
        self.refreshed += 1
        self.token = f"token-{self.refreshed}"
        self.expiry = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=1)
        self._refreshing.release()


class Server:
    """Answers every request, and keeps the connections and tokens that it saw."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connections: set[Any] = set()
        self.tokens: list[str | None] = []
        self.statuses: list[int] = []
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kept.connections.add(self.client_address)
                kept.tokens.append(self.headers["Authorization"])
                self.send_response(kept.statuses.pop(0) if kept.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on loopback."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[FakeCredentials]:
    """The result of each search for credentials."""
    found: list[FakeCredentials] = []

    def default(scopes: Any) -> Any:
        found.append(FakeCredentials())
        return found[-1], scopes

    monkeypatch.setattr(google.auth, "default", default)
    monkeypatch.setattr(http, "_tokens", {})
    return found


def test_one_token_for_all_threads(server: Server, looked: list[FakeCredentials]) -> None:
    """Any number of threads, and of session functions for the same scopes, share one token."""
    opened = [sessions(authenticated=True), sessions(authenticated=True)]
    start = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        start.wait(30)
        opened[number % 2]().get(server.url, timeout=Deadline(30))  # type: ignore[arg-type] # a timeout of urllib3

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
    (credentials,) = looked
    assert credentials.refreshed == 1
    assert not credentials.together.is_set()
    assert server.tokens == ["Bearer token-1"] * THREADS
    sessions(authenticated=True, scopes=("other",))().get(server.url, timeout=Deadline(30))  # type: ignore[arg-type]
    assert len(looked) == 2


@pytest.mark.parametrize("encrypted", [False, True])
def test_connections_outlive_their_threads(encrypted: bool, certificate: Path, tls: ssl.SSLContext) -> None:
    """Each delivery fans out over its own threads, which reuse the connections of earlier threads."""
    server = Server(tls if encrypted else None)
    opened = sessions(authenticated=False)
    try:
        for _ in range(3):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: opened().get(server.url, timeout=30, verify=str(certificate))).result(30)
    finally:
        server.stop()
    assert len(server.tokens) == 3
    assert len(server.connections) == 1


@pytest.mark.parametrize("beginning", [HEAD, HALF_A_HEAD])
def test_an_encrypted_answer_ends_at_the_deadline(beginning: bytes, certificate: Path, tls: ssl.SSLContext) -> None:
    """An encrypted answer ends at its deadline, like an unencrypted answer."""
    session = sessions(authenticated=False)()
    with dripping(beginning, tls) as url, pytest.raises(requests.RequestException, match="timed out"):
        session.get(url, timeout=Deadline(0.5), verify=str(certificate))  # type: ignore[arg-type]


def test_missing_credentials_are_searched_again(
    server: Server, looked: list[FakeCredentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without credentials just now may have them later."""
    found = google.auth.default

    def none(scopes: Any) -> Any:
        raise DefaultCredentialsError("none")  # type: ignore[no-untyped-call]

    session = sessions(authenticated=True)()
    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(DefaultCredentialsError):
        session.get(server.url, timeout=Deadline(30))  # type: ignore[arg-type] # a timeout of urllib3
    monkeypatch.setattr(google.auth, "default", found)
    session.get(server.url, timeout=Deadline(30))  # type: ignore[arg-type]
    assert len(looked) == 1


def test_no_request_is_sent_after_the_deadline(server: Server) -> None:
    """The deadline also holds if the time passed while a token was fetched."""
    deadline = Deadline(1e-9)
    while not deadline.passed:
        pass
    with pytest.raises(requests.Timeout):
        sessions(authenticated=False)().get(server.url, timeout=deadline)  # type: ignore[arg-type]
    assert server.tokens == []


def test_a_refused_token_is_renewed_once(server: Server, looked: list[FakeCredentials]) -> None:
    """A token may be revoked before it expires. A second refusal is the answer."""
    server.statuses = [401]
    session = sessions(authenticated=True)()
    assert session.get(server.url, timeout=Deadline(30)).status_code == 200  # type: ignore[arg-type]
    assert server.tokens == ["Bearer token-1", "Bearer token-2"]
    server.statuses = [401, 401]
    assert session.get(server.url, timeout=Deadline(30)).status_code == 401  # type: ignore[arg-type]


def test_a_token_that_expires_soon_is_used_while_it_is_renewed(server: Server, looked: list[FakeCredentials]) -> None:
    """A slow metadata server costs nothing while there is a good token."""
    session = sessions(authenticated=True)()
    session.get(server.url, timeout=Deadline(30))  # type: ignore[arg-type] # a timeout of urllib3
    (credentials,) = looked
    credentials.expiry = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(minutes=2)
    session.get(server.url, timeout=Deadline(30))  # type: ignore[arg-type]
    assert server.tokens[-1] == "Bearer token-1"
    until(lambda: credentials.refreshed == 2)
    session.get(server.url, timeout=Deadline(30))  # type: ignore[arg-type]
    assert server.tokens[-1] == "Bearer token-2"


def test_addresses_in_brackets_and_invalid_names() -> None:
    """An IPv6 address is contacted as it is. A name that no resolver accepts is an ordinary error."""
    session = sessions(authenticated=False)()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(requests.RequestException, match="timed out"):
            session.get(f"http://[::1]:{port}/", timeout=Deadline(0.3))  # type: ignore[arg-type] # a timeout of urllib3
        listener.accept()[0].close()
    with pytest.raises(requests.RequestException):
        session.get(f"http://{'a' * 64}.example/", timeout=Deadline(5))  # type: ignore[arg-type]
