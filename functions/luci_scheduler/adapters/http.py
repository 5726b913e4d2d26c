"""HTTP sessions: one per thread, authenticated as the service account, never through a proxy of the environment.

What is dear is shared by all threads of a process: the credentials with their token, and the connections.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPResponse
from typing import Any, cast

import google.auth
import requests
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util import Timeout

__all__ = ["Deadline", "fetch", "sessions"]

_SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/gerritcodereview",
)
_TIMEOUT = 10.0  # seconds
_MAX_BYTES = 1 << 20
_KEPT_CONNECTIONS = 32
"""To one host: two deliveries' worth of jobs side by side."""


class Deadline(Timeout):
    """The end of a call, given to a session of `sessions` as its timeout: of fetching a token, connecting and the last byte.

    It runs from its making, on the machine's own stopwatch.
    """

    def __init__(self, seconds: float) -> None:
        """Set the end ``seconds`` (more than 0) from now."""
        super().__init__(total=seconds)
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the end is past."""
        return self.left() <= 0

    def left(self) -> float:
        """Return the seconds until the end."""
        return self._end - time.monotonic()


def sessions(*, authenticated: bool, scopes: Sequence[str] = _SCOPES) -> Callable[[], requests.Session]:
    """Return a function that gives each thread its session; with OAuth as the service account if ``authenticated``.

    ``scopes`` are those of Buildbucket and Gitiles if not given. A read timeout counts for the whole answer; a `Deadline`
    as timeout, for the whole call. A request is not sent once its time is over.

    The first call of a session raises ``google.auth.exceptions.GoogleAuthError`` where there are no credentials, and any
    request where there is no token.
    """
    local = threading.local()
    adapter = _Adapter(pool_maxsize=_KEPT_CONNECTIONS)

    def session() -> requests.Session:
        if not hasattr(local, "session"):
            made = _authenticated(scopes) if authenticated else requests.Session()
            made.trust_env = False
            made.mount("https://", adapter)
            made.mount("http://", adapter)
            local.session = made
        return local.session  # type: ignore[no-any-return]

    return session


def _authenticated(scopes: Sequence[str]) -> requests.Session:
    session: requests.Session = AuthorizedSession(_credentials(tuple(scopes)))  # type: ignore[no-untyped-call]
    return session


_found: dict[tuple[str, ...], Credentials] = {}
_looking = threading.Lock()


def _credentials(scopes: tuple[str, ...]) -> Credentials:
    """Return the credentials of this process for some scopes; they are looked for once, and again while there are none."""
    with _looking:
        if scopes not in _found:
            credentials, _ = google.auth.default(scopes=scopes)
            _found[scopes] = _Shared(credentials)
        return _found[scopes]


class _Shared(Credentials):
    """Credentials that one thread at a time refreshes: the others then find the token fresh."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._credentials = credentials
        self._refreshing = threading.Lock()

    def refresh(self, request: Any) -> None:
        """Fetch a new token, as a session does that was answered 401."""
        with self._refreshing:
            self._credentials.refresh(request)  # type: ignore[no-untyped-call]

    def before_request(self, request: Any, method: str, url: str, headers: Any) -> None:
        """Put the token into the headers, a new one if it is stale."""
        with self._refreshing:
            self._credentials.before_request(request, method, url, headers)  # type: ignore[no-untyped-call]


class _Adapter(HTTPAdapter):
    """Keeps the connections of all threads, and the deadlines of their calls."""

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **named: Any) -> requests.Response:
        timeout = named.get("timeout")
        if isinstance(timeout, Deadline):
            if timeout.passed:
                raise requests.Timeout("no time is left for the request", request=request)
            named["timeout"] = Timeout(total=timeout.left())
        return super().send(request, *args, **named)


class _Connection(HTTPConnection):
    """A connection whose timeouts count for all addresses of the host, and for the whole answer."""

    def connect(self) -> None:
        end = _end(self.timeout)
        super().connect()
        if end is not None and time.monotonic() >= end:  # several addresses, each of which took its time
            self.close()
            raise ConnectTimeoutError(self, "connected too late to send the request")

    def getresponse(self) -> Any:
        self.response_class = partial(_response, _end(self.timeout))  # type: ignore[assignment] # all it does is be called
        return super().getresponse()


class _TlsConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _end(timeout: Any) -> float | None:
    return None if timeout is None else time.monotonic() + float(timeout)


def _response(end: float | None, connection: socket.socket, *args: Any, **named: Any) -> HTTPResponse:
    source = connection if end is None else cast("socket.socket", _Answer(connection, end))
    return HTTPResponse(source, *args, **named)


class _Answer(io.RawIOBase):
    """What ``HTTPResponse`` reads a connection through: all reads together are over at the end."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        super().__init__()
        self._connection = connection
        self._end = end
        self._stream = connection.makefile("rb", buffering=0)  # keeps the socket open as long as it is read

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream to read from, as a socket does."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come.

        Raises:
            TimeoutError: the end is past.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        self._connection.settimeout(left)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._stream.close()
        super().close()


def fetch(url: str) -> bytes:
    """Fetch a small public document.

    Raises:
        OSError: no answer, an error, or too large a body.
    """
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
        if len(answer.content) > _MAX_BYTES:
            raise OSError(f"{url} is larger than {_MAX_BYTES} bytes")
        return answer.content
