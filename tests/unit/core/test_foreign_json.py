"""Reading JSON of another party: every fault is one kind of error."""

import json
from typing import Any

import pytest

from luci_scheduler.core import go_json
from luci_scheduler.core.foreign_json import MAX_DEPTH, read_answer, read_object


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b")]}'\n", "not JSON"),
        (b"<html>", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"0" + b"}" * (MAX_DEPTH + 1), "nested"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 400 + b"}", "out of range"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "out of range"),
    ],
)
def test_an_unreadable_answer_is_one_error(body: bytes, reason: str) -> None:
    """The text names the fault, and quotes nothing from the answer."""
    with pytest.raises(ValueError, match=reason):
        read_answer(body)


def test_a_readable_answer_is_repaired() -> None:
    """As in Go: invalid UTF-8 and halves of surrogate pairs are replaced; whole numbers keep their digits."""
    body = b')]}\'\n{"a\\ud800": ["\\uDC00", {"b": "\xff"}], "id": 8677072329461727393, "ok": "\\ud83d\\ude00"}'
    assert read_answer(body) == {"a\ufffd": ["\ufffd", {"b": "\ufffd"}], "id": 8677072329461727393, "ok": "\U0001f600"}


def test_the_guard_line() -> None:
    """Gitiles always sends it, Buildbucket nearly always."""
    assert read_answer(b")]}'\n{}", needs_guard=True) == read_answer(b"{}") == {}
    with pytest.raises(ValueError, match="guard line"):
        read_answer(b"{}", needs_guard=True)


def test_an_identity_text_is_never_repaired() -> None:
    """Two different names must not become the same."""
    with pytest.raises(ValueError, match="UTF-8"):
        read_object(b'{"email": "\xff"}')


def test_the_deepest_object_can_be_printed() -> None:
    """The debug log shows answers."""
    deep = b'{"a":' * MAX_DEPTH + b"0" + b"}" * MAX_DEPTH
    document = read_answer(deep)
    assert json.loads(go_json.indented(document)) == json.loads(go_json.message(document)) == json.loads(deep)
    assert go_json.compact(go_json.struct(document)) == deep.decode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not JSON"), (b"x", "not JSON"), (b"\xff", "not UTF-8"), (b"NaN", "NaN"), (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "out of range"), (b"-1e999", "out of range"), (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"9" * 5_000, "out of range"), (b'"\\ud800"', "surrogate"), (b'{"\\udfff": 1}', "surrogate"),
        (b"[" * 100_000, "nested"),
        (b"[" * 100 + b"]" * 100, "nested"), (b'{"a":' * 100 + b"1" + b"}" * 100, "nested"),
    ],
    ids=lambda data: ascii(data[:20]),
)  # fmt: skip
def test_a_bad_request_is_refused_rather_than_repaired(value: bytes, reason: str) -> None:
    """One kind of error with the reason. Byte order marks and values other than objects are refused."""
    with pytest.raises(ValueError, match=reason):
        read_object(b'{"member":' + value + b"}")
    for body in (b"\xef\xbb\xbf{}", b"[]", b"null", b"[%s]" % value):
        with pytest.raises(ValueError, match=r"^it "):
            read_object(body)


@pytest.mark.parametrize(
    "value",
    [None, True, "\U0001f600 \u00e9\x00", 9223372036854775807, -9223372036854775808, 1.5, [], {"a": [{"b": None}]},
     json.loads("[" * 99 + "]" * 99)],
)  # fmt: skip
def test_a_request_is_read_as_written(value: Any) -> None:
    """A request is read as written, with and without escapes."""
    document = {"member": value}
    assert read_object(json.dumps(document).encode()) == document
    assert read_object(json.dumps(document, ensure_ascii=False).encode()) == document


def test_a_request_may_hold_wide_integers_where_numbers_are_doubles() -> None:
    """Up to the range of a double."""
    assert read_object(b'{"member": 9223372036854775808}', wide_integers=True) == {"member": 1 << 63}
    with pytest.raises(ValueError, match="out of range"):
        read_object(b'{"member": ' + b"9" * 400 + b"}", wide_integers=True)
