"""The token that names the caller of a request, and its claims."""

import base64
import json
from typing import Any

import pytest
from werkzeug.datastructures import EnvironHeaders

from luci_scheduler.core.id_tokens import (
    MAX_TOKEN,
    STRIPPED,
    Requirements,
    check_claims,
    presented_token,
    stripped_claims,
)
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import SECOND, Instant

NOW = Instant(1_773_756_310 * SECOND)
PLATFORM = "X-Serverless-Authorization"
REQUIRED = Requirements(("https://accounts.google.com",), ("https://a.invalid", "https://b.invalid"))
GOOD: dict[str, Any] = {"iss": "https://accounts.google.com", "aud": "https://a.invalid", "exp": NOW // SECOND + 60}


def _part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _token(claims: Any = GOOD, header: Any = None, signature: str = STRIPPED) -> str:
    return f"{_part({'alg': 'RS256', 'kid': 'k'} if header is None else header)}.{_part(claims)}.{signature}"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"Authorization": ""}, None),
        ({"Authorization": "Bearer x"}, ("Authorization", "bearer", "x", True)),
        ({"Authorization": "OAUTH  x "}, ("Authorization", "oauth", "x", True)),
        ({PLATFORM: "bearer x"}, (PLATFORM, "bearer", "x", True)),
        ({"Authorization": "Bearer x", PLATFORM: "Bearer y"}, ("Authorization", "bearer", "x", False)),
        ({"Authorization": "Bearer x", PLATFORM: ""}, ("Authorization", "bearer", "x", False)),
        ({"Authorization": "", PLATFORM: "Bearer y"}, (PLATFORM, "bearer", "y", True)),
    ],
    ids=str,
)
def test_the_header_that_names_the_caller(headers: dict[str, str], found: Any) -> None:
    """The application's header counts first; the platform has checked it only if its own header is absent."""
    given = EnvironHeaders({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    presented = presented_token(given)
    assert (presented and (presented.header, presented.scheme, presented.token, presented.is_checked)) == found


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer\tx", "x", " ", "=?"])
@pytest.mark.parametrize("header", ["Authorization", PLATFORM])
def test_a_header_without_a_token_is_an_error(header: str, value: str) -> None:
    """It never makes the caller anonymous."""
    with pytest.raises(UnauthenticatedError, match=f"{header} holds no bearer token"):
        presented_token({header: value})


def test_an_empty_header_of_the_platform_is_an_error() -> None:
    """Whether the platform skips an empty header is not documented."""
    with pytest.raises(UnauthenticatedError):
        presented_token({PLATFORM: ""})


@pytest.mark.parametrize(
    ("token", "is_jwt", "is_stripped"),
    [
        (_token(), True, True),
        (_token(signature="c2ln"), True, False),
        (_token(signature=STRIPPED.lower()), True, False),
        (_token(signature=f"{STRIPPED}="), True, False),
        (_token(signature=f"x{STRIPPED}"), True, False),
        (_token(signature=""), True, False),
        (f"{_token()}.x", False, False),
        (f"x.{_token()}", False, False),
        (f"{_token(signature='c2ln')},Bearer {_token()}", False, False),
        (f"x.y.{STRIPPED}", False, False),
        (f"ey.{STRIPPED}", False, False),
        ("ya29.token", False, False),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_the_platforms_mark_is_exact(token: str, *, is_jwt: bool, is_stripped: bool) -> None:
    """Two headers that a server has joined are no token."""
    presented = presented_token({"Authorization": f"Bearer {token}"})
    assert presented is not None
    assert (presented.is_jwt, presented.is_stripped) == (is_jwt, is_stripped)
    assert token not in repr(presented)


def test_the_claims_of_a_stripped_token() -> None:
    """They are read without padding, as JWTs are written."""
    for number in range(4):
        claims = {"email": "x" * number}
        assert stripped_claims(_token(claims), "RS256") == claims


@pytest.mark.parametrize(
    ("token", "fault"),
    [
        (_token(header={"alg": "none"}), "algorithm"),
        (_token(header={"alg": "ES256"}), "algorithm"),
        (_token(header={"alg": ["RS256"]}), "algorithm"),
        (_token(header={"typ": "JWT"}), "algorithm"),
        (_token(header=[]), "cannot be read"),
        (_token(claims=[]), "cannot be read"),
        (_token(claims=b"x"), "cannot be read"),
        (_token(claims=b"\xff"), "cannot be read"),
        (_token(claims=b'{"email":"\\ud800"}'), "cannot be read"),
        (_token(claims=b'{"exp":NaN}'), "cannot be read"),
        (_token(claims=b'{"exp":1' + b"0" * 400 + b"}"), "cannot be read"),
        (_token(claims=b"[" * 5_000), "cannot be read"),
        (f"ey!.ey.{STRIPPED}", "cannot be read"),
        (f"ey\u00e9.ey.{STRIPPED}", "cannot be read"),
        (f"ey\n.ey.{STRIPPED}", "cannot be read"),
        (_token(claims={"x": "y" * MAX_TOKEN}), "too long"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_stripped_tokens_that_cannot_be_read(token: str, fault: str) -> None:
    """Hostile parts are refused like any other token."""
    with pytest.raises(UnauthenticatedError, match=fault):
        stripped_claims(token, "RS256")


def test_good_claims_are_accepted() -> None:
    """Each accepted audience will do."""
    check_claims(GOOD, REQUIRED, NOW)
    check_claims({**GOOD, "aud": "https://b.invalid", "iat": NOW // SECOND}, REQUIRED, NOW)


_VALUES: list[Any] = [None, "", "x", True, 5, [], ["https://a.invalid"], {}, {"x": 1}, 10**400, -1, float("nan")]


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat"])
@pytest.mark.parametrize("value", _VALUES, ids=lambda value: str(value)[:9])
def test_claims_of_any_type(claim: str, value: Any) -> None:
    """Only a text is an issuer or an audience, and only a number is a time."""
    if claim == "iat" and value in (5, -1):
        check_claims({**GOOD, claim: value}, REQUIRED, NOW)
        return
    with pytest.raises(UnauthenticatedError, match={"iss": "issuer", "aud": "audience"}.get(claim, "time")):
        check_claims({**GOOD, claim: value}, REQUIRED, NOW)


def test_the_error_names_both_audiences() -> None:
    """A person learns which token the console expects. Foreign characters are escaped, and a long text is cut."""
    with pytest.raises(UnauthenticatedError) as raised:
        check_claims({**GOOD, "aud": "https://other.invalid\n\u202e" + "x" * 500}, REQUIRED, NOW)
    text = str(raised.value)
    assert r"audience is 'https://other.invalid\n\u202exx" in text
    assert "the accepted audience is https://a.invalid or https://b.invalid" in text
    assert len(text) < 400
