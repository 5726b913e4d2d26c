"""Reading JSON that a server sent: every fault is one error."""

import json

import pytest

from luci_scheduler.core import go_json
from luci_scheduler.core.foreign_json import MAX_DEPTH, read_object


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
def test_what_cannot_be_read(body: bytes, reason: str) -> None:
    """The text names the fault, and quotes nothing of the answer."""
    with pytest.raises(ValueError, match=reason):
        read_object(body)


def test_what_can() -> None:
    """As Go reads it: bytes that are no UTF-8, and half characters, are replaced; whole numbers keep their digits."""
    body = b')]}\'\n{"a\\ud800": ["\\uDC00", {"b": "\xff"}], "id": 8677072329461727393, "ok": "\\ud83d\\ude00"}'
    assert read_object(body) == {"a\ufffd": ["\ufffd", {"b": "\ufffd"}], "id": 8677072329461727393, "ok": "\U0001f600"}


def test_the_guard_line() -> None:
    """Gitiles always sends it, Buildbucket nearly always."""
    assert read_object(b")]}'\n{}", needs_guard=True) == read_object(b"{}") == {}
    with pytest.raises(ValueError, match="guard line"):
        read_object(b"{}", needs_guard=True)


def test_a_text_that_proves_an_identity_is_not_repaired() -> None:
    """Two different names must not become the same."""
    with pytest.raises(ValueError, match="UTF-8"):
        read_object(b'{"email": "\xff"}', repair=False)


def test_the_deepest_object_can_be_printed() -> None:
    """The debug log shows answers."""
    deep = b'{"a":' * MAX_DEPTH + b"0" + b"}" * MAX_DEPTH
    document = read_object(deep)
    assert json.loads(go_json.indented(document)) == json.loads(go_json.message(document)) == json.loads(deep)
    assert go_json.compact(go_json.struct(document)) == deep.decode()
