"""Identity-Aware Proxy: who the caller is, whether the caller is a member, and the assertion for the application."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from werkzeug.datastructures import Headers
from werkzeug.http import parse_cookie

from emulator.cloud_tasks.oidc import account_number
from emulator.front_end.authority import Authority, TokenError
from emulator.front_end.cloud_run import SERVERLESS
from emulator.front_end.exchange import ANSWERED_BY, Answer, Handler, Message, page, with_headers, without
from emulator.front_end.services import is_member
from emulator.front_end.sign_in import SIGN_IN, safe_path, sign_in
from emulator.front_end.tokens import bearer, checked_claims, email_of
from luci_scheduler.core.instants import SECOND

__all__ = ["ASSERTION", "Iap", "Sessions"]

ASSERTION = "x-goog-iap-jwt-assertion"

_BY = "iap"
_OURS = ("x-goog-",)
_SESSION_SECONDS = 3600
_MAX_SESSIONS = 1000


@dataclass(slots=True)
class Sessions:
    """The sessions of browsers: cookie → account, for an hour. Thread-safe."""

    cookie: str
    """The cookie's name. Browsers send cookies to all ports of a host, so each front end has another name."""
    now: Callable[[], int]
    _accounts: dict[str, tuple[str, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, email: str) -> str:
        """Begin a session, and return the value of ``Set-Cookie``."""
        value = secrets.token_urlsafe(24)
        with self._lock:
            self._accounts[value] = (email, self.now() + _SESSION_SECONDS * SECOND)
            while len(self._accounts) > _MAX_SESSIONS:
                del self._accounts[next(iter(self._accounts))]
        return f"{self.cookie}={value}; Path=/; Max-Age={_SESSION_SECONDS}; HttpOnly; SameSite=Lax"

    def account(self, headers: Headers) -> str:
        """Return the account of a request's session; empty without one."""
        value = parse_cookie(headers.get("Cookie", "")).get(self.cookie, "")
        with self._lock:
            email, until = self._accounts.get(value, ("", 0))
        return email if self.now() < until else ""


@dataclass(frozen=True, slots=True)
class Iap:
    """IAP before a service: it identifies callers, and passes the members on with an assertion."""

    members: Callable[[], frozenset[str]]
    """Returns the members of ``roles/iap.httpsResourceAccessor``."""
    clients: frozenset[str]
    """OAuth clients whose ID tokens programs may send instead of a session's cookie."""
    audience: str
    """The audience of assertions."""
    agent: str
    """IAP's service agent, with which it calls the service."""
    service_uri: Callable[[], str]
    accounts: tuple[str, ...]
    """The accounts that the sign-in page offers."""
    authority: Authority
    sessions: Sessions
    now: Callable[[], int]
    next: Handler
    """Cloud Run's front end."""

    def __call__(self, message: Message) -> Answer:
        """Answer a request. Headers that only IAP may set are removed first."""
        headers = without(message.headers, prefixes=_OURS)
        if message.target.partition("?")[0] == SIGN_IN:
            return sign_in(message, self.accounts, self.sessions.begin)
        try:
            email = self._programmatic(headers) or self.sessions.account(headers)
        except TokenError as error:
            return _unauthenticated(str(error))
        if not email:
            return self._without_session(message)
        if not is_member(email, self.members()):
            return page(403, "Access denied", f"{email} is no member of the application.", _BY, **_GENERATED)
        return self.next(with_headers(message, self._passed(headers, email)))

    def _programmatic(self, headers: Headers) -> str:
        """Return the account of the request's ID token; empty without a token.

        A good token in ``Proxy-Authorization`` leaves ``Authorization`` to the application.

        Raises:
            TokenError: there are tokens, and none is accepted.
        """
        failure: TokenError | None = None
        for name in ("Proxy-Authorization", "Authorization"):
            if name not in headers:
                continue
            try:
                return email_of(checked_claims(self.authority, bearer(headers[name]), self.clients, self.now()))
            except TokenError as error:
                failure = error
        if failure is not None:
            raise failure
        return ""

    def _without_session(self, message: Message) -> Answer:
        """Send browsers that open a page to the sign-in page; a redirect of other requests would help no client."""
        if message.method not in ("GET", "HEAD") or "text/html" not in message.headers.get("Accept", ""):
            return _unauthenticated("empty token")
        place = f"{SIGN_IN}?{urlencode({'next': safe_path(message.target)})}"
        return Answer(302, Headers({"Location": place, ANSWERED_BY: _BY, "X-Goog-IAP-Generated-Response": "true"}))

    def _passed(self, headers: Headers, email: str) -> Headers:
        """Return the headers for Cloud Run: IAP calls it as its service agent."""
        now, issuer = self.now(), "accounts.google.com"
        headers = without(headers, ("proxy-authorization", SERVERLESS.lower()))
        headers.set(ASSERTION, self.authority.assertion(email, self.audience, now))
        headers.set("x-goog-authenticated-user-email", f"{issuer}:{email}")
        headers.set("x-goog-authenticated-user-id", f"{issuer}:{account_number(email)}")
        headers.set(SERVERLESS, f"Bearer {self.authority.issuer.issue(self.agent, self.service_uri(), now)}")
        return headers


_GENERATED: Mapping[str, str] = {"X_Goog_IAP_Generated_Response": "true"}


def _unauthenticated(reason: str) -> Answer:
    return page(401, "Unauthorized", f"Invalid IAP credentials: {reason}", _BY, **_GENERATED)
