"""Tokens in forms: they prove that a form was made by a page of ours for the person who sends it.

``<issue time in milliseconds>.<base64url of HMAC-SHA256>``; the MAC covers a domain of its own, the time and the identity,
so that no token of a build notification, which the same secrets sign, is one of these.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from luci_scheduler.core.instants import HOUR, MILLISECOND, MINUTE, Instant

__all__ = ["LIFETIME", "form_token", "is_genuine"]

LIFETIME = 12 * HOUR
"""How long a page may lie open before its forms are refused."""

_DRIFT = MINUTE  # how far the clock of the server that made the form may be ahead
_DOMAIN = "console form"
_MAX_DIGITS = 15


def form_token(secret: str, identity: str, now: Instant) -> str:
    """Return the token for the forms of a page that ``identity`` gets."""
    issued = str(now // MILLISECOND)
    return f"{issued}.{_mac(secret, issued, identity)}"


def is_genuine(secrets: Sequence[str], token: str, identity: str, now: Instant) -> bool:
    """Whether ``token`` was made for ``identity`` and is still good; any of ``secrets`` may have signed it."""
    issued, _, mac = token.partition(".")
    if not (issued.isascii() and issued.isdigit() and len(issued) <= _MAX_DIGITS):
        return False
    if not -_DRIFT <= now - int(issued) * MILLISECOND <= LIFETIME:
        return False
    # No short cut: the time that it takes tells nothing.
    matches = [hmac.compare_digest(_mac(secret, issued, identity).encode(), mac.encode()) for secret in secrets]
    return any(matches)


def _mac(secret: str, issued: str, identity: str) -> str:
    message = f"{_DOMAIN}\0{issued}\0{identity}".encode()
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), message, hashlib.sha256)).rstrip(b"=").decode()
