"""Form tokens: they prove that one of our pages made a form for the user who sends it.

A token is ``<issue time in milliseconds>.<base64url of HMAC-SHA256>``. The MAC covers its own domain, the time and the
identity, so a token of a build notification, which the same secrets sign, is never a form token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from luci_scheduler.core.instants import HOUR, MILLISECOND, MINUTE, Instant

__all__ = ["LIFETIME", "form_token", "is_genuine"]

LIFETIME = 12 * HOUR
"""How long a page may stay open before its forms are refused."""

_DRIFT = MINUTE  # how far the clock of the server that made the form may be ahead
_DOMAIN = "console form"
_MAX_DIGITS = 15


def form_token(secret: str, identity: str, now: Instant) -> str:
    """Return the token for the forms of a page that ``identity`` requested."""
    issued = str(now // MILLISECOND)
    return f"{issued}.{_mac(secret, issued, identity)}"


def is_genuine(secrets: Sequence[str], token: str, identity: str, now: Instant) -> bool:
    """Return whether ``token`` was made for ``identity`` and has not expired; any of ``secrets`` may have signed it."""
    issued, _, mac = token.partition(".")
    if not (issued.isascii() and issued.isdigit() and len(issued) <= _MAX_DIGITS):
        return False
    if not -_DRIFT <= now - int(issued) * MILLISECOND <= LIFETIME:
        return False
    # Every secret is tried, so that the time taken reveals nothing.
    matches = [hmac.compare_digest(_mac(secret, issued, identity).encode(), mac.encode()) for secret in secrets]
    return any(matches)


def _mac(secret: str, issued: str, identity: str) -> str:
    message = f"{_DOMAIN}\0{issued}\0{identity}".encode()
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), message, hashlib.sha256)).rstrip(b"=").decode()
