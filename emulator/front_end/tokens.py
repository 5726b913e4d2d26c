"""ID tokens in headers: reading, checking and stripping them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from emulator.cloud_tasks.oidc import ISSUER
from emulator.front_end.authority import GCLOUD_CLIENT, Authority, TokenError
from emulator.front_end.modes import Stripping
from luci_scheduler.core.instants import SECOND

__all__ = ["REMOVED", "bearer", "checked_claims", "email_of", "must_strip", "stripped"]

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
"""Cloud Run puts this text in the place of a token's signature."""


def bearer(header: str) -> str:
    """Return the token in the value of a header.

    Raises:
        TokenError: the header has another scheme, or no token.
    """
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenError("the header holds no bearer token")
    return token.strip()


def checked_claims(authority: Authority, token: str, audiences: Collection[str], now: int) -> Mapping[str, Any]:
    """Return the claims of a token for one of the audiences, valid at ``now`` (nanoseconds).

    Raises:
        TokenError: signature, issuer, audience, time or e-mail address is wrong.
    """
    claims = authority.claims(token)
    seconds = now // SECOND
    checks = {
        "issuer": claims.get("iss") in (ISSUER, ISSUER.removeprefix("https://")),
        "audience": isinstance(claims.get("aud"), str) and claims["aud"] in audiences,
        "time": _number(claims, "iat") <= seconds < _number(claims, "exp"),
        "e-mail address": isinstance(claims.get("email"), str) and claims.get("email_verified") is True,
    }
    for name, holds in checks.items():
        if not holds:
            raise TokenError(f"the {name} is not accepted")
    return claims


def _number(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int):
        raise TokenError(f"the token has no {name}")
    return value


def email_of(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address in checked claims, in lower case."""
    return str(claims["email"]).lower()


def stripped(token: str) -> str:
    """Return a token with `REMOVED` in the place of its signature."""
    return f"{token.rpartition('.')[0]}.{REMOVED}"


def must_strip(stripping: Stripping, claims: Mapping[str, Any], *, serverless: bool) -> bool:
    """Return whether a token loses its signature; ``serverless``: it was in ``X-Serverless-Authorization``."""
    if stripping == "documented":
        return serverless or claims.get("aud") == GCLOUD_CLIENT
    return stripping == "always"
