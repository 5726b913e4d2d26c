"""Credentials for GitHub: the exchange of an App's JWT for a token, its renewal, and silence about secrets."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from emulator.clock import SteppedClock
from luci_scheduler.adapters.github_api import GitHubApi, NoCredentials
from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials
from luci_scheduler.core.instants import MINUTE, Instant, parse_rfc3339
from luci_scheduler.ports import GitilesError
from tests.scripted_github import Exchange, ScriptedGitHub

SAMPLE = Path(__file__).parents[2] / "samples" / "github" / "app-installation-token.http.json"
NOW = parse_rfc3339("2026-03-17T14:00:02Z")
EXCHANGE = "POST /app/installations/4711/access_tokens"
GET = "GET /repos/o/r"


@cache
def _key() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def _token(text: str, ends: Any = "2026-03-17T15:00:02Z") -> Exchange:
    return Exchange(EXCHANGE, 201, {"token": text, "expires_at": ends})


def _app(github: ScriptedGitHub, clock: SteppedClock, key: str = "") -> GitHubApi:
    credentials = AppCredentials("Iv23liEXAMPLE", "4711", key or _key()[0], clock, {"contents": "read"})
    return github.api(clock, credentials)


def _bearers(github: ScriptedGitHub) -> list[str]:
    return [item["headers"]["Authorization"].removeprefix("Bearer ") for item in github.sent]


def test_the_exchange_of_the_sample() -> None:
    """The JWT has the claims of the sample, the request asks only for the given permissions, and the token is used."""
    sample = json.loads(SAMPLE.read_text(encoding="utf-8"))
    github = ScriptedGitHub(Exchange.of_sample(sample), Exchange(GET, 200, {}))
    clock = SteppedClock(Instant((sample["jwt"]["claims"]["iat"] + 60) * 1_000_000_000))
    assert _app(github, clock).get("github.com", "/repos/o/r").status == 200
    made, used = _bearers(github)
    assert used == sample["response"]["body"]["token"]
    header, claims, _, _ = jwt._unverified_decode(made)  # type: ignore[no-untyped-call]
    assert header == sample["jwt"]["header"]
    assert claims == sample["jwt"]["claims"]
    jwt.decode(made, certs=_key()[1], verify=False)  # type: ignore[no-untyped-call]
    assert github.sent[0]["body"] == {"permissions": sample["request"]["body"]["permissions"]}


def test_a_token_is_kept_until_five_minutes_before_its_end() -> None:
    """The process makes one exchange an hour."""
    clock = SteppedClock(NOW)
    github = ScriptedGitHub(_token("one"), *[Exchange(GET, 200, {})] * 2, _token("two"), Exchange(GET, 200, {}))
    api = _app(github, clock)
    for minutes in (0, 54, 55):
        clock.move_to(Instant(NOW + minutes * MINUTE))
        api.get("github.com", "/repos/o/r")
    assert [item["request"] for item in github.sent].count(EXCHANGE) == 2
    assert [bearer for bearer in _bearers(github) if bearer in ("one", "two")] == ["one", "one", "two"]


def test_a_refused_token_is_exchanged_once() -> None:
    """A token may be revoked before its end. After a second refusal, the call fails, and the next call tries again."""
    unauthorized = Exchange(GET, 401, {"message": "Bad credentials"})
    github = ScriptedGitHub(_token("one"), unauthorized, _token("two"), unauthorized)
    api = _app(github, SteppedClock(NOW))
    with pytest.raises(GitilesError, match="UNAUTHENTICATED: HTTP 401: Bad credentials"):
        api.get("github.com", "/repos/o/r")
    github.expect([Exchange(GET, 200, {})])
    assert api.get("github.com", "/repos/o/r").status == 200
    assert github.expected == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UNAUTHENTICATED"), (403, "UNAUTHENTICATED"), (404, "UNAUTHENTICATED"), (422, "UNAUTHENTICATED")],
)
def test_a_refused_exchange_says_nothing_about_the_repository(status: int, code: str) -> None:
    """GitHub answers 404 about a removed installation. Read as a missing commit, it would look like a force push."""
    github = ScriptedGitHub(Exchange(EXCHANGE, status, {"message": "Not Found"}))
    with pytest.raises(GitilesError) as raised:
        _app(github, SteppedClock(NOW)).get("github.com", "/repos/o/r")
    assert (raised.value.code, raised.value.transient) == (code, False)
    assert "GitHub makes no token for the App's installation 4711" in str(raised.value)


def test_a_failed_exchange_is_transient() -> None:
    """The next attempt makes another one."""
    github = ScriptedGitHub(Exchange(EXCHANGE, 502, {"message": "Server Error"}))
    with pytest.raises(GitilesError) as raised:
        _app(github, SteppedClock(NOW)).get("github.com", "/repos/o/r")
    assert (raised.value.code, raised.value.transient) == ("UNAVAILABLE", True)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"token": 7, "expires_at": "2026-03-17T15:00:02Z"},
        {"token": ""},
        {"token": "t"},
        {"token": "t", "expires_at": "soon"},
    ],
)
def test_an_answer_without_a_token(body: Any) -> None:
    """The error names the fault, not the answer."""
    with pytest.raises(GitilesError, match="UNAUTHENTICATED: GitHub's answer holds no "):
        _app(ScriptedGitHub(Exchange(EXCHANGE, 201, body)), SteppedClock(NOW)).get("github.com", "/repos/o/r")


@pytest.mark.parametrize(
    "key", ["not a key", "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n"]
)
def test_a_bad_key_is_named_without_its_text(key: str) -> None:
    """The remedy is the name of the setting."""
    with pytest.raises(GitilesError, match="set SCHEDULER_GITHUB_PRIVATE_KEY") as raised:
        _app(ScriptedGitHub(), SteppedClock(NOW), key).get("github.com", "/repos/o/r")
    assert key not in f"{raised.value!r} {raised.value.__cause__!r}"
    assert raised.value.__suppress_context__


def test_secrets_are_in_no_repr() -> None:
    """Neither of the credentials nor of a client that has them."""
    private, _ = _key()
    app = AppCredentials("a", "1", private, SteppedClock(NOW), {})
    assert private not in repr(app)
    assert "secret" not in repr(TokenCredentials("secret"))
    assert (NoCredentials().token(lambda *_: None), NoCredentials().renew("")) == ("", False)
    assert TokenCredentials("t").renew("t") is False
