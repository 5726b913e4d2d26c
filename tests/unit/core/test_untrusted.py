"""Reading what anybody may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import arriving_trigger, trigger_from_json, trigger_to_json
from luci_scheduler.core.untrusted import check_texts, decode_base64, read_json, storable


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"\xff", b"\xef\xbb\xbf{}", b"NaN", b"[Infinity]", b"[-Infinity]", b"1e999", b"-1e999", b"9223372036854775808",
        b"-9223372036854775809", b"9" * 5_000, b'"\\ud800"', b'{"\\udfff": 1}', b"[" * 100_000, b"[" * 101 + b"]" * 101, b'{"a":' * 101 + b"1" + b"}" * 101,
    ],
    ids=lambda data: ascii(data[:20]),
)  # fmt: skip
def test_what_is_no_document(data: bytes) -> None:
    """One error, whatever the reason is."""
    with pytest.raises(ValueError, match=r".+"):
        read_json(data)


@pytest.mark.parametrize(
    "document",
    [None, True, "\U0001f600 \u00e9\x00", 9223372036854775807, -9223372036854775808, 1.5, [], {"a": [{"b": None}]}, json.loads("[" * 99 + "]" * 99)],
)  # fmt: skip
def test_documents(document: Any) -> None:
    """They come back as they were written, escaped or not."""
    assert read_json(json.dumps(document).encode()) == document
    assert read_json(json.dumps(document, ensure_ascii=False).encode()) == document
    check_texts(document)


def test_base64_as_go_reads_it() -> None:
    """Line ends do not count; everything else does."""
    for text in ("YWJj", "YW\r\nJj\n", "\nYWJj", "YWI=\n"):
        assert decode_base64(text).startswith(b"ab")
    for text in ("YW Jj", "YWJj=", "YW-_", "YWI", "\u00e9", "YWJj\t", "\ud800"):
        with pytest.raises(ValueError, match=r".+"):
            decode_base64(text)


def test_texts_that_cannot_be_encoded() -> None:
    """Their escapes can."""
    assert storable("a\ud800\u00e9") == "a\\ud800\u00e9"


TRIGGER = Trigger(
    "t", 5, "gitiles", {"repo": "r", "ref": "x", "revision": "y", "tags": ["a:b"], "properties": {"p": 1}}, 3, "title", "url", "p/j", 16, "user:a"
)  # fmt: skip


def test_a_trigger_comes_back() -> None:
    """Every field, from the store and from a task; a member of a newer version is passed over."""
    document = {**trigger_to_json(TRIGGER), "newer": 1}
    assert trigger_from_json(document) == arriving_trigger(document) == TRIGGER
    assert trigger_from_json({"id": "t"}) == arriving_trigger({"id": "t"}) == Trigger("t", 0)


@pytest.mark.parametrize("name", trigger_to_json(TRIGGER))
@pytest.mark.parametrize("value", [None, True, 1.5, [], ["x"], object()], ids=ascii)
def test_a_trigger_with_a_member_of_another_type(name: str, value: Any) -> None:
    """It cannot be read, from the store neither."""
    for read in (trigger_from_json, arriving_trigger):
        with pytest.raises(MalformedError, match="not a trigger"):
            read({**trigger_to_json(TRIGGER), name: value})


def test_what_an_older_version_stored_is_read() -> None:
    """A kind or a payload that no task may bring today."""
    for document in ({"id": "t", "kind": "newer"}, {"id": "t", "kind": "gitiles"}, {"id": "t", "created": -5}):
        assert trigger_from_json(document).id == "t"
        with pytest.raises(MalformedError):
            arriving_trigger(document)
