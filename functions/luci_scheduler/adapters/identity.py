"""Who calls: OIDC tokens, verified in code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.auth import jwt

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.ports import Clock

__all__ = ["OidcVerifier", "UnauthenticatedError"]

_SLACK = 5 * MINUTE  # clocks differ, and a token may have waited in a queue
_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
_NO_CLOCK = 10**10  # seconds of skew: the library reads the machine's clock, we read ours


class UnauthenticatedError(Exception):
    """The caller is not who may call; the message says why, without the token."""


class OidcVerifier:
    """Verifies bearer tokens that Google signs for service accounts; thread-safe."""

    def __init__(self, fetch_certs: Callable[[], bytes], audience: str, callers: Collection[str], clock: Clock) -> None:
        self._fetch_certs = fetch_certs
        self._audience = audience
        self._callers = frozenset(callers)
        self._clock = clock
        self._certs: Mapping[str, str] = {}
        self._lock = threading.Lock()

    def verify(self, authorization: str) -> str:
        """Return the e-mail of the account that an ``Authorization`` header proves.

        Raises:
            UnauthenticatedError: signature, issuer, audience, time or account is wrong.
            TransientError: the keys could not be fetched.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("no bearer token")
        claims = self._decode(token.strip())
        now = self._clock.now() // SECOND
        slack = _SLACK // SECOND
        checks = {
            "issuer": claims.get("iss") in _ISSUERS,
            "audience": claims.get("aud") == self._audience,
            "time": int(claims.get("iat", now)) - slack <= now <= int(claims.get("exp", 0)) + slack,
            "account": claims.get("email") in self._callers and claims.get("email_verified") is True,
        }
        for name, holds in checks.items():
            if not holds:
                raise UnauthenticatedError(f"the token's {name} is not accepted")
        return str(claims["email"])

    def _decode(self, token: str) -> Mapping[str, Any]:
        try:
            key_id = jwt.decode_header(token).get("kid")  # type: ignore[no-untyped-call]
            if key_id not in self._certs:
                self._refresh()
            return dict(jwt.decode(token, certs=self._certs, clock_skew_in_seconds=_NO_CLOCK))  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            raise UnauthenticatedError("the token's signature is not accepted") from error

    def _refresh(self) -> None:
        with self._lock:
            try:
                self._certs = json.loads(self._fetch_certs())
            except (OSError, ValueError) as error:
                raise TransientError(f"the keys that sign OIDC tokens could not be fetched: {error}") from error
