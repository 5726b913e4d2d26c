"""Pages show hostile text letter by letter, so that escaping loses nothing."""

import pytest

from tests.unit.api.support import ADMIN
from tests.unit.web.support import Visitor
from tests.unit.web.test_hostile import PAYLOADS, _hostile_world

VISIBLE = [text for text in PAYLOADS if text.isprintable()]


@pytest.mark.parametrize("text", VISIBLE)
def test_the_pages_show_the_text(text: str) -> None:
    """The project's problems, a pause's reason, an invocation's log and its trigger each contain the text."""
    world, paths = _hostile_world(text)
    visitor = Visitor(world, ADMIN)
    for path in paths[1:4]:
        page = visitor.page(path)
        assert text in page.text, path
    (log,) = visitor.page(paths[3]).all("pre", id="live-log")
    assert f"] {text}" in log.text


@pytest.mark.parametrize("text", VISIBLE)
def test_the_json_twins_hold_the_text(text: str) -> None:
    """Nothing is escaped twice."""
    world, paths = _hostile_world(text)
    visitor = Visitor(world, ADMIN)
    assert text in visitor.json(paths[1])["problems"]
    assert text in visitor.json(paths[3])["debug_log"]
