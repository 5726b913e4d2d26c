"""ID tokens: where a request carries one, and the claims that it must have. Pure; signatures are checked elsewhere.

Cloud Run verifies the token of a request and replaces the token's signature before it passes the request on, so that a
service cannot send the token to another service. Such a token is called stripped here.

Sources: https://cloud.google.com/run/docs/authenticating/service-to-service (which of two headers the platform checks,
and that it removes the signature) and https://cloud.google.com/run/docs/troubleshooting (the text in its place).
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = [
    "MAX_TOKEN",
    "STRIPPED",
    "Presented",
    "Requirements",
    "check_claims",
    "check_length",
    "presented_token",
    "stripped_claims",
]

STRIPPED = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run puts in the place of a signature that it has verified."""

MAX_TOKEN = 16_384
"""Characters of a token; front ends refuse longer headers."""

_SLACK = 5 * MINUTE  # clocks differ, and a token may have waited in a queue
_MAX_NUMBER = 1 << 53  # below it a double holds every whole number
_MAX_SHOWN = 200  # characters of a claim in an error
_PLATFORM_HEADER, _HEADER = "X-Serverless-Authorization", "Authorization"
_ABSENT = "\n"  # no header holds a line end


@frozen
class Presented:
    """A token as a request carries it."""

    scheme: str
    """The authentication scheme in lower case: ``bearer``."""
    token: str = field(repr=False)
    header: str
    is_checked: bool
    """Whether the platform's own check of the caller looked at this header."""

    @property
    def is_jwt(self) -> bool:
        """Whether the token can be verified here: three parts, the first a JSON object. Only Google reads others."""
        return self.token.startswith("ey") and self.token.count(".") == 2  # noqa: PLR2004 - three parts

    @property
    def is_stripped(self) -> bool:
        """Whether the platform's mark stands in the place of the signature. Anyone can write the mark."""
        return self.is_jwt and self.token.endswith(f".{STRIPPED}")


@frozen
class Requirements:
    """The claims that a token must have."""

    issuers: Collection[str]
    audiences: Collection[str]


def presented_token(headers: Any) -> Presented | None:
    """Return the token that names the caller of a request; None if the request carries none.

    ``Authorization`` counts first, because it is the application's header. Cloud Run passes it on unchecked if the
    request also has ``X-Serverless-Authorization``, which then opens the service but names no caller.

    Raises:
        UnauthenticatedError: the header holds no token.
    """
    platform = headers.get(_PLATFORM_HEADER, _ABSENT)
    if authorization := headers.get(_HEADER, ""):
        return _presented(_HEADER, authorization, is_checked=platform == _ABSENT)
    return None if platform == _ABSENT else _presented(_PLATFORM_HEADER, platform, is_checked=True)


def _presented(header: str, value: str, *, is_checked: bool) -> Presented:
    scheme, _, token = value.partition(" ")
    if not token.strip():
        raise UnauthenticatedError(f"the header {header} holds no bearer token")
    return Presented(scheme.lower(), token.strip(), header, is_checked)


def check_length(token: str) -> None:
    """Refuse a token that is too long to be read.

    Raises:
        UnauthenticatedError: it has more than `MAX_TOKEN` characters.
    """
    if len(token) > MAX_TOKEN:
        raise UnauthenticatedError(f"the token is too long: it has more than {MAX_TOKEN} characters")


def stripped_claims(token: str, algorithm: str) -> Mapping[str, Any]:
    """Return the claims of a stripped token. They prove nothing unless the platform has verified the token.

    Raises:
        UnauthenticatedError: the token cannot be read, or names another algorithm.
    """
    check_length(token)
    try:
        header, claims = (read_object(_decoded(part)) for part in token.split(".")[:2])
    except PARSER_ERRORS as error:
        raise UnauthenticatedError("the token cannot be read") from error
    if header.get("alg") != algorithm:
        raise UnauthenticatedError("the token's algorithm is not accepted")
    return claims


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def check_claims(claims: Mapping[str, Any], required: Requirements, now: Instant) -> None:
    """Refuse a token whose issuer, audience or time is wrong. A claim may hold any JSON value.

    Raises:
        UnauthenticatedError: one of them is wrong; the message names the claim, and the audiences that are accepted.
    """
    if not _is_among(claims.get("iss"), required.issuers):
        raise UnauthenticatedError("the token's issuer is not accepted")
    if not _is_among(claims.get("aud"), required.audiences):
        raise UnauthenticatedError(_audience_fault(claims.get("aud"), required.audiences))
    if not _is_in_time(claims, now):
        raise UnauthenticatedError("the token's time is not accepted: it has expired, or is not valid yet")


def _is_in_time(claims: Mapping[str, Any], now: Instant) -> bool:
    seconds, slack = now // SECOND, _SLACK // SECOND
    issued, expires = claims.get("iat", seconds), claims.get("exp", 0)
    return _is_number(issued) and _is_number(expires) and bool(issued - slack <= seconds <= expires + slack)


def _audience_fault(audience: Any, accepted: Collection[str]) -> str:
    shown = f"{audience[:_MAX_SHOWN]!a}" if isinstance(audience, str) else "no text"
    return f"the token's audience is {shown}, and the accepted audience is {' or '.join(sorted(accepted))}"


def _is_among(claim: Any, accepted: Collection[str]) -> bool:
    """Return whether a claim is one of the accepted texts; a token may hold any other JSON value."""
    return isinstance(claim, str) and claim in accepted


def _is_number(claim: Any) -> bool:
    """Return whether a claim is a time in seconds: a number that JSON represents exactly."""
    return isinstance(claim, int | float) and not isinstance(claim, bool) and abs(claim) < _MAX_NUMBER
