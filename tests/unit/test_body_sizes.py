"""Size limits of the entry points: an otherwise valid body is accepted up to the limit and refused above."""

import base64
import json
from typing import Any

import flask
import pytest

from luci_scheduler import entry
from luci_scheduler.core.commit_event import CommitEvent, parse_commit_events
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import SECOND, format_rfc3339
from tests.unit.engine.world import REPO, World

LIMIT = 64 * 1024
"""The limit of a commit event, as the reference of the topic promises."""
TASK_LIMIT = 1 << 20
"""Of a task: Cloud Tasks accepts no larger task."""
MESSAGE_LIMIT = 10_000_000
"""Of a message: Pub/Sub accepts no larger message."""
EVENT = {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}


def _sized(size: int, place: str) -> bytes:
    """Return the event as JSON of this many bytes, padded with white space."""
    text = json.dumps(EVENT)
    space = " " * (size - len(text))
    filled = {"before": space + text, "after": text + space, "inside": text.replace(": ", ": " + space, 1)}[place]
    assert len(filled) == size
    assert json.loads(filled) == EVENT
    return filled.encode()


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_an_event_of_the_maximum_size_is_read(place: str) -> None:
    """Its meaning is that of a short event."""
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


@pytest.mark.parametrize(("size", "code"), [(TASK_LIMIT, 200), (TASK_LIMIT + 1, 400)])
def test_a_task_has_a_maximum_size(size: int, code: int) -> None:
    """A sweep with white space after its payload runs up to the limit, and is malformed above it."""
    world = World()
    server = flask.Flask("on_task")
    with server.test_request_context("/sweep", method="POST", data=b"{}".ljust(size)):
        answer: Any = entry.task(world.app, flask.request)
    assert answer[1] == code


def test_a_notification_has_a_maximum_size() -> None:
    """A notification is handled up to Pub/Sub's limit; a larger one is malformed, although its token is valid."""
    world = World()
    world.commit()
    world.finish()
    world.clock.advance(SECOND)
    token = base64.b64decode(next(iter(world.buildbucket.tokens.values()))).decode()
    for size, code, is_over in ((MESSAGE_LIMIT + 3, 400, False), (MESSAGE_LIMIT, 200, True)):
        message = {
            "data": base64.b64encode(b"{}".ljust(size)).decode(),
            "attributes": {"auth_token": token},
            "messageId": str(size),
            "publishTime": format_rfc3339(world.clock.now()),
        }
        event: Any = type("Event", (dict,), {"data": {"message": message}})({"id": str(size), "time": ""})
        assert entry.notification(world.app, event)[1] == code
        assert world.invocations()[0].status.is_final == is_over
