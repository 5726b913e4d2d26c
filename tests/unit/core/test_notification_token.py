"""Tokens of notifications: no token can be forged or changed, and no error reveals one."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luci_scheduler.core.errors import BadTokenError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.notification_token import LIFETIME, find_token, make_token, verify_token

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=150)
NOW = Instant(1_613_684_423_471 * 10**6)
JOB, INVOCATION = JobId("tint/mac-rel"), InvocationId(9020353019805130176)
TOKEN = make_token("secret", JOB, INVOCATION, NOW)
CHANGED = {"the token is malformed", "the token's signature is not ours"}
"""The reasons for refusing a changed token."""
BLOB = base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))


def encoded(blob: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(blob).rstrip(b"=").decode()


def signed(body: bytes, version: bytes = b"\x01") -> str:
    """Return a token with a valid signature over any body."""
    message = b"".join(b"%d\n%s" % (len(part), part) for part in (version, body))
    return encoded(version + body + hmac.new(b"secret", message, hashlib.sha256).digest())


def refusal(token: str, secrets: tuple[str, ...] = ("secret",), now: Instant = NOW) -> str:
    """Return the reason for refusing a token. The reason must not contain the token."""
    with pytest.raises(BadTokenError) as raised:
        verify_token(secrets, token, now)
    reason = str(raised.value)
    assert len(token) < 8 or token not in reason
    return reason


@repeatable
@given(st.integers(0, 8 * len(BLOB) - 1))
def test_any_flipped_bit_is_refused(position: int) -> None:
    """No bit of a token may differ: version, claims and signature are all covered."""
    blob = bytearray(BLOB)
    blob[position // 8] ^= 1 << position % 8
    assert refusal(encoded(bytes(blob))) in CHANGED


@repeatable
@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=255))
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    """No character may differ, not even in bits that base64 ignores."""
    token = TOKEN[:position] + character + TOKEN[position + 1 :]
    assume(token != TOKEN)
    assert refusal(token) in CHANGED


@repeatable
@given(st.integers(0, len(BLOB) - 1))
def test_a_shortened_token_is_refused(length: int) -> None:
    """No part may be missing."""
    assert refusal(encoded(BLOB[:length])) in {*CHANGED, "the notification carries no token"}


@repeatable
@given(st.text(min_size=1, max_size=40), st.integers(1, (1 << 63) - 1), st.text(max_size=20))
def test_tokens_name_the_invocation_they_were_made_for(job: str, invocation: int, secret: str) -> None:
    """Any job ID is read back from its token."""
    token = make_token(secret, JobId(job), InvocationId(invocation), NOW)
    assert verify_token([secret], token, NOW) == (job, invocation)
    assert refusal(token, (secret + "x",)) == "the token's signature is not ours"


def test_previous_secrets_still_verify() -> None:
    """Any of the secrets may have signed. Without the right one, or without any, the token is refused."""
    assert verify_token(["newest", "secret"], TOKEN, NOW) == (JOB, INVOCATION)
    assert verify_token(["secret", "oldest"], TOKEN, NOW) == (JOB, INVOCATION)
    assert refusal(TOKEN, ("newest", "oldest")) == "the token's signature is not ours"
    assert refusal(TOKEN, ()) == "the token's signature is not ours"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW + LIFETIME + 1, "token expired"),
        (NOW - 30 * SECOND - 1, "issued timestamp is in the future"),
    ],
)
def test_tokens_have_a_lifetime(now: Instant, reason: str) -> None:
    """A token is refused one nanosecond after its lifetime, and one before the allowed difference of clocks."""
    assert refusal(TOKEN, now=now) == reason


@pytest.mark.parametrize(
    "token",
    [
        TOKEN + "=",
        TOKEN + "\n",
        " " + TOKEN,
        "not base64!",
        "é" * 200,
        "A" * 5000,
        encoded(b"\x01"),
        encoded(b"\x01" + b"x" * 32),
        signed(b'{"_i":"1","inv":"1","job":"a/b"}', version=b"\x02"),
        signed(b'{"_i":"1","inv":"1","job":"%s"}' % (b"j" * 4000)),
    ],
)
def test_malformed_tokens_are_refused(token: str) -> None:
    """Padding, foreign characters, wrong sizes and other versions are refused."""
    assert refusal(token) == "the token is malformed"


def test_a_missing_token_is_refused() -> None:
    """A missing token has its own reason."""
    assert refusal("") == "the notification carries no token"


@pytest.mark.parametrize(
    "claims",
    [
        [],
        "text",
        None,
        {},
        {"_i": "1", "inv": "1"},
        {"_i": 1, "inv": "1", "job": "a/b"},
        {"_i": "1", "inv": 1, "job": "a/b"},
        {"_i": "1", "inv": "1", "job": 1},
        {"_i": "1", "inv": "1", "job": ""},
        {"_i": "1", "inv": "-1", "job": "a/b"},
        {"_i": "1_0", "inv": "1", "job": "a/b"},
        {"_i": "9" * 20, "inv": "1", "job": "a/b"},
    ],
)
def test_claims_of_another_form_are_refused(claims: object) -> None:
    """Even signed, claims are three texts: a job, and two decimal numbers."""
    assert refusal(signed(json.dumps(claims).encode())) == "the token's claims are malformed"
    assert refusal(signed(b"\xff not json")) == "the token's claims are malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"userData": 1}',
        b'{"userData": ["a"]}',
        b'{"userData": "not base64"}',
        b'{"userData": "/w=="}',
        b'{"user_data": 1}',
        b'{"user_data": null}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_find_token_in_an_unreadable_body(body: bytes) -> None:
    """A body of any other form holds no token, which is not an error."""
    assert find_token({}, base64.b64encode(body).decode()) == ""


def test_find_token_in_a_body_of_too_many_values() -> None:
    """Parsed, a few megabytes of them would take all memory."""
    few, many = (b'{"user_data": "x", "y": [' + b"[]," * n + b"0]}" for n in (1_000, 300_000))
    assert find_token({}, base64.b64encode(few).decode()) == "x"
    assert find_token({}, base64.b64encode(many).decode()) == ""


def test_find_token_prefers_the_attribute_then_the_newer_field() -> None:
    """An empty attribute counts as missing. In the body, the field of today's Buildbucket comes first."""
    both = {"userData": base64.b64encode(b"new").decode(), "user_data": "old"}
    data = base64.b64encode(json.dumps(both).encode()).decode()
    assert find_token({"auth_token": "attribute"}, data) == "attribute"
    assert find_token({"auth_token": ""}, data) == "new"
    del both["userData"]
    assert find_token({}, base64.b64encode(json.dumps(both).encode()).decode()) == "old"


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ({"userData": "", "user_data": "x"}, ""),
        ({"userData": None, "user_data": "x"}, "x"),
        ({"userData": "bmV3\r\n", "user_data": "x"}, "new"),
        ({"userData": "bm\nV3"}, "new"),
        ({"userData": "bm V3"}, ""),
    ],
)
def test_find_token_reads_like_go(body: dict[str, object], token: str) -> None:
    """An empty member counts as present, and line ends inside base64 are ignored, in either layer."""
    data = base64.encodebytes(json.dumps(body).encode()).decode()
    assert find_token({}, data) == token
