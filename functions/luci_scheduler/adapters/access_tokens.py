"""OAuth access tokens of Google: only Google knows their owners, so it is queried, and its answers are cached."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.ports import Clock, Fetch, Fetched, FetchError

__all__ = ["SERVICE_ACCOUNTS", "AccessTokens"]

SERVICE_ACCOUNTS = "service-accounts"
"""Represents the clients of all service accounts."""

_SETTING = "SCHEDULER_CONSOLE_OAUTH_CLIENTS"
_SCOPE = "https://www.googleapis.com/auth/userinfo.email"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,12288}")  # RFC 6750, 2.1; Google issues up to 12 KiB
_EMAIL = re.compile(r"[^\s@:]{1,200}@[^\s@:]{1,200}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_TIMEOUT = 5 * SECOND  # of one query, as in LUCI
_MAX_BYTES = 16_384  # of one response; Google's are smaller than 1,000 bytes
# A good token may be revoked, or its account closed, before it expires. LUCI does not notice that at all.
_GOOD_LIFETIME = 5 * MINUTE
_BAD_LIFETIME = 5 * MINUTE  # a bad token never becomes good, but Google's response may have been wrong
_MAX_TOKENS = 4096  # of each kind in the cache: about a megabyte
_QUERIES = 60
"""Unknown tokens about which one process queries Google within a minute.

A caller without access can send any number of made-up tokens.
Each would cost a query of up to five seconds and a share of Google's quota.
"""
_QUERIES_OF_ONE = 15
"""The same limit for one sender, so that one sender cannot use up the queries of all others."""

_OK, _BAD_REQUEST = 200, 400


class AccessTokens:
    """Finds the owner of an access token through Google's ``tokeninfo``, as LUCI does. Thread-safe.

    The caches hold only hashes of tokens, and no error quotes a token. Good and bad tokens have separate caches, so a
    flood of made-up tokens does not evict good ones. The number of queries about unknown tokens per minute is bounded;
    a token that was good before is not unknown.
    """

    def __init__(self, fetch: Fetch, url: str, clients: Collection[str], clock: Clock) -> None:
        """Make a client for the console's settings.

        Args:
            fetch: sends the queries; it must not follow redirects.
            url: the address of ``tokeninfo``.
            clients: IDs of the OAuth clients whose tokens are accepted, and `SERVICE_ACCOUNTS`; if empty, no token is
                accepted.
            clock: the clock by which cached answers expire.
        """
        self._fetch = fetch
        self._url = url
        self._clients = frozenset(clients)
        self._clock = clock
        self._good = _Cache()
        self._bad = _Cache()
        self._queries = _Budget(_QUERIES, _QUERIES_OF_ONE, MINUTE)

    def email(self, token: str, sender: str = "") -> str:
        """Return the e-mail address of a token's account.

        Args:
            token: the access token.
            sender: the network that sent the token; empty if it is not known.

        Raises:
            UnauthenticatedError: the token is not accepted; the message says why.
            TransientError: Google could not be queried, so nothing is known about the token. The error is ``throttled``
                if too many unknown tokens arrived within a minute.
        """
        if not self._clients:
            raise UnauthenticatedError(f"access tokens are not accepted: {_SETTING} is not set")
        if not _TOKEN.fullmatch(token):
            raise _refused("it is too long, or holds characters that no token has")
        key, now = hashlib.sha256(token.encode()).digest(), self._clock.now()
        if email := self._good.get(key, now):
            return email
        fault = self._bad.get(key, now)
        if fault is None:
            if not self._good.has_seen(key) and (pause := self._queries.take(sender, now)):
                raise TransientError(
                    "too many unknown access tokens came within a minute: send the token again later",
                    throttled=True,
                    retry_after=pause,
                )
            info = self._query(token)
            fault = _fault(info) or self._client_fault(info)
            if not fault:
                lifetime = min(_seconds(info) * SECOND, _GOOD_LIFETIME)
                self._good.put(key, info["email"], Instant(now + lifetime))
                return str(info["email"])
            self._good.forget(key)
            self._bad.put(key, fault, Instant(now + _BAD_LIFETIME))
        raise _refused(fault)

    def _query(self, token: str) -> Mapping[str, Any]:
        """Return Google's information about a token; empty if Google does not know the token, or if it expired."""
        try:
            answer = self._fetch.get(f"{self._url}?{urlencode({'access_token': token})}", _TIMEOUT, _MAX_BYTES)
        except FetchError as error:
            # The URL holds the token. The message does not, but its cause is hidden to be safe.
            raise TransientError(f"Google could not be queried about an access token: {error}") from None
        if answer.code == _BAD_REQUEST:
            return {}
        info = _object(answer)
        if answer.code != _OK or info is None:
            what = (
                f"answered {answer.code}" if answer.code != _OK else "answered with a value that is not a JSON object"
            )
            raise TransientError(f"Google could not be queried about an access token: it {what}")
        return info

    def _client_fault(self, info: Mapping[str, Any]) -> str:
        """Return why a good token's client is not accepted here; empty if it is.

        A service account's token names the account's own number as its client, so there is nothing to list beforehand.
        The access policy decides what the account may do.
        """
        client, is_service = str(info["aud"]), info["email"].endswith(".gserviceaccount.com")
        if client in self._clients or (is_service and SERVICE_ACCOUNTS in self._clients):
            return ""
        return f"{SERVICE_ACCOUNTS if is_service else f'its OAuth client {client[:200]!a}'} is not in {_SETTING}"


def _fault(info: Mapping[str, Any]) -> str:
    """Return why a token proves nothing about its account, regardless of its client; empty if the token is good."""
    if not info:
        return "Google does not know it, or it has expired"
    checks = {
        f"it lacks the scope {_SCOPE}": _SCOPE in _text(info, "scope").split(" "),
        "it names no account": _EMAIL.fullmatch(_text(info, "email")),
        "its account's address is not verified": _is_true(info.get("email_verified")),
        "it names no OAuth client": _text(info, "aud"),
        "it has expired": _seconds(info),
    }
    return next((fault for fault, passes in checks.items() if not passes), "")


def _is_true(value: Any) -> bool:
    return value is True or value == "true"


def _text(info: Mapping[str, Any], name: str) -> str:
    """Return a member that is a text; any other value counts as empty."""
    value = info.get(name)
    return value if isinstance(value, str) else ""


def _seconds(info: Mapping[str, Any]) -> int:
    """Return the remaining lifetime of a token in seconds; Google sends numbers as texts."""
    value = info.get("expires_in")
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _object(answer: Fetched) -> Mapping[str, Any] | None:
    try:
        return read_object(answer.body)
    except ValueError:
        return None


def _refused(fault: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the access token is not accepted: {fault}")


class _Budget:
    """Bounds the uses within a period, in total and by one sender; a period starts with its first use. Thread-safe."""

    def __init__(self, uses: int, uses_of_one: int, period: int) -> None:
        self._uses = uses
        self._uses_of_one = uses_of_one
        self._period = period
        self._begun: Instant | None = None
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, sender: str, now: Instant) -> int:
        """Take one use and return 0; if none is left, return the nanoseconds until the next period."""
        with self._lock:
            if self._begun is None or not 0 <= now - self._begun < self._period:
                self._begun, self._taken = now, Counter()
            is_greedy = bool(sender) and self._taken[sender] >= self._uses_of_one
            if is_greedy or self._taken.total() >= self._uses:
                return self._begun + self._period - now
            self._taken[sender] += 1
            return 0


class _Cache:
    """A bounded cache of texts by key, each with an end; the least recently used ones are evicted. Thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[str, Instant]] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes, now: Instant) -> str | None:
        """Return the cached text; None if there is none, or if it has expired."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            self._entries[key] = entry  # the most recently used entry is last and is evicted last
        text, until = entry
        return text if now < until else None

    def has_seen(self, key: bytes) -> bool:
        """Return whether a text is or was cached, even if it has expired."""
        with self._lock:
            return key in self._entries

    def forget(self, key: bytes) -> None:
        """Remove a text; do nothing without one."""
        with self._lock:
            self._entries.pop(key, None)

    def put(self, key: bytes, text: str, until: Instant) -> None:
        """Cache a text until an instant."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (text, until)
            while len(self._entries) > _MAX_TOKENS:
                del self._entries[next(iter(self._entries))]
