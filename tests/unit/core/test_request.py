"""Requests, and the triggers that they come from."""

from typing import Any

import pytest

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.request import Request, request_from_triggers
from luci_scheduler.core.trigger import PayloadKind, Trigger


def trigger(identifier: str = "t", kind: PayloadKind = "none", user: str = "", **payload: Any) -> Trigger:
    """Return a trigger."""
    return Trigger(identifier, Instant(0), kind, payload, emitted_by_user=user)


GITILES = {"repo": "https://x.googlesource.com/p", "ref": "refs/heads/main", "revision": "a" * 40}


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (["user:a@x"], "user:a@x"),
        (["user:a@x", "user:a@x"], "user:a@x"),
        (["user:a@x", "user:b@x"], ""),
        (["user:a@x", ""], ""),
        ([""], ""),
    ],
)
def test_triggered_by_is_the_user_that_all_triggers_share(users: list[str], expected: str) -> None:
    """One trigger by another person, or by the service, leaves the field empty."""
    request = request_from_triggers([trigger(f"t{i}", user=user) for i, user in enumerate(users)], Era.V2)
    assert request.triggered_by == expected


def test_the_last_trigger_decides() -> None:
    """Properties come from the most recent trigger. All are incoming triggers."""
    triggers = [trigger("old", "noop", data="old"), trigger("new", "noop", data="new")]
    request = request_from_triggers(triggers, Era.V2)
    assert request.properties == {"noop_trigger_data": "new"}
    assert request.incoming_triggers == tuple(triggers)


def test_the_commits_properties_override_the_triggers() -> None:
    """A trigger cannot make its build use another commit."""
    payload = {**GITILES, "properties": {"revision": "other", "branch": "other", "extra": 1}}
    request = request_from_triggers([trigger(kind="gitiles", **payload)], Era.V2)
    expected = {"revision": "a" * 40, "branch": "refs/heads/main", "repository": GITILES["repo"], "extra": 1}
    assert request.properties == expected


def test_a_bad_repository_url_is_quoted_in_the_log() -> None:
    """With any URL, the log line stays one line."""
    request = request_from_triggers([trigger(kind="gitiles", **{**GITILES, "repo": 'ftp://"x"\n'})], Era.V2)
    assert request.properties is None
    assert request.tags == ()
    (line,) = request.log_lines
    assert line == 'Bad repo URL "ftp://\\"x\\"\\n" in the trigger - not a URL: invalid character'


def test_stored_tags_are_sorted_by_bytes() -> None:
    """Capitals come before small letters, astral characters after all others."""
    tags = ("b:1", "\U0001f600:1", "\uffee:1", "B:1", "a:2", "a:1", "a:1")
    assert Request(tags=tags).stored_tags() == ("B:1", "a:1", "a:1", "a:2", "b:1", "\uffee:1", "\U0001f600:1")


def test_stored_tags_are_checked() -> None:
    """The error names a tag without a colon."""
    with pytest.raises(PermanentError, match="bad tag, not a 'key:value' pair: \"oops\""):
        Request(tags=("a:b", "oops")).stored_tags()


@pytest.mark.parametrize(
    ("given", "public"),
    [
        (trigger("t", "cron", user="user:a@x", generation=3), {"id": "t", "cron": {"generation": "3"}}),
        (trigger("t", "cron"), {"id": "t", "cron": {}}),
        (trigger("t", "webui"), {"id": "t", "webui": {}}),
        (trigger("t", "noop", data="secret"), {"id": "t", "noop": {}}),
        (trigger("t"), {"id": "t"}),
        (trigger("t", "gitiles", **GITILES, properties={}, tags=[]), {"id": "t", "gitiles": GITILES}),
        (
            Trigger("t", Instant(7), "buildbucket", {"tags": ["a:b"]}, 5, "title", "url", "p/j", 16, "user:a@x"),
            {"id": "t", "title": "title", "url": "url", "buildbucket": {"tags": ["a:b"]}},
        ),
    ],
)
def test_public_form_of_a_trigger(given: Trigger, public: dict[str, Any]) -> None:
    """Builds see a trigger's content, but not when, by whom or in which order it was emitted.

    Empty fields are left out.
    """
    assert given.public() == public
