"""Tokens: whether a request has one, and the tokens of the installations of a GitHub App."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.clock import Clock
from emulator.github.errors import ApiError, bad_credentials, not_accessible
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant, format_rfc3339

__all__ = ["ANONYMOUS", "Caller", "Tokens"]

_SCHEMES = ("bearer", "token")
_ALL = {"contents": "read", "metadata": "read", "statuses": "write"}
_LONGEST = 10 * MINUTE  # of a JWT
_SKEW = MINUTE
_JWT_PARTS = 3
_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_UNREADABLE = "A JSON web token could not be decoded"
_KEPT = 1_000  # tokens


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        name: the text of rate limits, such as ``installation ID 4711``; requests of one name share a quota.
        permissions: the token's permissions; None: all.
        repositories: the names (without the owner, in lower case) that the token may read; None: all.
    """

    name: str
    permissions: Mapping[str, str] | None = None
    repositories: frozenset[str] | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether the request has no token."""
        return self == ANONYMOUS

    def require(self, permission: str, level: str) -> None:
        """Check a permission of the token.

        Raises:
            ApiError: 403, the token does not have it.
        """
        if self.permissions is not None and self.permissions.get(permission) not in (level, "write"):
            raise not_accessible(f"{permission}={level}")


ANONYMOUS = Caller("127.0.0.1")
"""The sender of a request without a token. GitHub counts these requests by address."""


@dataclass(slots=True)
class _Issued:
    caller: Caller
    ends: int
    is_revoked: bool = False


@dataclass(slots=True)
class Tokens:
    """The tokens of the server. Thread-safe. No token is stored, only its digest.

    The server takes each token that it has not made as a personal token.

    Args:
        clock: the server's time.
        entropy: makes the tokens.
    """

    clock: Clock
    entropy: random.Random
    _issued: dict[str, _Issued] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def caller(self, authorization: str) -> Caller:
        """Return the sender of a request from its header ``Authorization``.

        Raises:
            ApiError: 401, the header has another form, or the token has expired or was revoked.
        """
        if not authorization:
            return ANONYMOUS
        key = _digest(_token(authorization))
        with self._lock:
            issued = self._issued.get(key)
        if issued is None:
            return Caller(f"user ID {int(key[:6], 16)}")
        if issued.is_revoked or issued.ends <= self.clock.now():
            raise bad_credentials()
        return issued.caller

    def issue(self, installation: str, authorization: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Make a token of an installation, which is valid for an hour, and return the body of the answer.

        Args:
            installation: the ID of the installation.
            authorization: the header, with the App's JWT. Its signature is not checked.
            wanted: the request's body, with optional ``permissions`` and ``repositories``.

        Raises:
            ApiError: 401, the JWT is missing, is none, or GitHub does not take its times; 422, another type.
        """
        _check_jwt(_token(authorization), self.clock.now())
        given, names = wanted.get("permissions") or _ALL, wanted.get("repositories") or []
        if not (isinstance(given, Mapping) and isinstance(names, list) and all(isinstance(one, str) for one in names)):
            raise ApiError(422, "Invalid request")
        permissions = {"metadata": "read", **given}
        repositories = frozenset(name.lower() for name in names) or None
        token = "ghs_" + "".join(self.entropy.choices(_DIGITS, k=36))
        ends = self.clock.now() // SECOND * SECOND + HOUR
        caller = Caller(f"installation ID {installation}", permissions, repositories)
        with self._lock:
            self._issued[_digest(token)] = _Issued(caller, ends)
            while len(self._issued) > _KEPT:
                del self._issued[next(iter(self._issued))]
        return {
            "token": token,
            "expires_at": format_rfc3339(Instant(ends)),
            "permissions": permissions,
            "repository_selection": "selected" if repositories else "all",
        }

    def revoke(self) -> None:
        """Revoke all tokens of installations."""
        with self._lock:
            for issued in self._issued.values():
                issued.is_revoked = True


def _token(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in _SCHEMES or not token.strip():
        raise bad_credentials()
    return token.strip()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _check_jwt(token: str, now: int) -> None:
    """Check the form and the claims of an App's JWT, as GitHub documents them."""
    header, claims = _decoded(token)
    if header.get("alg") != "RS256" or not claims.get("iss"):
        raise ApiError(401, _UNREADABLE)
    begins, ends = claims.get("iat"), claims.get("exp")
    if not isinstance(begins, int) or begins * SECOND > now + _SKEW:
        raise ApiError(
            401, "'Issued at' claim ('iat') must be an Integer representing the time that the token was made"
        )
    if not isinstance(ends, int) or ends * SECOND <= now:
        raise ApiError(401, "'Expiration time' claim ('exp') must be a numeric value in the future")
    if ends * SECOND > now + _LONGEST + _SKEW:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")


def _decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = token.split(".")
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}===")) for part in parts[:2])
    except (ValueError, RecursionError) as error:
        raise ApiError(401, _UNREADABLE) from error
    if len(parts) != _JWT_PARTS or not isinstance(header, dict) or not isinstance(claims, dict):
        raise ApiError(401, _UNREADABLE)
    return header, claims
