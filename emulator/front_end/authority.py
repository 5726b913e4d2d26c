"""The signing authority of the local cloud: it takes the place of Google's keys for ID tokens and IAP's assertions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth import crypt, jwt
from google.auth.exceptions import GoogleAuthError

from emulator.cloud_tasks.oidc import ISSUER, TOKEN_LIFE_SECONDS, TokenIssuer, account_number
from luci_scheduler.core.instants import SECOND

__all__ = ["GCLOUD_CLIENT", "IAP_ISSUER", "Authority", "TokenError", "person_claims"]

GCLOUD_CLIENT = "32555940559.apps.googleusercontent.com"
"""The OAuth client of gcloud. It is the audience of the identity tokens that gcloud prints for people."""

IAP_ISSUER = "https://cloud.google.com/iap"
_ASSERTION_LIFE_SECONDS = 600
_NO_CLOCK = 10**10  # seconds of skew: disables the library's own check, which reads the machine's clock instead of ours


class TokenError(Exception):
    """A token is not accepted; the message says why and never quotes it."""


def person_claims(email: str, client: str, now: int) -> dict[str, Any]:
    """Return the claims of a person's ID token for an OAuth client, issued at ``now`` (nanoseconds) for an hour."""
    issued = now // SECOND
    return {
        "aud": client,
        "azp": client,
        "email": email,
        "email_verified": True,
        "exp": issued + TOKEN_LIFE_SECONDS,
        "iat": issued,
        "iss": ISSUER,
        "sub": account_number(email),
    }


class Authority:
    """Signs ID tokens (RS256) and IAP's assertions (ES256) with keys created at construction. Thread-safe."""

    def __init__(self) -> None:
        self.issuer = TokenIssuer()
        """Signs ID tokens; Cloud Tasks uses the same one."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(self._public).hexdigest()[:6]
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._signer = crypt.ES256Signer.from_string(pem, self._key_id)

    def person_token(self, email: str, now: int, client: str = GCLOUD_CLIENT) -> str:
        """Return a person's ID token for an OAuth client, by default gcloud's own client."""
        return self.issuer.sign(person_claims(email, client, now))

    def assertion(self, email: str, audience: str, now: int) -> str:
        """Return IAP's assertion that a person passed it, valid for ten minutes."""
        issued = now // SECOND
        claims = {
            "aud": audience,
            "azp": audience,
            "email": email,
            "exp": issued + _ASSERTION_LIFE_SECONDS,
            "iat": issued,
            "iss": IAP_ISSUER,
            "sub": f"accounts.google.com:{account_number(email)}",
        }
        return bytes(jwt.encode(self._signer, claims)).decode("ascii")  # type: ignore[no-untyped-call]  # the library

    def iap_keys(self) -> str:
        """Return the key of assertions as JSON, key ID → PEM, like Google's at ``/iap/verify/public_key``."""
        return json.dumps({self._key_id: self._public.decode("ascii")})

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of an ID token whose signature is this authority's; their values are not checked.

        Raises:
            TokenError: another key signed it, or it is no token.
        """
        certificates = self.issuer.certificates()
        try:
            return dict(jwt.decode(token, certs=certificates, clock_skew_in_seconds=_NO_CLOCK))  # type: ignore[no-untyped-call]
        except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TokenError("the signature could not be verified") from error
