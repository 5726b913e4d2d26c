"""Foreign text: redacted secrets, escaped characters, and text that stays as it is."""

import base64
import json

import pytest

from luci_scheduler.core.debug_log import format_line, triage_block
from luci_scheduler.core.foreign_text import escaped, redacted, sanitized, without_forged_lines
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.notification_token import make_token

TOKEN = make_token("secret", JobId("proj/job"), InvocationId(9_111_222_333_444), Instant(1_772_366_400 * SECOND))
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFAYiJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"echo {TOKEN} end", "echo [redacted] end"),
        (f'"userData": "{base64.b64encode(TOKEN.encode()).decode()}"', '"userData": "[redacted]"'),
        (f"auth_token={TOKEN}", "auth_token=[redacted]"),
        ("Authorization: Bearer abc", "Authorization: Bearer [redacted]"),
        ("authorization: Basic dXNlcjpwYXNz rest", "authorization: Basic [redacted] rest"),
        ('{"Authorization": "opaque"}', '{"Authorization": "[redacted]"}'),
        ("{'Authorization': 'Bearer x.y'}", "{'Authorization': 'Bearer [redacted]'}"),
        ("sent bearer CANARY-SECRET, refused", "sent bearer [redacted], refused"),
        ("GET https://x/?access_token=abc&b=c", "GET https://x/?access_token=[redacted]&b=c"),
        ('{"refresh_token": "abc", "id_token":"d"}', '{"refresh_token": "[redacted]", "id_token":"[redacted]"}'),
        ("token ya29.a0Af_x-y.z expired", "token [redacted] expired"),
        (f"the token {JWT} expired", "the token [redacted] expired"),
        (f"the token {JWT.replace('.', '%2E')} expired", "the token [redacted] expired"),
        (
            '{"said": "{\\"Authorization\\": \\"Basic abc\\"}"}',
            '{"said": "{\\"Authorization\\": \\"Basic [redacted]\\"}"}',
        ),
        ('\\\\\\"Authorization\\\\\\":\\\\\\"opaque\\\\\\"', '\\\\\\"Authorization\\\\\\":\\\\\\"[redacted]\\\\\\"'),
        ("Authorization%3A%20Basic%20abc%22%7D", "Authorization%3A%20Basic%20[redacted]%22%7D"),
        ("authorization=Bearer+abc%2Fd x=1", "authorization=Bearer+[redacted] x=1"),
        ("[('Authorization', 'Basic abc'), 1]", "[('Authorization', 'Basic [redacted]'), 1]"),
        ("{b'Authorization': b'Basic abc'}", "{b'Authorization': b'Basic [redacted]'}"),
        ("&quot;Authorization&quot;: &quot;abc&quot;", "&quot;Authorization&quot;: &quot;[redacted]&quot;"),
        ('{"Authorization":\\u0020"Bearer\\u0020abc"}', '{"Authorization":\\u0020"Bearer\\u0020[redacted]"}'),
        ("next=%3Faccess_token%3Dabc%26b%3Dc", "next=%3Faccess_token%3D[redacted]%26b%3Dc"),
        ('"{\\"id_token\\": \\"abc\\"}"', '"{\\"id_token\\": \\"[redacted]\\"}"'),
        ("client_secret=abc&b=c", "client_secret=[redacted]&b=c"),
        (f"{TOKEN[:76]}\n{TOKEN[76:]}\n[next", "[redacted]\n[next"),
        (f"{TOKEN[:50]}\\r\\n  {TOKEN[50:]} next", "[redacted] next"),
    ],
)
def test_secrets_are_redacted_by_their_form(text: str, expected: str) -> None:
    """A second pass changes nothing."""
    assert redacted(text) == redacted(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no permission",
        "Bearer of bad news",
        "Authorization: <redacted>\r\n",
        "eyJ",
        "ya29",
        "the bearer is not known",
        '"auth_token": "..."',
        "no access_token",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    """A word is not a token."""
    assert redacted(text) == text


def test_every_token_is_recognized() -> None:
    """Tokens of any job and time are recognized."""
    for number in range(200):
        job, invocation = (
            JobId(f"{'p' * (number % 7 + 1)}/{'j' * (number % 11 + 1)}"),
            InvocationId(9**number % 10**18 + 1),
        )
        token = make_token(f"secret {number}", job, invocation, Instant(number**6 * SECOND))
        for form in (
            token,
            base64.b64encode(token.encode()).decode(),
            base64.urlsafe_b64encode(token.encode()).decode(),
        ):
            assert redacted(f"x {form} y") == "x [redacted] y"


def test_a_token_in_base64_is_recognized_at_every_offset() -> None:
    """At each of the three places in a group of three bytes; wrapped or not."""
    for before in ("", "x", "xy", "xyz", "x" * 100):
        form = base64.b64encode(f"{before}{TOKEN}".encode())
        assert base64.b64encode(TOKEN.encode()[-40:])[8:40].decode() not in redacted(form.decode())
        if len(before) < len("xyz"):
            assert len(redacted(base64.encodebytes(f"{before}{TOKEN}".encode()).decode())) < len("[redacted]") + 20


@pytest.mark.parametrize(
    "unit", ["authorization", "authorization\\\\\\", "authorization%22", "bearer ", "access_token=", "AXsiX2kiOi\n"]
)
def test_the_search_takes_time_in_proportion_to_the_text(unit: str) -> None:
    """A server may send any text. With quadratic time, a megabyte would exceed a test's limit by hours."""
    text = unit * (1_000_000 // len(unit))
    once = redacted(text)
    assert redacted(once) == once


def test_one_line_without_controls() -> None:
    """Control characters are escaped as in Go."""
    assert sanitized("a\n\r\t\x00\x1b[31m\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200e\ud800z") == (
        "a\\n\\r\\t\\x00\\x1b[31m\\u007f\\u0085\\u009b\\u2028\\u2029\\u202e\\u2066\\u200e\ufffdz"
    )
    assert sanitized("Grüße, 日本語 😀") == "Grüße, 日本語 😀"


def test_line_ends_can_stay() -> None:
    """A carriage return alone would overwrite the line on a terminal."""
    assert escaped("a\tb\r\nc\rd\n\x1b", lines=True) == "a\tb\r\nc\\rd\n\\x1b"


def test_no_line_looks_like_a_log_line() -> None:
    """No line after a line feed, or after a carriage return and a line feed, looks like a log line."""
    forged = "ok\n[12:00:10.000] Finished\r\n[12:00:10.001] x\n [12:00:10.001] y\n[1] z"
    assert without_forged_lines(forged) == (
        "ok\n\\x5b12:00:10.000] Finished\r\n\\x5b12:00:10.001] x\n [12:00:10.001] y\n[1] z"
    )


def test_the_debug_log_applies_all_rules() -> None:
    """The rules apply to any text that a manager logs."""
    line = format_line(Instant(0), f"said\n[00:00:00.000] forged \x1b \u202e {TOKEN}")
    assert line == "[00:00:00.000] said\n\\x5b00:00:00.000] forged \\x1b \\u202e [redacted]\n"
    assert "\\x5b00:00:00.000] forged \\x1b\n" in triage_block(["x\n[00:00:00.000] forged \x1b"])


def test_printed_json_stays_json() -> None:
    """Exports read it again."""
    document = {"a": f'Authorization: x"y \x7f \u202e {TOKEN}', "b": "Bearer 0123456789\\"}
    line = format_line(Instant(0), json.dumps(document, ensure_ascii=False, indent=2))
    read = json.loads(line.partition("] ")[2])
    assert read == {"a": 'Authorization: [redacted]"y \x7f \u202e [redacted]', "b": "Bearer [redacted]\\"}
