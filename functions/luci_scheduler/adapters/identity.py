"""Verification of callers' tokens that Google signs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from google.auth import jwt

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.identity import ANONYMOUS, Identity, UnauthenticatedError, user
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.ports import Clock

__all__ = ["CallerIdentity", "OidcVerifier", "TokenVerifier"]

_SLACK = 5 * MINUTE  # clocks differ, and a token may have waited in a queue
_REFRESH_PAUSE = MINUTE  # bounds the key downloads that made-up key IDs cause
_GOOGLE = ("https://accounts.google.com", "accounts.google.com")
_IAP = ("https://cloud.google.com/iap",)
_IAP_HEADER = "x-goog-iap-jwt-assertion"
_NO_CLOCK = 10**10  # seconds of skew: disables the library's own check, which reads the machine's clock instead of ours
_KEY_ERRORS: tuple[type[Exception], ...] = (OSError, TransientError, *PARSER_ERRORS)
_MAX_NUMBER = 1 << 53  # below it a double holds every whole number
_MAX_TOKEN = 16_384  # characters; front ends refuse longer headers


class TokenVerifier:
    """Verifies signed tokens of one issuer; thread-safe."""

    def __init__(
        self,
        fetch_keys: Callable[[], bytes],
        clock: Clock,
        *,
        algorithm: str,
        issuers: Collection[str],
        audiences: Collection[str],
    ) -> None:
        """Make a verifier.

        Args:
            fetch_keys: returns a JSON object, key ID → certificate or public key in PEM; raises OSError on failure.
            clock: the clock for the times in tokens.
            algorithm: the accepted algorithm, ``RS256`` or ``ES256``.
            issuers: the accepted issuers.
            audiences: the accepted audiences.
        """
        self._fetch_keys = fetch_keys
        self._clock = clock
        self._algorithm = algorithm
        self._issuers = frozenset(issuers)
        self._audiences = frozenset(audiences)
        self._keys: Mapping[str, str] = {}
        self._fetched: Instant | None = None
        self._tries = 0
        self._failure = ""
        self._lock = threading.Lock()

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token.

        Raises:
            UnauthenticatedError: signature, issuer, audience or time is wrong.
            TransientError: the keys could not be fetched.
        """
        claims = self._decode(token)
        now, slack = self._clock.now() // SECOND, _SLACK // SECOND
        issued, expires = claims.get("iat", now), claims.get("exp", 0)
        checks = {
            "issuer": _is_among(claims.get("iss"), self._issuers),
            "audience": _is_among(claims.get("aud"), self._audiences),
            "time": _is_number(issued) and _is_number(expires) and issued - slack <= now <= expires + slack,
        }
        for name, holds in checks.items():
            if not holds:
                raise UnauthenticatedError(f"the token's {name} is not accepted")
        return claims

    def _decode(self, token: str) -> Mapping[str, Any]:
        try:
            if len(token) > _MAX_TOKEN:
                raise UnauthenticatedError("the token is too long")
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]
            if header.get("alg") != self._algorithm:
                raise UnauthenticatedError("the token's algorithm is not accepted")
            if header.get("kid") not in self._keys:
                self._refresh()
            return dict(jwt.decode(token, certs=self._keys, clock_skew_in_seconds=_NO_CLOCK))  # type: ignore[no-untyped-call]
        except PARSER_ERRORS as error:
            raise UnauthenticatedError("the token's signature is not accepted") from error

    def _refresh(self) -> None:
        """Fetch the keys; concurrent requests wait for one download and share its result and its time limit."""
        tries = self._tries
        with self._lock:
            if self._tries == tries:
                self._try()
            if self._failure:
                raise TransientError(f"the keys that sign tokens could not be fetched: {self._failure}")

    def _try(self) -> None:
        now = self._clock.now()
        if self._fetched is not None and now - self._fetched < _REFRESH_PAUSE:
            return
        self._failure = ""
        try:
            self._keys = read_object(self._fetch_keys())
            self._fetched = now
        except _KEY_ERRORS as error:
            self._failure = sanitized(str(error)) or type(error).__name__
        finally:
            self._tries += 1


class OidcVerifier:
    """Verifies bearer tokens that Google signs for service accounts; thread-safe."""

    def __init__(self, fetch_certs: Callable[[], bytes], audience: str, callers: Collection[str], clock: Clock) -> None:
        self._tokens = TokenVerifier(fetch_certs, clock, algorithm="RS256", issuers=_GOOGLE, audiences=(audience,))
        self._callers = frozenset(callers)

    def verify(self, authorization: str) -> str:
        """Return the e-mail address of the account that an ``Authorization`` header proves.

        Raises:
            UnauthenticatedError: signature, issuer, audience, time or account is wrong.
            TransientError: the keys could not be fetched.
        """
        claims = self._tokens.verify(_bearer(authorization))
        if not _is_among(claims.get("email"), self._callers) or claims.get("email_verified") is not True:
            raise UnauthenticatedError("the token's account is not accepted")
        return str(claims["email"])


class CallerIdentity:
    """Identifies callers of the console: by the proxy's assertion, else by a bearer token, else as anonymous.

    A token that is not accepted is an error, never an anonymous call. Thread-safe.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        local_user: str = "",
        iap_audience: str = "",
        fetch_iap_keys: Callable[[], bytes],
        bearer_audiences: Collection[str] = (),
        fetch_oidc_keys: Callable[[], bytes],
        access_token_email: Callable[[str, str], str],
    ) -> None:
        """Make an identifier of callers for the console's settings.

        Args:
            clock: the clock for the times in tokens.
            local_user: the identity of every caller in the local cloud; the settings allow it nowhere else.
            iap_audience: the audience of the proxy's assertions; if empty, the header is ignored.
            fetch_iap_keys: see `TokenVerifier`.
            bearer_audiences: the audiences of ID tokens; if empty, no ID token is accepted.
            fetch_oidc_keys: see `TokenVerifier`.
            access_token_email: returns the owner of an OAuth access token, given the sender's network; raises as
                `identify` does.
        """
        self._access_token_email = access_token_email
        self._local_user = local_user
        self._iap = (
            TokenVerifier(fetch_iap_keys, clock, algorithm="ES256", issuers=_IAP, audiences=(iap_audience,))
            if iap_audience
            else None
        )
        self._bearer = (
            TokenVerifier(fetch_oidc_keys, clock, algorithm="RS256", issuers=_GOOGLE, audiences=bearer_audiences)
            if bearer_audiences
            else None
        )

    def identify(self, headers: Any) -> Identity:
        """Return the sender of a request with these headers; the case of names does not matter.

        Raises:
            UnauthenticatedError: there is a token, and it is not accepted.
            TransientError: the keys could not be fetched, or Google did not answer about the token.
        """
        if self._local_user:
            return user(self._local_user)
        if self._iap is not None and (assertion := headers.get(_IAP_HEADER, "")):
            # The proxy verified the address before it signed; its assertions have no ``email_verified``.
            return _identity(self._iap.verify(assertion))
        if not (authorization := headers.get("Authorization", "")):
            return ANONYMOUS
        token = _bearer(authorization, ("bearer", "oauth"))  # LUCI accepts both
        if not _is_jwt(token):
            return user(self._access_token_email(token, _sender(headers)))
        if self._bearer is None:
            raise UnauthenticatedError("ID tokens are not accepted: SCHEDULER_CONSOLE_AUDIENCES is not set")
        claims = self._bearer.verify(token)
        if claims.get("email_verified") is not True:
            raise UnauthenticatedError("the token's account is not accepted: its address is not verified")
        return _identity(claims)


def _sender(headers: Any) -> str:
    """Return the network that a request came from; empty if it is not known.

    The platform's front end appends the client's address to ``X-Forwarded-For``; earlier entries may be forged. A
    client can have any number of IPv6 addresses, but only one /64 network.
    """
    last = str(headers.get("X-Forwarded-For", "")).rpartition(",")[2].strip()
    try:
        address = ip_address(last)
    except ValueError:
        return ""
    return str(ip_network((int(address) >> 64 << 64, 64))) if address.version == 6 else last  # noqa: PLR2004 - IPv6


def _is_among(claim: Any, accepted: Collection[str]) -> bool:
    """Return whether a claim is one of the accepted texts; a token may hold any other JSON value."""
    return isinstance(claim, str) and claim in accepted


def _is_number(claim: Any) -> bool:
    """Return whether a claim is a time in seconds: a number that JSON represents exactly."""
    return isinstance(claim, int | float) and not isinstance(claim, bool) and abs(claim) < _MAX_NUMBER


def _identity(claims: Mapping[str, Any]) -> Identity:
    email = claims.get("email")
    if not isinstance(email, str) or "@" not in email:
        raise UnauthenticatedError("the token names no account")
    return user(email)


def _is_jwt(token: str) -> bool:
    """Return whether a token is signed and can be verified here; only Google can read other tokens."""
    return token.startswith("ey") and token.count(".") == 2  # noqa: PLR2004 - three parts, the first a JSON object


def _bearer(authorization: str, schemes: Collection[str] = ("bearer",)) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in schemes or not token.strip():
        raise UnauthenticatedError("no bearer token")
    return token.strip()
