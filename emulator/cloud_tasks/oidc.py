"""OIDC tokens like those of Cloud Tasks, and the public keys that verify them."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt, jwt

from luci_scheduler.core.instants import SECOND

__all__ = ["ISSUER", "TOKEN_LIFE_SECONDS", "TokenIssuer", "account_number", "self_signed"]

ISSUER = "https://accounts.google.com"
TOKEN_LIFE_SECONDS = 3600
_TOKENS_KEPT = 256


def account_number(email: str) -> str:
    """Return an account's 21-digit number in ``sub`` and ``azp``; it depends only on the e-mail address."""
    return f"1{int.from_bytes(hashlib.sha256(email.encode()).digest()[:8]):020d}"


class TokenIssuer:
    """Signs ID tokens (RS256) with a key created at construction. Thread-safe."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = hashlib.sha1(der, usedforsecurity=False).hexdigest()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self._signer = crypt.RSASigner.from_string(pem, self.key_id)  # type: ignore[no-untyped-call]  # the library
        self._certificate = self_signed(key)
        self._numbers = public.public_numbers()
        self._recent: OrderedDict[tuple[str, str, int], str] = OrderedDict()
        self._lock = threading.Lock()

    def issue(self, email: str, audience: str, now: int) -> str:
        """Return a token for an account and audience, issued at ``now`` (nanoseconds) and valid for an hour.

        Tokens are cached within a second, because signing again would give the same bytes.
        """
        cache_key = (email, audience, now // SECOND)
        with self._lock:
            token = self._recent.get(cache_key)
        if token is None:
            token = self._sign(*cache_key)
            with self._lock:
                self._recent[cache_key] = token
                if len(self._recent) > _TOKENS_KEPT:
                    self._recent.popitem(last=False)
        return token

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with any claims; it is not cached."""
        return bytes(jwt.encode(self._signer, dict(claims))).decode("ascii")  # type: ignore[no-untyped-call]  # the library

    def _sign(self, email: str, audience: str, issued: int) -> str:
        number = account_number(email)
        return self.sign(
            {
                "aud": audience,
                "azp": number,
                "email": email,
                "email_verified": True,
                "exp": issued + TOKEN_LIFE_SECONDS,
                "iat": issued,
                "iss": ISSUER,
                "sub": number,
            }
        )

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JWK set, like Google's at ``/oauth2/v3/certs``."""
        key = {
            "alg": "RS256",
            "e": _base64url(self._numbers.e),
            "kid": self.key_id,
            "kty": "RSA",
            "n": _base64url(self._numbers.n),
            "use": "sig",
        }
        return {"keys": [key]}

    def certificates(self) -> dict[str, str]:
        """Return the public key as a certificate by key ID, like Google's at ``/oauth2/v1/certs``."""
        return {self.key_id: self._certificate}


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()


def self_signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """Return a self-signed certificate in PEM, valid from 2000 to 2100 so that any test clock works."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.local.invalid")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
