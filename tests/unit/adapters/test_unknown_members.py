"""Members that only a newer version of the functions knows, when this version writes the document again."""

import json
from typing import Any

import pytest

from luci_scheduler.adapters.documents.tolerant import keep_unknown


@pytest.mark.parametrize(
    ("stored", "known", "new", "written"),
    [
        ({"a": 1, "x": 2}, {"a": 1}, {"a": 3}, {"a": 3, "x": 2}),
        ({"a": 1, "refused": False}, {"a": 1}, {"a": 1, "refused": True}, {"a": 1, "refused": True}),
        ({"a": {"b": 1, "x": 2}}, {"a": {"b": 1}}, {"a": {"b": 3}}, {"a": {"b": 3, "x": 2}}),
        ([{"id": "1", "x": 2}, {"id": "2"}], [{"id": "1"}, {"id": "2"}], [{"id": "1"}], [{"id": "1", "x": 2}]),
        ([{"id": "1", "x": 2}, 5], [{"id": "1"}], [{"id": "1"}], [{"id": "1"}]),
    ],
    ids=["member", "member that this version sets", "inner member", "item of a list", "another list"],
)
def test_unknown_members_stay(stored: Any, known: Any, new: Any, written: Any) -> None:
    """This version's own values win, and lists that do not correspond are written as they are."""
    assert json.loads(keep_unknown(json.dumps(stored), json.dumps(known), json.dumps(new))) == written
