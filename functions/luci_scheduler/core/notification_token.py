"""Tokens in build notifications, which prove the invocation that a notification belongs to.

Layout: base64url without padding of a version byte (1), a compact JSON object with sorted keys (``_i`` issue time in
milliseconds, ``inv``, ``job``; all texts), and the 32 bytes of HMAC-SHA256 over both, each preceded by its length.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence

from luci_scheduler.core.errors import BadTokenError, UnknownKeyError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import HOUR, MILLISECOND, SECOND, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS, check_values, decode_base64

__all__ = ["LIFETIME", "find_token", "make_token", "verify_token"]

LIFETIME = 48 * HOUR
"""How long a token is accepted (the original's value). A build that runs longer is ended by the invocation's timers."""

_DRIFT = 30 * SECOND  # how far ahead the issuer's clock may be
_VERSION = b"\x01"
_MAC_BYTES = 32
_MAX_TOKEN = 4096  # the limit of a notification's attribute that carries it
_NOT_OURS = "the token's signature is not ours"
_NUMBER = re.compile("[0-9]{1,19}")  # 63 bits have at most 19 digits


def make_token(secret: str, job_id: JobId, invocation_id: InvocationId, now: Instant) -> str:
    """Issue a token for one invocation."""
    claims = {"_i": str(now // MILLISECOND), "inv": str(invocation_id), "job": job_id}
    body = json.dumps(claims, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_VERSION + body + _mac(secret, body)).rstrip(b"=").decode()


def verify_token(secrets: Sequence[str], token: str, now: Instant) -> tuple[JobId, InvocationId]:
    """Return the invocation that a token was issued for. Any of ``secrets`` may have signed it.

    Raises:
        BadTokenError: missing, malformed, expired or from the future. The text does not contain the token.
        UnknownKeyError: nothing else is wrong with the token, and none of ``secrets`` signed it.
    """
    if not token:
        raise BadTokenError("the notification carries no token")
    body, mac = _parts(token)
    # Compare with all secrets, without an early end: the time must not reveal which one matched.
    matches = [hmac.compare_digest(mac, _mac(secret, body)) for secret in secrets]
    if any(matches):
        return _invocation(body, now)
    try:
        _invocation(body, now)
    except BadTokenError as error:  # no key can make such a token acceptable
        raise BadTokenError(_NOT_OURS) from error
    raise UnknownKeyError(_NOT_OURS)


def find_token(attributes: Mapping[str, str], data_base64: str) -> str:
    """Return the token of a notification of either era: the attribute, else ``userData`` or ``user_data`` in the body.

    Returns an empty text if there is no token or the body is not readable.
    """
    if attributes.get("auth_token"):
        return attributes["auth_token"]
    try:
        data = decode_base64(data_base64)
        check_values(data)
        body = json.loads(data)
        if not isinstance(body, dict):
            return ""
        if body.get("userData") is not None:  # an empty text counts
            return decode_base64(body["userData"]).decode()
        token = body.get("user_data", "")
    except PARSER_ERRORS:
        return ""
    return token if isinstance(token, str) else ""


def _parts(token: str) -> tuple[bytes, bytes]:
    """Return the claims and the signature of a token, both unchecked."""
    if len(token) > _MAX_TOKEN or not token.isascii():
        raise BadTokenError("the token is malformed")
    try:
        blob = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise BadTokenError("the token is malformed") from error
    # Unused bits of the last character could spell one token in several ways. Only one spelling is accepted.
    if base64.urlsafe_b64encode(blob).rstrip(b"=").decode() != token:
        raise BadTokenError("the token is malformed")
    version, body, mac = blob[:1], blob[1:-_MAC_BYTES], blob[-_MAC_BYTES:]
    if version != _VERSION or len(mac) != _MAC_BYTES or not body:
        raise BadTokenError("the token is malformed")
    return body, mac


def _invocation(body: bytes, now: Instant) -> tuple[JobId, InvocationId]:
    issued, job_id, invocation_id = _claims(body)
    # Functions run on many machines, and their clocks differ a little.
    if issued > now + _DRIFT:
        raise BadTokenError("issued timestamp is in the future")
    if now > issued + LIFETIME:
        raise BadTokenError("token expired")
    return job_id, invocation_id


def _claims(body: bytes) -> tuple[Instant, JobId, InvocationId]:
    try:
        claims = json.loads(body)
        issued, job_id, invocation_id = (claims[name] for name in ("_i", "job", "inv"))
        numbers = _NUMBER.fullmatch(issued), _NUMBER.fullmatch(invocation_id)
    except PARSER_ERRORS as error:
        raise BadTokenError("the token's claims are malformed") from error
    if not (all(numbers) and isinstance(job_id, str) and job_id):
        raise BadTokenError("the token's claims are malformed")
    return Instant(int(issued) * MILLISECOND), JobId(job_id), InvocationId(int(invocation_id))


def _mac(secret: str, body: bytes) -> bytes:
    # Each part carries its length: no bytes can move from one part to the other under the same signature.
    message = b"".join(b"%d\n%s" % (len(part), part) for part in (_VERSION, body))
    return hmac.new(secret.encode(), message, hashlib.sha256).digest()
