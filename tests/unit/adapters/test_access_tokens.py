"""OAuth access tokens, against a loopback server that plays Google's ``tokeninfo``."""

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from emulator.clock import SteppedClock
from luci_scheduler.adapters import access_tokens
from luci_scheduler.bootstrap import Identify
from luci_scheduler.cloud_ports import make_identify
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import ANONYMOUS, UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.settings import Settings
from luci_scheduler.settings_reader import SettingsError, read_settings
from tests.unit.adapters.tokeninfo import CLIENT, TokenInfo, serve_tokeninfo

NOW = Instant(1_773_756_310 * SECOND)
SERVICE = "bot@p.iam.gserviceaccount.com"
SERVICE_ID = "104000000000000000001"
TOKEN = "ya29.c.b0Aaekm1K-canary_" + "x" * 200
EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"
# The signature is not valid, but the form suffices to select the verifier.
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFAYi5jIn0.c2ln"


@pytest.fixture
def google() -> Iterator[TokenInfo]:
    """The server that knows the tokens."""
    with serve_tokeninfo() as info:
        yield info


@pytest.fixture
def clock() -> SteppedClock:
    """The scheduler's clock."""
    return SteppedClock(NOW)


def _identify(google: TokenInfo, clock: SteppedClock, *clients: str, **settings: Any) -> Identify:
    values = {"console_oauth_clients": clients, "tokeninfo_url": google.url, "local": True, **settings}
    return make_identify(Settings("p", "https://t", "a@p", ("secret",), **values), clock)


def _bearer(token: str, scheme: str = "Bearer") -> Headers:
    return Headers({"Authorization": f"{scheme} {token}"})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "OAuth", "oauth"])
def test_an_access_token_names_the_caller(google: TokenInfo, clock: SteppedClock, scheme: str) -> None:
    """The address is in lower case. Either scheme that LUCI accepts works."""
    google.know(TOKEN)
    assert _identify(google, clock, CLIENT)(_bearer(TOKEN, scheme)) == "user:dev@example.com"
    assert google.paths == {"/tokeninfo": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_in": 3599, "email_verified": True},
        {"expires_in": "1"},
        {"scope": EMAIL_SCOPE},
        {"scope": f"{EMAIL_SCOPE} https://www.googleapis.com/auth/cloud-platform"},
        {"azp": None, "sub": None, "exp": None, "access_type": None},
        {"aud": SERVICE_ID, "email": SERVICE},
    ],
    ids=str,
)
def test_good_tokens(google: TokenInfo, clock: SteppedClock, changes: dict[str, Any]) -> None:
    """Numbers and booleans as such or as texts. Optional members may be missing.

    An account's own number is also a client.
    """
    google.know(TOKEN, **changes)
    email = changes.get("email", "dev@example.com")
    assert _identify(google, clock, CLIENT, SERVICE_ID)(_bearer(TOKEN)) == f"user:{email}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"aud": "9-x.apps.googleusercontent.com"},
            "'9-x.apps.googleusercontent.com' is not in SCHEDULER_CONSOLE_OAUTH_",
        ),
        ({"aud": None}, "names no OAuth client"),
        ({"aud": ""}, "names no OAuth client"),
        ({"aud": [CLIENT]}, "names no OAuth client"),
        ({"aud": None, "azp": CLIENT}, "names no OAuth client"),
        ({"email": None}, "names no account"),
        ({"email": ""}, "names no account"),
        ({"email": "nobody"}, "names no account"),
        ({"email": "a@b.c\nx"}, "names no account"),
        ({"email": {"a@b.c": 1}}, "names no account"),
        ({"email_verified": None}, "not verified"),
        ({"email_verified": "false"}, "not verified"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": 1}, "not verified"),
        ({"email_verified": ["true"]}, "not verified"),
        ({"expires_in": None}, "has expired"),
        ({"expires_in": "0"}, "has expired"),
        ({"expires_in": 0}, "has expired"),
        ({"expires_in": "-5"}, "has expired"),
        ({"expires_in": -5}, "has expired"),
        ({"expires_in": "\u0663\u0663"}, "has expired"),
        ({"expires_in": True}, "has expired"),
        ({"expires_in": 1e3}, "has expired"),
        ({"expires_in": "9" * 4000}, "has expired"),
        ({"scope": None}, "lacks the scope"),
        ({"scope": "openid"}, "lacks the scope"),
        ({"scope": f"{EMAIL_SCOPE}.readonly"}, "lacks the scope"),
        ({"scope": [EMAIL_SCOPE]}, "lacks the scope"),
        ({"email": SERVICE, "aud": SERVICE_ID}, "service-accounts is not in SCHEDULER_CONSOLE_OAUTH_CLIENTS"),
    ],
    ids=str,
)  # fmt: skip
def test_tokens_that_google_accepts_and_the_console_refuses(
    google: TokenInfo, clock: SteppedClock, changes: dict[str, Any], reason: str
) -> None:
    """Every member must be right. The answer is cached."""
    google.know(TOKEN, **changes)
    identify = _identify(google, clock, CLIENT)
    for _ in range(2):
        with pytest.raises(UnauthenticatedError, match=reason):
            identify(_bearer(TOKEN))
    assert google.asked == {TOKEN: 1}


def test_service_accounts_and_users_are_distinguished(google: TokenInfo, clock: SteppedClock) -> None:
    """The word accepts every service account and no person, even if a person's address looks similar."""
    identify = _identify(google, clock, "service-accounts")
    google.know("service", email=SERVICE, aud=SERVICE_ID)
    assert identify(_bearer("service")) == f"user:{SERVICE}"
    for number, email in enumerate(("dev@example.com", "x@evilgserviceaccount.com", "x@gserviceaccount.com.evil.com")):
        google.know(f"user{number}", email=email)
        with pytest.raises(UnauthenticatedError, match=f"'{CLIENT}' is not in SCHEDULER_CONSOLE_OAUTH_CLIENTS"):
            identify(_bearer(f"user{number}"))
    google.know("word", aud="service_accounts")
    with pytest.raises(UnauthenticatedError, match="is not in"):
        identify(_bearer("word"))


def test_without_clients_no_token_is_accepted(google: TokenInfo, clock: SteppedClock) -> None:
    """Google is not queried, and the message names the setting."""
    google.know(TOKEN)
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_CONSOLE_OAUTH_CLIENTS is not set"):
        _identify(google, clock)(_bearer(TOKEN))
    assert not google.asked


def test_id_tokens_have_another_verifier(google: TokenInfo, clock: SteppedClock) -> None:
    """Each setting applies to its own kind of token. Neither setting allows the other kind."""
    google.know(JWT)
    google.know(TOKEN)
    identify = _identify(google, clock, CLIENT)
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_CONSOLE_AUDIENCES is not set"):
        identify(_bearer(JWT))
    assert identify(_bearer(TOKEN)) == "user:dev@example.com"
    identify = _identify(google, clock, console_audiences=("https://console.invalid",))
    with pytest.raises(UnauthenticatedError, match="SCHEDULER_CONSOLE_OAUTH_CLIENTS is not set"):
        identify(_bearer(TOKEN))
    assert JWT not in google.asked


def test_the_proxys_assertion_takes_precedence(google: TokenInfo, clock: SteppedClock) -> None:
    """A bad assertion is an error, even along with a good token. Without an expected proxy, it is ignored."""
    google.know(TOKEN)
    headers = Headers({"X-Goog-Iap-Jwt-Assertion": "nonsense", "Authorization": f"Bearer {TOKEN}"})
    with pytest.raises(UnauthenticatedError, match="signature"):
        _identify(google, clock, CLIENT, iap_audience="/projects/1")(headers)
    assert not google.asked
    assert _identify(google, clock, CLIENT)(headers) == "user:dev@example.com"


def test_without_a_token_a_caller_is_anonymous(google: TokenInfo, clock: SteppedClock) -> None:
    """Google is not asked."""
    assert _identify(google, clock, CLIENT)(Headers()) == ANONYMOUS
    assert not google.asked


@pytest.mark.parametrize(
    "token",
    ["", "a b", "a\nb", "a\r\nHost: x", "a\x00b", "\u00e9", "\uff41", "a&aud=x", "a#b", "a%20b", "a?b", '"',
     "x" * 12_289],
    ids=ascii,
)  # fmt: skip
def test_an_impossible_token_is_refused_without_a_request(google: TokenInfo, clock: SteppedClock, token: str) -> None:
    """A token with a character or a length that no token has costs no request."""
    with pytest.raises(UnauthenticatedError):
        _identify(google, clock, CLIENT)({"Authorization": f"Bearer {token}"})
    assert not google.paths


def test_the_longest_token(google: TokenInfo, clock: SteppedClock) -> None:
    """Tokens with every allowed character are accepted."""
    token = google.know("ya29.-_~+/=" + "x" * 12_277)
    assert _identify(google, clock, CLIENT)(_bearer(token)) == "user:dev@example.com"


def test_a_good_token_is_remembered_for_minutes(google: TokenInfo, clock: SteppedClock) -> None:
    """Google is then queried again, and knows by then that a token was revoked."""
    google.know(TOKEN)
    identify = _identify(google, clock, CLIENT)
    for _ in range(3):
        identify(_bearer(TOKEN))
    clock.advance(5 * MINUTE - 1)
    identify(_bearer(TOKEN))
    assert google.asked == {TOKEN: 1}
    clock.advance(1)
    identify(_bearer(TOKEN))
    assert google.asked == {TOKEN: 2}
    del google.tokens[TOKEN]
    clock.advance(5 * MINUTE)
    with pytest.raises(UnauthenticatedError, match="Google does not know it"):
        identify(_bearer(TOKEN))


def test_a_good_token_is_not_remembered_after_its_end(google: TokenInfo, clock: SteppedClock) -> None:
    """An expired token is refused even if its cache entry has minutes left."""
    google.know(TOKEN, expires_in="60")
    identify = _identify(google, clock, CLIENT)
    identify(_bearer(TOKEN))
    del google.tokens[TOKEN]
    clock.advance(MINUTE - 1)
    identify(_bearer(TOKEN))
    clock.advance(1)
    with pytest.raises(UnauthenticatedError, match="or it has expired"):
        identify(_bearer(TOKEN))


def test_a_bad_token_is_remembered_for_minutes(google: TokenInfo, clock: SteppedClock) -> None:
    """Repeated attempts cost nothing more."""
    identify = _identify(google, clock, CLIENT)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError, match="Google does not know it"):
            identify(_bearer(TOKEN))
    assert google.asked == {TOKEN: 1}
    google.know(TOKEN)
    clock.advance(5 * MINUTE)
    assert identify(_bearer(TOKEN)) == "user:dev@example.com"


def test_a_flood_of_bad_tokens(google: TokenInfo, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not displace the good ones, and memory stays bounded: the oldest of each kind are dropped."""
    monkeypatch.setattr(access_tokens, "_MAX_TOKENS", 3)
    identify = _identify(google, clock, CLIENT)
    good = [google.know(f"good{number}") for number in range(3)]
    for token in good:
        identify(_bearer(token))
    for number in [*range(10), 9, 0]:
        with pytest.raises(UnauthenticatedError):
            identify(_bearer(f"bad{number}"))
    for token in good:
        identify(_bearer(token))
    assert google.asked == {**dict.fromkeys(good, 1), "bad0": 2, **{f"bad{number}": 1 for number in range(1, 10)}}
    identify(_bearer(google.know("good3")))
    identify(_bearer("good2"))
    identify(_bearer("good0"))
    assert [google.asked[token] for token in ("good0", "good2", "good3")] == [2, 1, 1]


def test_the_number_of_lookups_of_unknown_tokens_is_bounded(google: TokenInfo, clock: SteppedClock) -> None:
    """A flood of made-up tokens has to wait. Known callers continue, even after five minutes; later all callers do."""
    identify = _identify(google, clock, CLIENT)
    identify(_bearer(google.know("known")))
    clock.advance(MINUTE)
    refused = []
    for number in range(500):
        with pytest.raises((UnauthenticatedError, TransientError)) as raised:
            identify(_bearer(f"made-up-{number}"))
        refused.append(raised.value)
    assert sum(google.asked.values()) == 61
    throttled = [error for error in refused if isinstance(error, TransientError)]
    assert len(throttled) == 440
    assert all(error.throttled and error.retry_after == MINUTE for error in throttled)
    with pytest.raises(TransientError, match="send the token again later"):
        identify(_bearer(google.know("new")))
    with pytest.raises(UnauthenticatedError):
        identify(_bearer("made-up-0"))  # remembered as bad: Google is not queried
    clock.advance(MINUTE - 1)
    assert identify(_bearer("known")) == "user:dev@example.com"
    with pytest.raises(TransientError):
        identify(_bearer("new"))
    clock.advance(1)
    assert identify(_bearer("new")) == "user:dev@example.com"
    for number in range(100):
        with pytest.raises((UnauthenticatedError, TransientError)):
            identify(_bearer(f"other-{number}"))
    clock.advance(5 * MINUTE - 1)
    assert google.asked["known"] == 1
    for number in range(100):
        with pytest.raises((UnauthenticatedError, TransientError)):
            identify(_bearer(f"more-{number}"))
    assert identify(_bearer("known")) == "user:dev@example.com"
    assert google.asked["known"] == 2


@pytest.mark.parametrize(
    ("stranger", "other"),
    [
        ("203.0.113.{n}, 198.51.100.7", "198.51.100.8"),
        ("2001:db8:1:2::{n:x}", "2001:db8:1:3::1"),
        ("198.51.100.7", "2001:db8::1"),
    ],
)
def test_one_caller_does_not_use_up_the_lookups_of_others(
    google: TokenInfo, clock: SteppedClock, stranger: str, other: str
) -> None:
    """Only the address that the front end adds counts, and of IPv6 only the network."""
    identify = _identify(google, clock, CLIENT)
    for number in range(200):
        headers = _bearer(f"made-up-{number}")
        headers["X-Forwarded-For"] = stranger.format(n=number % 250 + 1)
        with pytest.raises((UnauthenticatedError, TransientError)):
            identify(headers)
    assert sum(google.asked.values()) == 15
    headers = _bearer(google.know("new"))
    headers["X-Forwarded-For"] = f"10.0.0.1, {other}"
    assert identify(headers) == "user:dev@example.com"


def test_an_expired_good_token_is_unknown(google: TokenInfo, clock: SteppedClock) -> None:
    """Google is queried about it once, outside the limit."""
    identify = _identify(google, clock, CLIENT)
    identify(_bearer(google.know(TOKEN)))
    del google.tokens[TOKEN]
    clock.advance(5 * MINUTE)
    for number in range(60):
        with pytest.raises(UnauthenticatedError):
            identify(_bearer(f"made-up-{number}"))
    with pytest.raises(UnauthenticatedError, match="Google does not know it"):
        identify(_bearer(TOKEN))
    clock.advance(5 * MINUTE)
    for number in range(60):
        with pytest.raises(UnauthenticatedError):
            identify(_bearer(f"others-{number}"))
    with pytest.raises(TransientError):
        identify(_bearer(TOKEN))


def test_many_threads_with_one_token(google: TokenInfo, clock: SteppedClock) -> None:
    """Each thread gets the right answer. Afterwards it is cached."""
    google.know(TOKEN)
    identify = _identify(google, clock, CLIENT)
    start = threading.Barrier(8)

    def call(_: int) -> str:
        start.wait(30)
        return identify(_bearer(TOKEN))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(8))) == {"user:dev@example.com"}
    before = google.asked[TOKEN]
    identify(_bearer(TOKEN))
    assert 1 <= before <= 8
    assert google.asked[TOKEN] == before


_ANSWER = {"email": "mallory@example.com", "email_verified": True, "aud": CLIENT, "expires_in": 9, "scope": EMAIL_SCOPE}
_GOOD_BODY = json.dumps(_ANSWER).encode()
TROUBLE: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "fault": (500, b"{}", {}),
    "unavailable": (503, _GOOD_BODY, {}),
    "quota": (429, _GOOD_BODY, {}),
    "forbidden": (403, _GOOD_BODY, {}),
    "not found": (404, b"<html>", {}),
    "other success": (203, _GOOD_BODY, {}),
    "redirect": (302, _GOOD_BODY, {"Location": "/elsewhere?access_token=x"}),
    "redirect without a place": (302, _GOOD_BODY, {}),
    "HTML": (200, b"<html>" + _GOOD_BODY, {"Content-Type": "text/html"}),
    "list": (200, b"[" + _GOOD_BODY + b"]", {}),
    "text": (200, b'"ok"', {}),
    "null": (200, b"null", {}),
    "nothing": (200, b"", {}),
    "deep": (200, b"[" * 16_000, {}),
    "not UTF-8": (200, b'{"email": "\xff"}', {}),
    "a number too long": (200, b'{"expires_in": ' + b"9" * 10_000 + b"}", {}),
    "huge": (200, b'{"x": "' + b"x" * 20_000 + b'", ' + _GOOD_BODY[1:], {}),
    "cut off": (200, _GOOD_BODY[:40], {"Content-Length": str(len(_GOOD_BODY))}),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_a_failure_at_google_is_transient(google: TokenInfo, clock: SteppedClock, kind: str) -> None:
    """The caller is neither refused nor anonymous, and the next call queries Google again."""
    google.know(TOKEN)
    google.trouble = TROUBLE[kind]
    identify = _identify(google, clock, CLIENT)
    with pytest.raises(TransientError, match="Google could not be queried about an access token: "):
        identify(_bearer(TOKEN))
    assert google.paths == {"/tokeninfo": 1}
    google.trouble = None
    assert identify(_bearer(TOKEN)) == "user:dev@example.com"


def test_a_silent_server(google: TokenInfo, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent server does not block a caller forever. A cached caller does not notice."""
    identify = _identify(google, clock, CLIENT)
    identify(_bearer(google.know("early")))
    google.silent = threading.Event()
    monkeypatch.setattr(access_tokens, "_TIMEOUT", SECOND // 5)
    with pytest.raises(TransientError, match=r"no answer from 127\.0\.0\.1 within 200ms"):
        identify(_bearer(TOKEN))
    assert identify(_bearer("early")) == "user:dev@example.com"


def test_plain_http_is_for_the_local_cloud(google: TokenInfo, clock: SteppedClock) -> None:
    """No token leaves a real installation unencrypted."""
    with pytest.raises(TransientError, match="only https is allowed"):
        _identify(google, clock, CLIENT, local=False)(_bearer(TOKEN))
    assert not google.paths


@pytest.mark.parametrize("kind", ["", "unknown", "stranger", "no server", *TROUBLE])
def test_the_token_is_never_logged(
    google: TokenInfo, clock: SteppedClock, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The token is in no error or cause, in no log line of any level, and not in the cache."""
    caplog.set_level(logging.DEBUG)
    if kind != "unknown":
        google.know(TOKEN, **({"aud": "other"} if kind == "stranger" else {}))
    google.trouble = TROUBLE.get(kind)
    url = "http://127.0.0.1:1/tokeninfo" if kind == "no server" else google.url
    identify = _identify(google, clock, CLIENT, tokeninfo_url=url)
    error: BaseException | None = None
    try:
        identify(_bearer(TOKEN))
    except (UnauthenticatedError, TransientError) as raised:
        error = raised
    assert (error is None) == (kind == "")
    logged = [record.getMessage() for record in caplog.records]
    while error is not None:
        logged += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    tokens: Any = identify.__self__._access_token_email.__self__  # type: ignore[attr-defined]
    logged += [repr(vars(tokens)), repr(vars(tokens._good)), repr(vars(tokens._bad))]
    assert TOKEN not in "\n".join(logged)


@pytest.mark.parametrize(
    "text", ["*", "service_accounts", "dev@example.com", f"{CLIENT},x", "https://console.invalid", f"{CLIENT}.evil.com"]
)
def test_clients_are_checked_at_the_start(text: str) -> None:
    """A misspelled client would silently accept no caller."""
    good = {
        f"SCHEDULER_{name}": "of sixteen bytes" for name in ("PROJECT", "TASK_URL", "TASK_ACCOUNT", "TOKEN_SECRETS")
    }
    with pytest.raises(SettingsError, match=r"SCHEDULER_CONSOLE_OAUTH_CLIENTS: .* is neither a client's ID"):
        read_settings({**good, "SCHEDULER_CONSOLE_OAUTH_CLIENTS": text})
    settings = read_settings({**good, "SCHEDULER_CONSOLE_OAUTH_CLIENTS": f"{CLIENT}, 104, service-accounts"})
    assert settings.console_oauth_clients == (CLIENT, "104", "service-accounts")
