"""Partial replies of the v1 API."""

from typing import Any

import pytest

from emulator.buildbucket.partial import PartialError, select_fields

REPLY: dict[str, Any] = {
    "build": {"id": "1", "status": "STARTED", "tags": ["a:b"], "ui": {"info": "x", "more": "y"}},
    "builds": [{"id": "1", "url": "u"}, {"id": "2", "url": "v"}],
    "error": {"reason": "r"},
}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("error", {"error": {"reason": "r"}}),
        ("error,nothing", {"error": {"reason": "r"}}),
        ("build/id", {"build": {"id": "1"}}),
        ("build/ui/info", {"build": {"ui": {"info": "x"}}}),
        ("build(id,status)", {"build": {"id": "1", "status": "STARTED"}}),
        ("build(id,ui/more)", {"build": {"id": "1", "ui": {"more": "y"}}}),
        ("build(ui(info)),error", {"build": {"ui": {"info": "x"}}, "error": {"reason": "r"}}),
        ("build/ui(info,more)", {"build": {"ui": {"info": "x", "more": "y"}}}),
        ("builds/url", {"builds": [{"url": "u"}, {"url": "v"}]}),
        ("*/reason", {"build": {}, "builds": [{}, {}], "error": {"reason": "r"}}),
        ("build/tags", {"build": {"tags": ["a:b"]}}),
        ("build/id/deeper", {"build": {"id": "1"}}),
        ("build/id,build/status", {"build": {"id": "1", "status": "STARTED"}}),
        (" error , build / id ", {"build": {"id": "1"}, "error": {"reason": "r"}}),
    ],
)
def test_a_selector(selector: str, expected: Any) -> None:
    assert select_fields(REPLY, selector) == expected


@pytest.mark.parametrize("selector", [",", "a,", "a(", "a(b", "a(b))", "(a)", "a)", "a(b)c", "a,,b"])
def test_a_selector_with_a_syntax_error(selector: str) -> None:
    with pytest.raises(PartialError, match="Invalid field selection"):
        select_fields(REPLY, selector)
