"""Fetching of URLs from configs, without access to servers that only this machine can reach.

A name is resolved once, each of its addresses is checked, and the connection goes to a checked address. So a later
answer of the resolver (DNS rebinding) has no effect. Each redirect is a new target and is checked again. There are no
proxies, cookies, credentials or decompression. One limit bounds the time of the whole fetch,
and another bounds its bytes.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urljoin

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from luci_scheduler.adapters.sockets import bounded, connect, resolve
from luci_scheduler.budget import time_left
from luci_scheduler.core.fetch_target import (
    BadTargetError,
    Target,
    is_forbidden_name,
    is_private,
    is_public,
    parse_target,
)
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import SECOND
from luci_scheduler.ports import Fetched, FetchError

__all__ = ["FetchClient"]

_MAX_REDIRECTS = 10  # like Go's client, which the original uses
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HEADER_BYTES = 1 << 16  # of an answer; ordinary headers take a few kilobytes
_MAX_FRAMING_BYTES = 1 << 16
"""Bytes beyond the wanted part of a body: chunk sizes and extensions, and read-ahead."""

Resolve = Callable[[str, int], Sequence[str]]
"""Maps a host name and a port to numeric addresses; raises OSError. It may block: at the deadline it is abandoned."""


class FetchClient:
    """``ports.Fetch`` over plain sockets. Thread-safe; keeps no connections."""

    def __init__(
        self,
        *,
        allowed_hosts: Collection[str] = (),
        plain_http: bool = False,
        only_allowed: bool = False,
        resolve: Resolve = resolve,
        trusted_certificates: str = "",
        max_redirects: int = _MAX_REDIRECTS,
    ) -> None:
        """Make a client.

        Args:
            allowed_hosts: hosts (names, or addresses without brackets) that may have private or loopback addresses.
            plain_http: whether ``http`` URLs are also allowed.
            only_allowed: whether all other hosts are refused, before their names are resolved (the local cloud).
            resolve: the resolver.
            trusted_certificates: file with the trusted authorities; the usual ones if empty.
            max_redirects: the number of redirects to follow; one more is an error.
        """
        self._allowed = frozenset(host.lower().strip("[]").removesuffix(".") for host in allowed_hosts)
        self._plain_http = plain_http
        self._only_allowed = only_allowed
        self._resolve = resolve
        self._certificates = trusted_certificates
        self._max_redirects = max_redirects

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        """Fetch a URL, following redirects.

        Raises:
            FetchError: refused, or no answer.
            TransientError: the delivery has no time left; nothing was sent.
        """
        deadline = _Deadline(round(time_left(timeout / SECOND) * SECOND))
        for hop in range(self._max_redirects + 1):
            target = self._target(url, redirected=hop > 0)
            with _fetch_errors(target, deadline), self._open(target, deadline) as connection:
                answer, location = _exchange(connection, target, deadline, max_bytes)
            if location is None:
                return answer
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise FetchError(f"{target.host} redirects to an invalid URL") from error
        raise FetchError(f"stopped after {self._max_redirects} redirects")

    def _target(self, url: str, *, redirected: bool) -> Target:
        try:
            target = parse_target(url)
        except BadTargetError as error:
            raise FetchError(f"redirected to a bad URL: {error}" if redirected else str(error)) from error
        if target.scheme != "https" and not self._plain_http:
            raise FetchError(f"{target.host} is an http URL, but only https is allowed")
        if self._only_allowed and target.host not in self._allowed:
            raise FetchError(
                f"{target.host} is refused: the local cloud fetches from this machine only; "
                f"to allow it, start it with --allow-fetch {target.host}"
            )
        if is_forbidden_name(target.host) and target.host not in self._allowed:
            raise FetchError(_refusal(target.host, can_be_allowed=True))
        return target

    @contextmanager
    def _open(self, target: Target, deadline: _Deadline) -> Iterator[socket.socket]:
        addresses = self._addresses(target, deadline)
        with connect(addresses, target.port, deadline.left()) as plain:
            if target.scheme == "http":
                yield plain
                return
            plain.settimeout(deadline.left())
            with self._tls.wrap_socket(plain, server_hostname=target.host) as encrypted:
                yield encrypted

    def _addresses(self, target: Target, deadline: _Deadline) -> Sequence[str]:
        """Return the addresses of the target's host. A single forbidden address refuses them all."""
        if target.is_address:
            addresses: Sequence[str] = [target.host]
        else:
            addresses = bounded(lambda: self._resolve(target.host, target.port), deadline.left())
        special = [address for address in addresses if not is_public(address)]
        can_be_allowed = all(is_private(address) for address in special)
        if special and not (can_be_allowed and target.host in self._allowed):
            raise FetchError(_refusal(target.host, can_be_allowed=can_be_allowed))
        if not addresses:
            raise FetchError(f"{target.host} has no address")
        return addresses

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self._certificates or DEFAULT_CA_BUNDLE_PATH)
        return context


def _refusal(host: str, *, can_be_allowed: bool) -> str:
    advice = "; to allow it, add it to SCHEDULER_FETCH_ALLOWED_HOSTS" if can_be_allowed else ""
    return f"{host} is refused: it has an address that is not public{advice}"


class _Deadline:
    """The end of one fetch, on the machine's monotonic clock; a simulated clock has no effect on sockets."""

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout
        self._end = time.monotonic() + timeout / SECOND

    def left(self) -> float:
        """Return the remaining seconds.

        Raises:
            TimeoutError: no time is left.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


@contextmanager
def _fetch_errors(target: Target, deadline: _Deadline) -> Iterator[None]:
    """Turn each failure into a `FetchError` that names only the host of the URL."""
    try:
        yield
    except TimeoutError as error:
        raise FetchError(f"no answer from {target.host} within {format_duration(deadline.timeout)}") from error
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"the certificate of {target.host} is not valid: {error.verify_message}") from error
    except socket.gaierror as error:
        raise FetchError(f"{target.host} cannot be resolved: {error.strerror}") from error
    except OSError as error:
        raise FetchError(f"no answer from {target.host}: {error.strerror or type(error).__name__}") from error
    except (HTTPException, ValueError) as error:
        raise FetchError(f"the answer of {target.host} is not HTTP: {type(error).__name__}") from error


def _exchange(
    connection: socket.socket, target: Target, deadline: _Deadline, max_bytes: int
) -> tuple[Fetched, str | None]:
    """Send the request and read the answer. Return the answer, and the target if the answer is a redirect."""
    lines = (
        f"GET {target.resource} HTTP/1.1",
        f"Host: {target.host_header}",
        "User-Agent: luci-scheduler",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    connection.settimeout(deadline.left())
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    wire = _Wire(connection, deadline, _MAX_HEADER_BYTES)
    with HTTPResponse(cast("socket.socket", wire), method="GET") as response:
        response.begin()
        if response.status in _REDIRECTS and (location := response.headers.get("Location")):
            return _answer(response, b""), _text(location)
        # ``begin`` has read the length; ``read1`` counts it down.
        answer_length = response.length
        wire.limit += _MAX_FRAMING_BYTES + max_bytes
        return _answer(response, _read(response, max_bytes), answer_length), None


def _answer(response: HTTPResponse, body: bytes, length: int | None = None) -> Fetched:
    headers = tuple((_text(name), _text(value)) for name, value in response.headers.items())
    status = f"{response.status} {_text(response.reason)}".rstrip()
    return Fetched(response.status, status, headers, body, length)


def _read(response: HTTPResponse, limit: int) -> bytes:
    """Read the beginning of a body. The status is already known, so an error only ends the body."""
    body = bytearray()
    with suppress(OSError, HTTPException, ValueError):
        while len(body) < limit and (piece := response.read1(limit - len(body))):
            body += piece
    return bytes(body)


def _text(value: Any) -> str:
    """Return a header as text; ``http.client`` decodes its bytes as Latin-1."""
    return str(value).encode("latin-1", "replace").decode("utf-8", "replace")


class _TooMuchError(OSError):
    """The server sent more than the limit."""

    def __init__(self) -> None:
        super().__init__(None, "the answer is too large")


class _Wire(io.RawIOBase):
    """The stream through which ``HTTPResponse`` reads a connection.

    It bounds the time and bytes of all reads together.
    """

    def __init__(self, connection: socket.socket, deadline: _Deadline, limit: int) -> None:
        super().__init__()
        self.limit = limit
        """The limit of received bytes, counted from the first byte."""
        self._connection = connection
        self._deadline = deadline
        self._received = 0

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream to read from, like a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True, because the stream is readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes.

        Raises:
            TimeoutError: the deadline has passed.
            _TooMuchError: the limit is exceeded.
        """
        self._connection.settimeout(self._deadline.left())
        count = self._connection.recv_into(buffer)
        self._received += count
        if self._received > self.limit:
            raise _TooMuchError
        return count
