"""Signed tokens with a single fault: an unverified address, another algorithm, or an excessive length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import crypt, jwt
from werkzeug.datastructures import Headers

from emulator.clock import SteppedClock
from emulator.cloud_tasks.oidc import self_signed
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND, Instant

NOW = Instant(1_773_756_310 * SECOND)
ACCOUNT = "tasks@p.iam.gserviceaccount.com"
TASKS, CONSOLE, IAP = "https://on-task.invalid", "https://console.invalid", "/projects/1/global/backendServices/2"
MAX_TOKEN = 16_384
"""The length of the longest token that is verified."""


class Signer:
    """Signs with a key of either algorithm. Its public part is published as a certificate."""

    def __init__(self, algorithm: str) -> None:
        key: Any = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        made: Any = crypt.RSASigner if algorithm == "RS256" else crypt.EsSigner
        self._signer = made.from_string(pem, "k1")
        self._keys = json.dumps({"k1": self_signed(key)}).encode()

    def keys(self) -> bytes:
        """Return the content at the address of the public keys."""
        return self._keys

    def token(self, audience: str, **changes: Any) -> str:
        """Return a token like Google's or its proxy's, with the changes; a claim changed to None is left out."""
        now = NOW // SECOND
        claims = {
            "iss": "https://cloud.google.com/iap" if audience == IAP else "https://accounts.google.com",
            "aud": audience,
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 600,
            **changes,
        }
        return bytes(jwt.encode(self._signer, {k: v for k, v in claims.items() if v is not None})).decode()


def _no_access_token(_: str, _sender: str) -> str:
    raise AssertionError("these tests use signed tokens")


def _task(signer: Signer, token: str) -> str:
    return OidcVerifier(signer.keys, TASKS, {ACCOUNT}, SteppedClock(NOW)).verify({"Authorization": f"Bearer {token}"})


def _console(signer: Signer, headers: dict[str, str]) -> str:
    identity = CallerIdentity(
        SteppedClock(NOW),
        iap_audience=IAP,
        fetch_iap_keys=signer.keys,
        bearer_audiences=(CONSOLE,),
        fetch_oidc_keys=signer.keys,
        access_token_email=_no_access_token,
    )
    return str(identity.identify(Headers(headers))).removeprefix("user:")


def _bearer(signer: Signer, token: str) -> str:
    return _console(signer, {"Authorization": f"Bearer {token}"})


def _assertion(signer: Signer, token: str) -> str:
    return _console(signer, {"X-Goog-Iap-Jwt-Assertion": token})


DOORS: dict[str, tuple[Callable[[Signer, str], str], str, str]] = {
    "a task": (_task, TASKS, "RS256"),
    "an ID token at the console": (_bearer, CONSOLE, "RS256"),
    "an assertion of the proxy": (_assertion, IAP, "ES256"),
}
"""The place of a token, its audience, and the algorithm that is accepted there."""


@pytest.fixture(scope="module")
def signers() -> dict[str, Signer]:
    """A signer for each algorithm."""
    return {algorithm: Signer(algorithm) for algorithm in ("RS256", "ES256")}


@pytest.mark.parametrize("door", DOORS)
def test_a_genuine_token_is_accepted(signers: dict[str, Signer], door: str) -> None:
    """The control of the tests below."""
    verify, audience, algorithm = DOORS[door]
    signer = signers[algorithm]
    assert verify(signer, signer.token(audience)) == ACCOUNT


@pytest.mark.parametrize("door", ["a task", "an ID token at the console"])
@pytest.mark.parametrize("verified", [False, None, "true", "false", 1, 0, [], [True], {}], ids=repr)
def test_an_unverified_address_does_not_identify_the_caller(
    signers: dict[str, Signer], door: str, verified: Any
) -> None:
    """Only the JSON value ``true`` means that Google has verified the address (OpenID Connect Core, 5.1)."""
    verify, audience, algorithm = DOORS[door]
    signer = signers[algorithm]
    with pytest.raises(UnauthenticatedError, match="account is not accepted"):
        verify(signer, signer.token(audience, email_verified=verified))


@pytest.mark.parametrize("door", DOORS)
def test_a_token_of_another_algorithm_is_refused(signers: dict[str, Signer], door: str) -> None:
    """The issuer publishes the signing key, and the library supports both algorithms: only the pin refuses it."""
    verify, audience, accepted = DOORS[door]
    (signer,) = (signer for algorithm, signer in signers.items() if algorithm != accepted)
    with pytest.raises(UnauthenticatedError, match="algorithm is not accepted"):
        verify(signer, signer.token(audience))


@pytest.mark.parametrize("door", DOORS)
def test_a_token_that_is_too_long_is_refused(signers: dict[str, Signer], door: str) -> None:
    """A token of the maximum length is accepted. A longer one is refused, although its signature is valid."""
    verify, audience, algorithm = DOORS[door]
    signer = signers[algorithm]
    bare = len(signer.token(audience, pad=""))
    longest = signer.token(audience, pad="x" * ((MAX_TOKEN - bare) * 3 // 4))
    assert MAX_TOKEN - 4 < len(longest) <= MAX_TOKEN
    assert verify(signer, longest) == ACCOUNT
    with pytest.raises(UnauthenticatedError, match="too long"):
        verify(signer, signer.token(audience, pad="x" * ((MAX_TOKEN - bare) * 3 // 4 + 6)))
