"""Tokens and keys."""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from emulator.cloud_tasks.oidc import TokenIssuer

NOW = 1_773_756_432_882_000_000
EMAIL = "scheduler-invoker@my-scheduler.iam.gserviceaccount.com"
AUDIENCE = "https://on-task-abcdefghij-uc.a.run.app"


def decode(part: str) -> bytes:
    """Decode base64url without its padding."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_has_the_header_and_claims_that_google_sends():
    """The format is Google's: RS256 with a key ID, and times of the clock an hour apart."""
    issuer = TokenIssuer()
    header, claims, _ = (issuer.issue(EMAIL, AUDIENCE, NOW)).split(".")
    assert json.loads(decode(header)) == {"alg": "RS256", "kid": issuer.key_id, "typ": "JWT"}
    payload = json.loads(decode(claims))
    number = payload.pop("sub")
    assert number.isdecimal()
    assert len(number) == 21
    assert payload == {
        "aud": AUDIENCE,
        "azp": number,
        "email": EMAIL,
        "email_verified": True,
        "exp": 1773760032,
        "iat": 1773756432,
        "iss": "https://accounts.google.com",
    }


def test_the_key_in_the_jwk_set_verifies_the_signature():
    """The published modulus and exponent belong to the signing key."""
    issuer = TokenIssuer()
    head, _, signature = issuer.issue(EMAIL, AUDIENCE, NOW).rpartition(".")
    (key,) = issuer.jwks()["keys"]
    n, e = (int.from_bytes(decode(key[name])) for name in ("n", "e"))
    public = rsa.RSAPublicNumbers(e, n).public_key()
    public.verify(decode(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert {name: key[name] for name in ("alg", "kid", "kty", "use")} == {
        "alg": "RS256",
        "kid": issuer.key_id,
        "kty": "RSA",
        "use": "sig",
    }
    assert len(issuer.key_id) == 40


def test_the_same_second_gives_the_same_token_and_the_next_one_another():
    """A token is created once per account, audience and second."""
    issuer = TokenIssuer()
    token = issuer.issue(EMAIL, AUDIENCE, NOW)
    assert issuer.issue(EMAIL, AUDIENCE, NOW + 100_000_000) == token
    others = {
        issuer.issue(EMAIL, AUDIENCE, NOW + 10**9),
        issuer.issue("x@y", AUDIENCE, NOW),
        issuer.issue(EMAIL, "a", NOW),
    }
    assert token not in others
    assert len(others) == 3


def test_keys_are_new_at_every_start():
    """No key outlives its server."""
    assert TokenIssuer().key_id != TokenIssuer().key_id
