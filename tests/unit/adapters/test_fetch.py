"""The fetch client against loopback servers with good, bad, slow, endless and redirected answers."""

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.adapters import fetch
from luci_scheduler.adapters.fetch import FetchClient
from luci_scheduler.core.instants import MILLISECOND, SECOND
from luci_scheduler.ports import Fetched, FetchError

HOST = "site.example"
Reply = Callable[[socket.socket, str], None]


class Server:
    """A TCP server on loopback. It keeps each connection's request; ``reply`` answers it."""

    def __init__(self, reply: Reply, context: ssl.SSLContext | None = None) -> None:
        self._reply = reply
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]
        self.requests: list[str] = []
        self.server_names: list[str | None] = []
        self.stopped = threading.Event()
        if context is not None:
            context.sni_callback = lambda _connection, name, _context: self.server_names.append(name)
        self._start(self._accept)

    def url(self, path: str = "/", host: str = HOST, scheme: str = "http") -> str:
        """Return a URL of the server."""
        return f"{scheme}://{host}:{self.port}{path}"

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        try:
            with connection, self._wrapped(connection) as wrapped:
                request = b""
                while not request.endswith(b"\r\n\r\n") and (piece := wrapped.recv(4096)):
                    request += piece
                if request.endswith(b"\r\n\r\n"):
                    self.requests.append(request.decode())
                    self._reply(wrapped, request.decode())
        except OSError:
            pass  # the client hung up, as some tests intend

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        return self._context.wrap_socket(connection, server_side=True) if self._context else connection

    def stop(self) -> None:
        """End the server and its threads."""
        self.stopped.set()
        with socket.socket() as last:  # wakes ``accept``
            last.connect(("127.0.0.1", self.port))
        for thread in self._threads:
            thread.join(30)
        self._listener.close()


@contextmanager
def serving(reply: Reply | bytes, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve while the block runs."""
    server = Server(reply if callable(reply) else lambda connection, _: connection.sendall(reply), context)
    try:
        yield server
    finally:
        server.stop()


def client(**arguments: Any) -> FetchClient:
    """Return a client that finds HOST on loopback and may contact it."""
    arguments.setdefault("resolve", lambda _host, _port: ["127.0.0.1"])
    return FetchClient(**{"allowed_hosts": [HOST], "plain_http": True, **arguments})


def get(url: str, timeout: int = 30 * SECOND, max_bytes: int = 4096, **arguments: Any) -> Fetched:
    """Fetch with a client of ``arguments``."""
    return client(**arguments).get(url, timeout, max_bytes)


def refusal(url: str, timeout: int = 30 * SECOND, **arguments: Any) -> str:
    """Return the reason for a refused fetch."""
    with pytest.raises(FetchError) as raised:
        get(url, timeout, **arguments)
    return str(raised.value)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of all connections; each connection goes to loopback instead."""
    addresses: list[str] = []
    connect = socket.create_connection

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        addresses.append(address[0])
        return connect(("127.0.0.1", address[1]), timeout=timeout)

    monkeypatch.setattr(fetch.socket, "create_connection", dial)
    return addresses


def test_answer_and_request() -> None:
    """The whole answer is returned. The request names the host, requests no encoding and carries no credentials."""
    with serving(b"HTTP/1.1 404 Not \xc3\xbc\r\nX: \xc3\xbc\r\nx: 2\r\nContent-Length: 5\r\n\r\nhello") as server:
        answer = get(server.url("/a?b=\u00fc"))
    headers = (("X", "\u00fc"), ("x", "2"), ("Content-Length", "5"))
    assert answer == Fetched(404, "404 Not \u00fc", headers, b"hello", 5)
    (request,) = server.requests
    assert request == (
        f"GET /a?b=%C3%BC HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nUser-Agent: luci-scheduler\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )


def test_https_names_the_host_and_checks_it(certificate: Path, tls: ssl.SSLContext) -> None:
    """SNI and certificate are those of the URL's host, although the connection goes to an address."""
    trusted = {"trusted_certificates": str(certificate), "plain_http": False}
    with serving(b"HTTP/1.1 204 No Content\r\n\r\n", tls) as server:
        assert get(server.url(scheme="https"), **trusted).code == 204
        assert server.server_names == [HOST]
        assert get(server.url(host="127.0.0.1", scheme="https"), allowed_hosts=["127.0.0.1"], **trusted).code == 204
        other = refusal(server.url(host="other.example", scheme="https"), allowed_hosts=["other.example"], **trusted)
        untrusted = refusal(server.url(scheme="https"))
    assert other.startswith("the certificate of other.example is not valid: Hostname mismatch")
    assert untrusted.startswith(f"the certificate of {HOST} is not valid: self")
    assert len(server.requests) == 2


def test_plain_http_needs_permission() -> None:
    """Except in the local cloud, only https is allowed, and a redirect cannot avoid that."""
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        assert "only https is allowed" in refusal(server.url(), plain_http=False)
    assert server.requests == []


LITERALS = [
    "127.0.0.1", "127.0.0.1.", "10.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.0.1", "224.0.0.1", "240.0.0.1",
    "0.0.0.0",  # noqa: S104
    "255.255.255.255", "2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.1", "127.1",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::1]", "[fe80::1]", "[fd20:ce::254]", "[fd00::1]", "[ff02::1]", "[fe80::1%25lo]", "localhost",
    "LOCALHOST.", "a.localhost", "metadata.google.internal", "METADATA.google.internal.", "metadata",
    "user@example.com", "example.com@127.0.0.1", "\uff11\uff12\uff17.0.0.1", "127.0.0.1\\@example.com",
]  # fmt: skip


@pytest.mark.parametrize("host", LITERALS)
def test_hosts_that_are_refused_without_a_request(host: str, dialled: list[str]) -> None:
    """A forbidden host is neither resolved nor connected to, in any spelling."""

    def resolver(_host: str, _port: int) -> Sequence[str]:
        raise AssertionError("no name may be resolved")

    refusal(f"http://{host}/", resolve=resolver)
    assert dialled == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["fd20:ce::254"], ["fe80::1%lo"], ["::ffff:8.8.8.8"], []]
)
def test_names_with_a_bad_address_are_refused(addresses: list[str], dialled: list[str]) -> None:
    """One address that is not public refuses the name."""
    refusal("http://other.example/", resolve=lambda _host, _port: addresses)
    assert dialled == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd20:ce::254", "fe80::1", "0.0.0.0", "224.0.0.1"],  # noqa: S104
)
def test_allowed_hosts_reach_private_networks_only(address: str, dialled: list[str]) -> None:
    """Even an allowed host never leads to the metadata server or to link-local addresses."""
    assert "is refused" in refusal(f"http://{HOST}/", resolve=lambda _host, _port: [address])
    assert dialled == []


def test_a_refusal_names_the_remedy() -> None:
    """A private host can be allowed, the metadata server cannot. The error does not reveal the address."""
    private = refusal("http://other.example/", resolve=lambda _host, _port: ["10.1.2.3"])
    assert private == (
        "other.example is refused: it has an address that is not public; "
        "to allow it, add it to SCHEDULER_FETCH_ALLOWED_HOSTS"
    )
    metadata = refusal("http://other.example/", resolve=lambda _host, _port: ["169.254.169.254"])
    assert metadata == "other.example is refused: it has an address that is not public"


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://93.184.216.34/", "http://[2606:2800::1]/", "http://10.1.2.3/"]
)
def test_the_local_cloud_reaches_allowed_hosts_only(url: str) -> None:
    """Others are refused before their names are resolved, also as the target of a redirect."""
    host = url.split("/")[2].strip("[]")
    sentence = (
        f"{host} is refused: the local cloud fetches from this machine only; "
        f"to allow it, start it with --allow-fetch {host}"
    )
    asked: list[str] = []

    def resolve(name: str, _: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    assert refusal(url, only_allowed=True, resolve=resolve) == sentence
    with serving(f"HTTP/1.1 302 Found\r\nLocation: {url}\r\n\r\n".encode()) as server:
        assert refusal(server.url(), only_allowed=True, resolve=resolve) == sentence
    assert asked == [HOST]


def test_a_rebound_name_has_no_effect(dialled: list[str]) -> None:
    """The name is resolved once, and the connection goes to the checked address."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        get(server.url(host="other.example"), resolve=lambda _host, _port: next(answers))
    assert dialled == ["93.184.216.34"]
    assert next(answers) == ["127.0.0.1"]


def test_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that does not answer is skipped."""
    connect = socket.create_connection

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError(111, "Connection refused")
        return connect(address, timeout=timeout)

    monkeypatch.setattr(fetch.socket, "create_connection", dial)
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        assert get(server.url(), resolve=lambda _host, _port: ["8.8.8.8", "127.0.0.1"]).code == 200
        error = refusal(server.url(), resolve=lambda _host, _port: ["8.8.8.8", "8.8.4.4"])
    assert error == f"no answer from {HOST}: Connection refused"


def redirecting(location: str) -> bytes:
    """Return an answer that redirects."""
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/", "http://10.0.0.1/", "http://169.254.169.254/computeMetadata/v1/", "//[::1]/",
        "http://metadata.google.internal/", "http://private.example/", "http://2130706433/", "file:///etc/passwd",
        "gopher://example.com/", "http://canary:canary@example.com/", "http://[::1/", "/a\\b",
    ],
)  # fmt: skip
def test_redirect_to_a_refused_target(location: str) -> None:
    """Each redirect is checked again. The error does not repeat the server's text."""
    addresses = {HOST: ["127.0.0.1"], "private.example": ["192.168.0.1"]}
    with serving(redirecting(location)) as server:
        error = refusal(server.url(), resolve=lambda host, _port: addresses[host])
    assert len(server.requests) == 1
    assert "canary" not in error


def test_redirect_from_https_to_http(certificate: Path, tls: ssl.SSLContext) -> None:
    """A redirect does not lead out of https."""
    with serving(redirecting(f"http://{HOST}/"), tls) as server:
        error = refusal(server.url(scheme="https"), trusted_certificates=str(certificate), plain_http=False)
    assert "only https is allowed" in error


def test_redirects_are_followed() -> None:
    """Relative and absolute redirects are followed up to an answer that is not a redirect, or has no target."""

    def reply(connection: socket.socket, request: str) -> None:
        path = request.split()[1]
        answers = {"/a": redirecting("b?x#y"), "/b?x": redirecting(server.url("/c")), "/c": b"HTTP/1.1 307 T\r\n\r\n"}
        connection.sendall(answers[path])

    with serving(reply) as server:
        assert get(server.url("/a")).status == "307 T"
    assert [request.split()[1] for request in server.requests] == ["/a", "/b?x", "/c"]


def test_redirects_are_bounded() -> None:
    """A fetch sends at most eleven requests."""
    with serving(redirecting("/again")) as server:
        assert refusal(server.url()) == "stopped after 10 redirects"
    assert len(server.requests) == 11


def test_time_is_bounded_as_a_whole_in_headers() -> None:
    """A server that sends an occasional byte does not hold a fetch."""

    def reply(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(2000):
            connection.sendall(b"x")
            server.stopped.wait(0.01)
        connection.sendall(b"\r\n\r\n")

    with serving(reply) as server:
        assert refusal(server.url(), 300 * MILLISECOND) == f"no answer from {HOST} within 300ms"


def test_silence_and_a_slow_resolver_end_at_the_deadline() -> None:
    """A silent server, or a slow resolver, does not hold a fetch."""
    with serving(lambda _connection, _request: server.stopped.wait(30) and None) as server:
        assert refusal(server.url(), 200 * MILLISECOND) == f"no answer from {HOST} within 200ms"
    release = threading.Event()
    error = refusal("http://slow.example/", 200 * MILLISECOND, resolve=lambda _host, _port: release.wait(30) and [])
    release.set()
    assert error == "no answer from slow.example within 200ms"


def test_tls_handshake_ends_at_the_deadline() -> None:
    """A server that accepts and never shakes hands does not hold a fetch."""
    with serving(lambda _connection, _request: server.stopped.wait(30) and None) as server:
        assert refusal(server.url(scheme="https"), 200 * MILLISECOND) == f"no answer from {HOST} within 200ms"


def test_slow_body_is_cut() -> None:
    """The code is known, so the body is the part that arrived before the deadline."""

    def reply(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        server.stopped.wait(30)

    with serving(reply) as server:
        answer = get(server.url(), 500 * MILLISECOND)
    assert (answer.code, answer.body, answer.content_length) == (200, b"abc", 100)


@pytest.mark.parametrize("head", [b"", b"Content-Length: 99999999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_endless_body_is_cut(head: bytes) -> None:
    """No more is read than requested, with any framing of the body."""

    def reply(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while not server.stopped.is_set():
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    with serving(reply) as server:
        assert len(get(server.url(), max_bytes=5000).body) == 5000


def test_endless_framing_is_cut() -> None:
    """Chunks with endless extensions and no data are cut. The data before them stays."""

    def reply(connection: socket.socket, _request: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        while not server.stopped.is_set():
            connection.sendall(b"1;" + b"x" * 30_000 + b"\r\ny\r\n")

    with serving(reply) as server:
        body = get(server.url()).body
    assert body.startswith(b"ab")
    assert len(body) < 100


def test_header_flood_is_refused() -> None:
    """Endless headers, too many headers, and endless interim answers are cut."""
    for endless in (b"X: " + b"x" * 1000 + b"\r\n", b"X: y\r\n"):

        def reply(connection: socket.socket, _request: str, line: bytes = endless) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not server.stopped.is_set():
                connection.sendall(line)

        with serving(reply) as server:
            assert HOST in refusal(server.url())

    def interim(connection: socket.socket, _request: str) -> None:
        while not server.stopped.is_set():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with serving(interim) as server:
        assert refusal(server.url()) == f"no answer from {HOST}: the answer is too large"


def test_nothing_is_decompressed() -> None:
    """An unrequested compressed body is returned as it is."""
    bomb = gzip.compress(bytes(20_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with serving(head + bomb) as server:
        answer = get(server.url())
    assert answer.body == bomb[:4096]
    assert answer.content_length == len(bomb)


@pytest.mark.parametrize("rubbish", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 70_000])
def test_answers_that_are_not_http(rubbish: bytes) -> None:
    """The error repeats nothing from the answer."""
    with serving(rubbish) as server:
        error = refusal(server.url())
    assert error.startswith((f"the answer of {HOST} is not HTTP", f"no answer from {HOST}"))
    assert "SSH" not in error


def test_no_server_and_an_unknown_name() -> None:
    """Errors name the host."""
    with serving(b"") as server:
        pass
    assert refusal(server.url()) == f"no answer from {HOST}: Connection refused"

    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert refusal("http://no.example/", resolve=unknown) == "no.example cannot be resolved: Name or service not known"


def test_proxies_from_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither proxy variables nor a netrc file change the request."""
    with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server, serving(b"HTTP/1.1 500 Proxy\r\n\r\n") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(host="127.0.0.1"))
        assert get(server.url()).code == 200
    assert proxy.requests == []


def test_the_systems_resolver() -> None:
    """The resolver returns numeric addresses, each once."""
    assert fetch.resolve("127.0.0.1", 80) == ["127.0.0.1"]
