"""The size of a commit event: one that is valid in everything else is taken up to 64 KiB, and refused above."""

import base64
import json
from typing import Any

import pytest

from luci_scheduler import entry
from luci_scheduler.core.commit_event import CommitEvent, parse_commit_events
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import SECOND, format_rfc3339
from tests.unit.engine.world import REPO, World

LIMIT = 64 * 1024
"""What the reference of the topic promises."""
EVENT = {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}


def _sized(size: int, place: str) -> bytes:
    """Return the event as JSON of so many bytes; white space fills it up, where JSON allows it."""
    text = json.dumps(EVENT)
    space = " " * (size - len(text))
    filled = {"before": space + text, "after": text + space, "inside": text.replace(": ", ": " + space, 1)}[place]
    assert len(filled) == size
    assert json.loads(filled) == EVENT
    return filled.encode()


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_an_event_of_the_greatest_size_is_read(place: str) -> None:
    """It says the same as a short one."""
    assert parse_commit_events(_sized(LIMIT, place)) == (CommitEvent(REPO, "refs/heads/main", "a" * 40),)


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_an_event_that_is_one_byte_larger_is_refused(place: str) -> None:
    """The error names the limit and the size, so the size alone is the reason."""
    with pytest.raises(MalformedError, match=f"at most {LIMIT} bytes, this one has {LIMIT + 1}"):
        parse_commit_events(_sized(LIMIT + 1, place))


@pytest.mark.parametrize(("size", "code", "builds"), [(LIMIT, 200, 1), (LIMIT + 1, 400, 0), (3 * LIMIT, 400, 0)])
def test_the_function_takes_or_refuses_the_message(size: int, code: int, builds: int) -> None:
    """A message whose event is too large has the code of a malformed one, and starts no build."""
    world = World()
    world.clock.advance(SECOND)
    message = {
        "data": base64.b64encode(_sized(size, "after")).decode(),
        "messageId": "1",
        "publishTime": format_rfc3339(world.clock.now()),
    }
    event: Any = type("Event", (dict,), {"data": {"message": message}})({"id": "1", "time": ""})
    assert entry.commit(world.app, event)[1] == code
    assert len(world.buildbucket.builds) == builds
