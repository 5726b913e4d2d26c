"""The HTTP request of a delivery: headers, token, deadline, and the meaning of the target's response."""

from __future__ import annotations

import contextlib
import email.utils
import http.cookiejar
import socket
import threading
import time
from typing import Any
from weakref import WeakSet

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool

from emulator.cloud_tasks.messages import USER_AGENT
from emulator.cloud_tasks.model import NO_RESPONSE, DeliveryResult
from emulator.cloud_tasks.names import short
from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.cloud_tasks.queue import Attempt
from luci_scheduler.core.instants import MICROSECOND, SECOND

__all__ = ["Deliverer", "request_headers", "retry_after"]

_CONNECT_SECONDS = 10.0
_GATEWAY_TIMEOUT = 504
# The body of a response is not used. Reading this much of it allows the connection to be reused.
_BODY_READ = 64 * 1024


def request_headers(attempt: Attempt) -> dict[str, str]:
    """Return the headers of a delivery except Authorization: the creator's headers, then those of Cloud Tasks."""
    task = attempt.task
    headers = dict(task.request.headers)
    headers["User-Agent"] = USER_AGENT
    headers["X-CloudTasks-QueueName"] = short(attempt.queue.name)
    headers["X-CloudTasks-TaskName"] = short(task.name)
    headers["X-CloudTasks-TaskRetryCount"] = str(attempt.retry_count)
    headers["X-CloudTasks-TaskExecutionCount"] = str(attempt.execution_count)
    headers["X-CloudTasks-TaskETA"] = f"{task.eta // SECOND}.{task.eta % SECOND // MICROSECOND:06d}"
    if attempt.previous is not None:
        headers["X-CloudTasks-TaskPreviousResponse"] = str(attempt.previous.status)
        # Cloud Tasks sends this header to HTTP targets on every retry, always empty.
        headers["X-CloudTasks-TaskRetryReason"] = ""
    return headers


def retry_after(value: str | None, now: int) -> int | None:
    """Return the delay in a Retry-After header, in nanoseconds; None without a header or with an unreadable one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return int(value) * SECOND
    try:
        instant = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0, int(instant.timestamp()) * SECOND - now)


class Deliverer:
    """Sends attempts over HTTP. Thread-safe; each thread has its own session."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer
        self._local = threading.local()
        self._adapters: list[_Adapter] = []
        self._adapters_lock = threading.Lock()
        self._closed = False

    def deliver(self, attempt: Attempt, now: int) -> DeliveryResult:
        """Send the request of an attempt and wait for the response, at most until the task's deadline (in real time).

        A failure of the target is a result, never an exception.
        """
        request = attempt.task.request
        headers: dict[str, str | bytes] = {name: value.encode() for name, value in request_headers(attempt).items()}
        if request.oidc_token is not None:
            for name in [name for name in headers if name.lower() == "authorization"]:
                del headers[name]
            audience = request.oidc_token.audience or request.url
            token = self._issuer.issue(request.oidc_token.service_account_email, audience, now)
            headers["Authorization"] = f"Bearer {token}"
        deadline = attempt.task.dispatch_deadline / SECOND
        give_up_at = time.monotonic() + deadline
        try:
            with self._session().request(
                request.method,
                request.url,
                data=request.body,
                headers=headers,
                timeout=(min(_CONNECT_SECONDS, deadline), deadline),
                allow_redirects=False,
                stream=True,
            ) as response:
                response.raw.read(_BODY_READ, decode_content=False)
                if time.monotonic() > give_up_at:
                    return _DEADLINE_EXCEEDED
                return DeliveryResult(
                    response.status_code,
                    retry_after(response.headers.get("Retry-After"), now),
                    f"HTTP status code {response.status_code}",
                )
        except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
            return _DEADLINE_EXCEEDED
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # Only the name of the error: its text may contain the URL, and the URL may contain a secret.
            return DeliveryResult(
                NO_RESPONSE, None, f"the target could not be reached ({type(error).__name__})", responded=False
            )

    def cut(self) -> None:
        """Cut all connections: current deliveries end at once without a response, and later ones fail."""
        with self._adapters_lock:
            self._closed = True
            adapters = list(self._adapters)
        for adapter in adapters:
            adapter.cut()

    def close(self) -> None:
        """Release the connections. Call it after `cut`, once no delivery is running."""
        with self._adapters_lock:
            for adapter in self._adapters:
                adapter.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # Ignore the machine's proxies and .netrc: the task alone decides the target and the credentials.
            session.trust_env = False
            session.headers.clear()
            session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
            adapter = _Adapter()
            for scheme in ("http://", "https://"):
                session.mount(scheme, adapter)
            with self._adapters_lock:
                if self._closed:
                    raise requests.ConnectionError("the server is stopping")
                self._adapters.append(adapter)
            self._local.session = session
        return session


_DEADLINE_EXCEEDED = DeliveryResult(_GATEWAY_TIMEOUT, None, "no answer within the dispatch deadline", responded=False)


class _Adapter(requests.adapters.HTTPAdapter):
    """An adapter whose connections another thread can cut."""

    def __init__(self) -> None:
        self._sockets: WeakSet[Any] = WeakSet()
        self._sockets_lock = threading.Lock()
        self._cut = False
        super().__init__(pool_connections=8, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections register their sockets."""
        super().init_poolmanager(*args, **kwargs)
        adapter = self

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                adapter.remember(self.sock)

        class SecureConnection(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                adapter.remember(self.sock)

        class Pool(urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    def remember(self, sock: Any) -> None:
        """Register an open socket; refuse it after `cut`."""
        with self._sockets_lock:
            self._sockets.add(sock)
            if self._cut:
                raise OSError("the server is stopping")

    def cut(self) -> None:
        """Shut down all sockets, which wakes the threads that wait for them."""
        with self._sockets_lock:
            self._cut = True
            for sock in self._sockets:
                with contextlib.suppress(OSError):  # it may be closed already
                    sock.shutdown(socket.SHUT_RDWR)
