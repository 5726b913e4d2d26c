"""Reading of untrusted input."""

from __future__ import annotations

from typing import Any

import pytest

from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import arriving_trigger, trigger_from_json, trigger_to_json
from luci_scheduler.core.untrusted import decode_base64, storable


def test_base64_is_read_as_in_go() -> None:
    """Line ends are ignored. All other foreign characters are errors."""
    for text in ("YWJj", "YW\r\nJj\n", "\nYWJj", "YWI=\n"):
        assert decode_base64(text).startswith(b"ab")
    for text in ("YW Jj", "YWJj=", "YW-_", "YWI", "\u00e9", "YWJj\t", "\ud800"):
        with pytest.raises(ValueError, match=r".+"):
            decode_base64(text)


def test_texts_that_cannot_be_encoded() -> None:
    """Their escapes can be encoded."""
    assert storable("a\ud800\u00e9") == "a\\ud800\u00e9"


TRIGGER = Trigger(
    "t", 5, "gitiles", {"repo": "r", "ref": "x", "revision": "y", "tags": ["a:b"], "properties": {"p": 1}}, 3,
    "title", "url", "p/j", 16, "user:a"
)  # fmt: skip


def test_a_trigger_is_read_as_written() -> None:
    """Every field survives, from the store and from a task. A member of a newer version is ignored."""
    document = {**trigger_to_json(TRIGGER), "newer": 1}
    assert trigger_from_json(document) == arriving_trigger(document) == TRIGGER
    assert trigger_from_json({"id": "t"}) == arriving_trigger({"id": "t"}) == Trigger("t", 0)


@pytest.mark.parametrize("name", trigger_to_json(TRIGGER))
@pytest.mark.parametrize("value", [None, True, 1.5, [], ["x"], object()], ids=ascii)
def test_a_trigger_with_a_member_of_another_type(name: str, value: Any) -> None:
    """A member of another type is refused, even from the store."""
    for read in (trigger_from_json, arriving_trigger):
        with pytest.raises(MalformedError, match="not a trigger"):
            read({**trigger_to_json(TRIGGER), name: value})


def test_triggers_of_an_older_version_are_read() -> None:
    """A kind or a payload that no task may have today."""
    for document in ({"id": "t", "kind": "newer"}, {"id": "t", "kind": "gitiles"}, {"id": "t", "created": -5}):
        assert trigger_from_json(document).id == "t"
        with pytest.raises(MalformedError):
            arriving_trigger(document)
