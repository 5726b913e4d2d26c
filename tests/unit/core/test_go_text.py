"""Texts in Go's format."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core.go_text import format_duration, parse_duration, quote, valid_text

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)
MAX = (1 << 63) - 1


@repeatable
@given(st.integers(-MAX - 1, MAX))
def test_durations_are_read_as_written(nanoseconds: int) -> None:
    """Every duration of 63 bits can be written and read again."""
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("-2562047h47m16.854775808s", -MAX - 1),
        ("2562047h47m16.854775807s", MAX),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("0.100000000000000000000h", 360_000_000_000),
        ("-0", 0),
        ("+.5ms", 500_000),
        ("1μs1µs1us", 3_000),
        ("00000000000000000000000000000001s", 1_000_000_000),
    ],
)
def test_parse_duration_at_its_limits(text: str, nanoseconds: int) -> None:
    """The whole range is read, decimals with Go's floating-point rounding. Leading zeros have no effect."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "2562047h47m16.854775808s",
        "-2562047h47m16.854775809s",
        "9" * 5000 + "s",
        "1m.s",
        ".s",
        "-",
        "1",
        "1S",
        "1h ",
        "\u0661s",
    ],
)
def test_parse_duration_refuses_invalid_texts(text: str) -> None:
    """Out of range, without digits, without unit, or with digits that are not ASCII: refused as in Go."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain é \U0001f600", '"plain é \U0001f600"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\x85\xa0\xad\ufeff", r'"\u0085\u00a0\u00ad\ufeff"'),
        ("\u2028", r'"\u2028"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("<&>", '"<&>"'),
        ("\ud800", '"\ufffd"'),
    ],
)
def test_texts_are_quoted_as_in_go(text: str, quoted: str) -> None:
    """Unprintable characters have Go's escapes, markup has none, and half of a surrogate pair is replaced."""
    assert quote(text) == quoted


@repeatable
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_quote_equals_json_for_ordinary_text(text: str) -> None:
    """For printable ASCII the two notations agree."""
    assert quote(text) == json.dumps(text)


@repeatable
@given(st.text(st.characters(), max_size=20))
def test_valid_text_can_always_be_stored_and_changes_nothing_else(text: str) -> None:
    """The result is valid UTF-8 of the same length, and differs only at halves of surrogate pairs."""
    text = "".join(text)
    valid = valid_text(text)
    valid.encode()
    assert valid_text(valid) == valid
    if not any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        assert valid == text


def test_valid_text_joins_the_halves_of_a_character() -> None:
    """Two halves in the right order are one character; in the wrong order they are two replacements."""
    assert valid_text("a\ud83d\ude00b") == "a\U0001f600b"
    assert valid_text("\ude00\ud83d.") == "\ufffd\ufffd."
