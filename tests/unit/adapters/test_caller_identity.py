"""The identity of the console's callers: the proxy's assertions and bearer tokens, genuine and forged."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth import crypt, jwt
from werkzeug.datastructures import Headers

from emulator.clock import SteppedClock
from emulator.cloud_tasks.oidc import TokenIssuer
from luci_scheduler.adapters.identity import CallerIdentity, OidcVerifier
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import ANONYMOUS, UnauthenticatedError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant

NOW = Instant(1_773_756_310 * SECOND)
IAP_AUDIENCE = "/projects/1/global/backendServices/2"
AUDIENCE = "https://console.invalid"
HEADER = "X-Goog-Iap-Jwt-Assertion"


class Proxy:
    """Signs assertions like the identity-aware proxy."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self.public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.fetches = 0

    def keys(self) -> bytes:
        """Return the document of public keys, and count the fetch."""
        self.fetches += 1
        return json.dumps({"k1": self.public.decode()}).encode()

    def assertion(self, key_id: str = "k1", **changes: Any) -> str:
        """Return a signed assertion with the changed claims."""
        now = NOW // SECOND
        claims = {
            "iss": "https://cloud.google.com/iap", "aud": IAP_AUDIENCE, "email": "Dev@Example.com",
            "sub": "accounts.google.com:1",
            "iat": now, "exp": now + 600,
        }  # fmt: skip
        signer = crypt.EsSigner.from_string(self.pem, key_id)
        return bytes(jwt.encode(signer, {**claims, **changes})).decode()


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    """The proxy."""
    return Proxy()


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    """The signer of bearer tokens."""
    return TokenIssuer()


def _no_access_token(_: str, _sender: str) -> str:
    raise AssertionError("these tests send signed tokens")


def _identity(proxy: Proxy, issuer: TokenIssuer, clock: SteppedClock | None = None, **settings: Any) -> CallerIdentity:
    values = {"iap_audience": IAP_AUDIENCE, "bearer_audiences": (AUDIENCE, "other"), **settings}
    return CallerIdentity(
        clock or SteppedClock(NOW),
        fetch_iap_keys=proxy.keys,
        fetch_oidc_keys=lambda: json.dumps(issuer.certificates()).encode(),
        access_token_email=_no_access_token,
        **values,
    )


def test_the_proxys_assertion_names_the_caller(proxy: Proxy, issuer: TokenIssuer) -> None:
    """The address is in lower case. The assertion takes precedence over a bearer token."""
    headers = Headers({HEADER: proxy.assertion(), "Authorization": "Bearer nonsense"})
    assert _identity(proxy, issuer).identify(headers) == "user:dev@example.com"


def test_a_bad_assertion_is_an_error_beside_a_good_token(proxy: Proxy, issuer: TokenIssuer) -> None:
    """The first source that a request carries decides."""
    good = f"Bearer {issuer.issue('a@b.c', AUDIENCE, NOW)}"
    headers = Headers({HEADER: proxy.assertion(aud="else"), "Authorization": good, "X-Serverless-Authorization": good})
    with pytest.raises(UnauthenticatedError, match="audience is 'else'"):
        _identity(proxy, issuer).identify(headers)
    assert _identity(proxy, issuer, iap_audience="").identify(headers) == "user:a@b.c"


def test_a_bearer_token_names_the_caller(proxy: Proxy, issuer: TokenIssuer) -> None:
    """A token for an expected audience names the caller."""
    headers = Headers({"Authorization": f"bearer {issuer.issue('a@b.c', AUDIENCE, NOW)}"})
    assert _identity(proxy, issuer).identify(headers) == "user:a@b.c"


def test_without_tokens_a_caller_is_anonymous(proxy: Proxy, issuer: TokenIssuer) -> None:
    """The proxy's header proves nothing if no proxy is expected."""
    assert _identity(proxy, issuer).identify(Headers()) == ANONYMOUS
    assert _identity(proxy, issuer, iap_audience="").identify(Headers({HEADER: proxy.assertion()})) == ANONYMOUS


def test_the_developer_of_the_local_cloud(proxy: Proxy, issuer: TokenIssuer) -> None:
    """Every caller counts as the developer, with any tokens."""
    identity = _identity(proxy, issuer, local_user="dev@localhost")
    assert identity.identify(Headers({"Authorization": "Bearer x"})) == "user:dev@localhost"


def _unsigned(claims: dict[str, Any]) -> str:
    parts = [{"alg": "none", "kid": "k1"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://accounts.google.com"},
        {"aud": "/projects/1/global/backendServices/3"},
        {"aud": [IAP_AUDIENCE]},
        {"exp": NOW // SECOND - 301},
        {"iat": NOW // SECOND + 301},
        {"email": None},
        {"email": "nobody"},
        {"email": "securetoken.google.com/p/t:dev@example.com"},
        {"email": "dev@example.com "},
        {"email": "\u212aim@example.com"},
    ],
    ids=str,
)
def test_assertions_with_a_wrong_claim_are_refused(proxy: Proxy, issuer: TokenIssuer, changes: dict[str, Any]) -> None:
    """Issuer, audience, time and address must all be right. A wrong one does not make the call anonymous."""
    with pytest.raises(UnauthenticatedError):
        _identity(proxy, issuer).identify(Headers({HEADER: proxy.assertion(**changes)}))


def test_forged_assertions_are_refused(proxy: Proxy, issuer: TokenIssuer) -> None:
    """Another key, no signature, another algorithm, a token that Google signed for another purpose, and garbage."""
    genuine = proxy.assertion()
    forged = [
        Proxy().assertion(),
        genuine[:-4] + "AAAA",
        genuine.rpartition(".")[0] + ".",
        _unsigned({"email": "dev@example.com", "aud": IAP_AUDIENCE}),
        issuer.issue("a@b.c", IAP_AUDIENCE, NOW),
        "x", "a.b.c", "...", "\u00e9.\u00e9.\u00e9", "e30.e30.e30", "W10.W10.W10", "A" * 100_000,
    ]  # fmt: skip
    for token in forged:
        with pytest.raises(UnauthenticatedError):
            _identity(proxy, issuer).identify({HEADER.lower(): token})


def test_wrong_bearer_tokens_are_refused(proxy: Proxy, issuer: TokenIssuer) -> None:
    """Another audience or scheme, an assertion in the wrong place, no token; and any token if none is expected."""
    good = issuer.issue("a@b.c", AUDIENCE, NOW)
    wrong = [
        f"Bearer {issuer.issue('a@b.c', 'https://elsewhere', NOW)}",
        f"Basic {good}",
        f"Bearer {proxy.assertion()}",
        "Bearer ",
    ]
    for header in wrong:
        with pytest.raises(UnauthenticatedError):
            _identity(proxy, issuer).identify(Headers({"Authorization": header}))
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_CONSOLE_AUDIENCES"):
        _identity(proxy, issuer, bearer_audiences=()).identify(Headers({"Authorization": f"Bearer {good}"}))


def test_no_error_holds_the_token(proxy: Proxy, issuer: TokenIssuer) -> None:
    """Errors are logged and shown."""
    token = proxy.assertion(aud="else")
    with pytest.raises(UnauthenticatedError) as raised:
        _identity(proxy, issuer).identify(Headers({HEADER: token}))
    assert token not in str(raised.value)


def test_made_up_key_ids_do_not_cause_repeated_fetches_of_keys(issuer: TokenIssuer) -> None:
    """Keys are fetched at most once a minute. The fetch then finds new keys."""
    proxy, clock = Proxy(), SteppedClock(NOW)
    identity = _identity(proxy, issuer, clock)
    for number in range(20):
        with pytest.raises(UnauthenticatedError):
            identity.identify(Headers({HEADER: proxy.assertion(f"k{number + 2}")}))
    assert proxy.fetches == 1
    clock.advance(MINUTE)
    with pytest.raises(UnauthenticatedError):
        identity.identify(Headers({HEADER: proxy.assertion("k99")}))
    assert proxy.fetches == 2
    clock.advance(HOUR)


def test_a_failure_to_fetch_the_keys_is_transient(issuer: TokenIssuer) -> None:
    """The call may be retried."""
    proxy = Proxy()

    def fail() -> bytes:
        raise OSError("no network")

    identity = CallerIdentity(
        SteppedClock(NOW),
        iap_audience=IAP_AUDIENCE,
        fetch_iap_keys=fail,
        fetch_oidc_keys=fail,
        access_token_email=_no_access_token,
    )
    with pytest.raises(TransientError):
        identity.identify(Headers({HEADER: proxy.assertion()}))


_DEEP = base64.urlsafe_b64encode(b"[" * 8_000).rstrip(b"=").decode()
_VALUES: list[Any] = [None, "", "x", True, [], ["x"], {}, {"x": 1}, 10**400, float("nan"), float("inf"), float("-inf")]


def _bearer_token(issuer: TokenIssuer, **changes: Any) -> str:
    now = NOW // SECOND
    claims = {
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "email": "a@b.c", "email_verified": True, "iat": now,
        "exp": now + 600,
    }  # fmt: skip
    return bytes(jwt.encode(issuer._signer, {**claims, **changes})).decode()


@pytest.mark.parametrize("claim", ["iss", "aud", "email", "iat", "exp"])
@pytest.mark.parametrize("value", _VALUES, ids=lambda value: str(value)[:9])
def test_signed_claims_of_any_type(proxy: Proxy, issuer: TokenIssuer, claim: str, value: Any) -> None:
    """The verifiers of the proxy's header and of bearer tokens refuse a token that Google has never signed."""
    token = _bearer_token(issuer, **{claim: value})
    caller = _identity(proxy, issuer)
    with pytest.raises(UnauthenticatedError):
        caller.identify(Headers({"Authorization": f"Bearer {token}"}))
    with pytest.raises(UnauthenticatedError):
        caller.identify(Headers({HEADER: proxy.assertion(**{claim: value})}))
    tasks = OidcVerifier(lambda: json.dumps(issuer.certificates()).encode(), AUDIENCE, {"a@b.c"}, SteppedClock(NOW))
    assert tasks.verify({"Authorization": f"Bearer {_bearer_token(issuer)}"}) == "a@b.c"
    with pytest.raises(UnauthenticatedError):
        tasks.verify({"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("place", [0, 1, 2])
def test_parts_that_are_nested_too_deeply(proxy: Proxy, issuer: TokenIssuer, place: int) -> None:
    """A part of eleven kilobytes is refused like any other text that is not a token."""
    parts = _bearer_token(issuer).split(".")
    parts[place] = _DEEP
    assertion = proxy.assertion().split(".")
    assertion[place] = _DEEP
    bearer = Headers({"Authorization": f"Bearer {'.'.join(parts)}"})
    # A first part with another beginning makes it a token of Google's own form, which other tests send.
    for headers in (Headers({HEADER: ".".join(assertion)}), *([bearer] if place else [])):
        with pytest.raises(UnauthenticatedError, match="signature"):
            _identity(proxy, issuer).identify(headers)
    tasks = OidcVerifier(lambda: b"{}", AUDIENCE, {"a@b.c"}, SteppedClock(NOW))
    with pytest.raises(UnauthenticatedError, match="signature"):
        tasks.verify({"Authorization": f"Bearer {'.'.join(parts)}"})


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"[]", b"null", b"5", b"x", b"\xff"])
def test_documents_that_are_not_keys(proxy: Proxy, issuer: TokenIssuer, answer: bytes) -> None:
    """Another document in place of the keys proves nothing. A minute later the keys are fetched again."""
    tasks = OidcVerifier(lambda: answer, AUDIENCE, {"a@b.c"}, SteppedClock(NOW))
    with pytest.raises(TransientError, match="could not be fetched"):
        tasks.verify({"Authorization": f"Bearer {_bearer_token(issuer)}"})
