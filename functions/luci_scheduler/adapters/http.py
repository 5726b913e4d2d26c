"""HTTP sessions: one per thread, authenticated as the service account, never through a proxy from the environment.

All threads of a process share the credentials with their token, and the connections. Every call ends at its `Deadline`,
which covers all parts of the call: finding credentials, fetching a token, resolving a name, connecting, sending and
reading.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from http.client import HTTPResponse
from ipaddress import ip_address
from typing import Any, cast

import google.auth
import requests
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import Timeout

from luci_scheduler.adapters.sockets import bounded, connect, resolve
from luci_scheduler.budget import time_left
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.untrusted import check_values

__all__ = [
    "CREDENTIALS_LIMIT",
    "KEYS_LIMIT",
    "Deadline",
    "TooLargeError",
    "answer_to",
    "default_credentials",
    "fetch",
    "limit_session",
    "read_body",
    "read_json_body",
    "sessions",
]

CREDENTIALS_LIMIT = 20.0
"""Seconds to find the service account's credentials at the first request. The metadata server answers in
milliseconds."""

KEYS_LIMIT = 10.0
"""Seconds to fetch the keys that sign tokens. Google answers in tens of milliseconds."""

_SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/gerritcodereview",
)
_DEFAULT_LIMIT = 120.0  # seconds of a call without a timeout: libraries fetch some tokens without one
_MAX_KEYS_BYTES = 1 << 20  # of an answer; Google's keys take a few kilobytes
_PIECE_BYTES = 1 << 16  # of a body: the limit is checked after each piece
_INSTANT = 0.001  # seconds; a socket takes 0 for "do not block"
_KEPT_CONNECTIONS = 32
"""Connections kept to one host: enough for two deliveries that launch jobs in parallel."""


class TooLargeError(Exception):
    """An answer is larger than its limit."""


class Deadline(Timeout):
    """The end of a call, from fetching a token to reading the last byte.

    Pass it to a session of `sessions` as the timeout.

    The time starts at the construction, on the machine's monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        """Set the end ``seconds`` (more than 0) from now, or at the end of the delivery's budget if that is sooner.

        Raises:
            TransientError: the delivery has no time left.
        """
        seconds = time_left(seconds)
        super().__init__(total=seconds)
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.left() <= 0

    def left(self) -> float:
        """Return the seconds until the end."""
        return self._end - time.monotonic()


def sessions(*, authenticated: bool, scopes: Sequence[str] = _SCOPES) -> Callable[[], requests.Session]:
    """Return a function that gives each thread its session; with OAuth as the service account if ``authenticated``.

    The default ``scopes`` are those of Buildbucket and Gitiles. A read timeout covers the whole answer, and a
    `Deadline` as timeout covers the whole call. A request is not sent after its deadline.

    A request of an authenticated session needs a `Deadline`. It raises ``google.auth.exceptions.GoogleAuthError``
    without credentials or token, and ``requests.Timeout`` if they do not arrive in time.
    """
    local = threading.local()
    adapter = _Adapter(pool_maxsize=_KEPT_CONNECTIONS)

    def session() -> requests.Session:
        if not hasattr(local, "session"):
            made = _AuthorizedSession(_token(tuple(scopes))) if authenticated else requests.Session()
            local.session = _prepared(made, adapter)
        return local.session  # type: ignore[no-any-return]

    return session


def answer_to(session: requests.Session, method: str, url: str, deadline: Deadline, **named: Any) -> requests.Response:
    """Send one request and return its answer, for a ``with`` statement; `read_body` reads the body.

    A redirect is an answer like any other, because following it would carry a token to a host that no setting names.

    Args:
        session: from `sessions`.
        method: ``GET`` or ``POST``.
        url: the complete address.
        deadline: the end of the call, until the last byte of the body.
        named: ``params``, ``headers``, ``data`` and ``json``, as in ``requests.Session.request``.

    Raises:
        requests.RequestException: no answer, or not in time.
        GoogleAuthError: the session is authenticated, and there are no credentials or there is no token.
    """
    timeout: Any = deadline  # the library takes any Timeout
    return session.request(method, url, timeout=timeout, allow_redirects=False, stream=True, **named)


def default_credentials(limit: float = CREDENTIALS_LIMIT) -> Credentials:
    """Return the credentials of the service account for Google's client libraries.

    Raises:
        TransientError: there are none, or the metadata server does not answer within ``limit`` seconds.
    """
    try:
        credentials, _ = bounded(google.auth.default, time_left(limit))
    except (TimeoutError, GoogleAuthError) as error:
        raise TransientError(f"the service account's credentials are not available: {type(error).__name__}") from error
    return credentials


def limit_session(session: requests.Session) -> requests.Session:
    """Make the session of a command obey a `Deadline` as timeout. Proxies of the environment stay in use."""
    adapter = _Adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _prepared(session: requests.Session, adapter: HTTPAdapter) -> requests.Session:
    session.trust_env = False
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


_tokens: dict[tuple[str, ...], _Token] = {}
_tokens_lock = threading.Lock()


def _token(scopes: tuple[str, ...]) -> _Token:
    with _tokens_lock:
        return _tokens.setdefault(scopes, _Token(scopes))


class _AuthorizedSession(requests.Session):
    """A session whose requests carry the service account's token. After status 401 it retries once with a new token."""

    def __init__(self, token: _Token) -> None:
        super().__init__()
        self._token = token

    def request(self, method: Any, url: Any, **named: Any) -> requests.Response:  # type: ignore[override]
        headers, deadline = dict(named.pop("headers", None) or {}), named["timeout"]
        answer = super().request(method, url, headers={**headers, **self._token.headers(deadline)}, **named)
        if answer.status_code != requests.codes.unauthorized:
            return answer
        answer.close()
        self._token.renew(deadline)
        return super().request(method, url, headers={**headers, **self._token.headers(deadline)}, **named)


class _Token:
    """The service account's credentials and their token. One thread at a time fetches them, the others wait for it."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self._scopes = scopes
        self._credentials: Credentials | None = None
        self._renewal: Future[None] | None = None
        self._lock = threading.Lock()

    def headers(self, deadline: Deadline) -> Mapping[str, str]:
        """Return the headers that prove the account. A token that expires soon is renewed in the background.

        Raises:
            GoogleAuthError: there are no credentials, or there is no token.
            requests.Timeout: the token does not arrive in time.
        """
        state, renewal = self._state_and_renewal()
        if renewal is not None and state is TokenState.INVALID:
            _await(renewal, deadline)
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)  # type: ignore[no-untyped-call]
        return headers

    def renew(self, deadline: Deadline) -> None:
        """Fetch a new token, or wait for a fetch in progress. Raises the errors of `headers`."""
        with self._lock:
            renewal = self._begin()
        _await(renewal, deadline)

    def _state_and_renewal(self) -> tuple[TokenState, Future[None] | None]:
        with self._lock:
            state = TokenState.INVALID if self._credentials is None else self._credentials.token_state
            return state, None if state is TokenState.FRESH else self._begin()

    def _begin(self) -> Future[None]:
        """Start to fetch a token, unless a fetch is in progress. The caller holds the lock."""
        if self._renewal is None or self._renewal.done():
            self._renewal = Future()
            # A separate thread, because the library has no total limit and retries requests at will.
            threading.Thread(target=self._fetch, args=(self._renewal,), daemon=True, name="token").start()
        return self._renewal

    def _fetch(self, renewal: Future[None]) -> None:
        try:
            credentials = self._credentials
            if credentials is None:
                credentials, _ = google.auth.default(scopes=self._scopes)
            request = Request(_prepared(requests.Session(), _Adapter()))
            credentials.refresh(request)  # type: ignore[no-untyped-call]
            self._credentials = credentials
        except BaseException as error:  # noqa: BLE001 - the callers that wait for the token raise it
            renewal.set_exception(error)
        else:
            renewal.set_result(None)


def _await(renewal: Future[None], deadline: Deadline) -> None:
    try:
        renewal.result(max(0.0, deadline.left()))
    except TimeoutError as error:
        raise requests.Timeout("no token arrived in time") from error


class _Adapter(HTTPAdapter):
    """Keeps the connections of all threads, and applies the deadlines of their calls."""

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
    """A connection whose timeout covers name resolution, all addresses of the host, and the whole answer."""

    def connect(self) -> None:
        end = _end(self.timeout)
        super().connect()
        left = end - time.monotonic()
        if left <= 0:  # TLS has used the remaining time
            self.close()
            raise ConnectTimeoutError(self, "connected too late to send the request")
        self.timeout = left  # for sending the request
        self.sock.settimeout(left)

    def _new_conn(self) -> socket.socket:
        end = _end(self.timeout)
        try:
            addresses = _addresses(self._dns_host.strip("[]"), self.port, end)
            made = connect(addresses, self.port, end - time.monotonic())
            made.settimeout(max(_INSTANT, end - time.monotonic()))  # for TLS
            for option in self.socket_options or ():
                made.setsockopt(*option)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, f"{self.host} is not a host name") from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host} did not accept the connection in time") from error
        except OSError as error:
            raise NewConnectionError(self, f"{self.host} does not accept the connection: {error.strerror}") from error
        return made

    def getresponse(self) -> Any:
        self.response_class = partial(_response, _end(self.timeout))  # type: ignore[assignment] # it is only called
        return super().getresponse()


def _addresses(host: str, port: int, end: float) -> Sequence[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:  # a name: only the resolver may block
        return bounded(lambda: resolve(host, port), end - time.monotonic())


class _TlsConnection(_Connection, HTTPSConnection):
    """A connection with TLS and the same limits."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _end(timeout: Any) -> float:
    return time.monotonic() + (_DEFAULT_LIMIT if timeout is None else float(timeout))


def _response(end: float, connection: socket.socket, *args: Any, **named: Any) -> HTTPResponse:
    return HTTPResponse(cast("socket.socket", _Answer(connection, end)), *args, **named)


class _Answer(io.RawIOBase):
    """The stream through which ``HTTPResponse`` reads a connection. All its reads share one end."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        super().__init__()
        self._connection = connection
        self._end = end
        self._stream = connection.makefile("rb", buffering=0)  # keeps the socket open while the answer is read

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream to read from, like a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True, because the stream is readable."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read the next bytes.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        self._connection.settimeout(left)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        """Close the stream, which releases the socket."""
        self._stream.close()
        super().close()


def read_body(answer: requests.Response, limit: int, *, cut: bool = False) -> bytes:
    """Read the body of a streamed answer, unpacked, up to ``limit`` bytes.

    Args:
        answer: the answer to a request with ``stream=True``.
        limit: of the unpacked bytes, so that a small compressed body cannot become a large one.
        cut: return the beginning of a longer body.

    Raises:
        TooLargeError: the body is longer, and ``cut`` is false.
        requests.RequestException: the answer broke off, or was not complete in time.
    """
    body = bytearray()
    for piece in answer.iter_content(_PIECE_BYTES):
        body += piece
        if len(body) > limit:
            if cut:
                break
            raise TooLargeError(f"the answer has more than {limit} bytes")
    return bytes(body[:limit])


def read_json_body(answer: requests.Response, limit: int) -> bytes:
    """Read the body of a streamed answer that holds JSON, and count its values before a parser sees it.

    Raises:
        TooLargeError: the body has more than ``limit`` bytes, or too many values for a function's memory.
        requests.RequestException: the answer broke off, or was not complete in time.
    """
    body = read_body(answer, limit)
    try:
        check_values(body)
    except ValueError as error:
        raise TooLargeError(f"the answer is too large: {error}") from error
    return body


def fetch(url: str, limit: float = KEYS_LIMIT) -> bytes:
    """Fetch a small public document within ``limit`` seconds.

    Raises:
        OSError: no answer, an error, or too large a body.
        TransientError: the delivery has no time left.
    """
    with (
        _prepared(requests.Session(), _Adapter()) as session,
        session.get(url, timeout=Deadline(limit), stream=True) as answer,  # type: ignore[arg-type] # any Timeout works
    ):
        answer.raise_for_status()
        try:
            return read_body(answer, _MAX_KEYS_BYTES)
        except TooLargeError as error:
            raise OSError(f"{url}: {error}") from error
