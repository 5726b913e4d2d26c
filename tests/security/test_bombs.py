"""Small or compressed bodies that would become large objects: they are counted before they are parsed."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from luci_scheduler.bodies import read_body
from luci_scheduler.core import commit_event, notification_token
from luci_scheduler.core.untrusted import MAX_VALUES
from tests.fuzz.site import Site
from tests.security.doors import ON_EVENT, PUSH_ACCOUNT, REVISION, Door, guarded, push
from tests.unit.engine.world import REPO

_MANY = b"[" + b"[]," * (MAX_VALUES // 2) + b"[]]"
BOMBS = {
    "many values": b'{"refUpdateEvent":' + _MANY + b"}",
    "many members": b'{"refUpdateEvent":{' + b'"a":1,' * MAX_VALUES + b'"a":1}}',
    "many objects": b'{"userData":"x","refUpdateEvent":[' + b"{}," * MAX_VALUES + b"{}]}",
}


@pytest.fixture(name="served")
def _served() -> Iterator[tuple[Site, Mapping[str, Door]]]:
    with guarded() as served:
        yield served


def _deliver(functions: Site, door: Door, data: bytes) -> tuple[int, list[str], int]:
    pushed = Door(door.function, door.path, push(data), audience=ON_EVENT, account=PUSH_ACCOUNT)
    answer = pushed.knock(functions, {"Authorization": functions.token(ON_EVENT, PUSH_ACCOUNT)})
    return answer.code, answer.events, answer.writes


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing may be parsed")


@pytest.mark.parametrize("name", ["commit", "notification"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_the_values_of_a_message_are_counted_first(
    served: Any, name: str, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message of a megabyte would take a hundred times as much memory. No parser sees it."""
    functions, doors = served
    for module in (commit_event, notification_token):
        monkeypatch.setattr(module, "json", SimpleNamespace(loads=_refuse))
    refused = {"commit": (400, ["malformed"], 0), "notification": (200, ["permanent_error"], 0)}
    assert _deliver(functions, doors[name], BOMBS[bomb]) == refused[name]


ENVELOPES = {
    "many values": b'{"message":{},"subscription":"s","x":' + _MANY + b"}",
    "many members": b"{" + b'"a":1,' * MAX_VALUES + b'"message":{},"subscription":"s"}',
    "many bytes": b'{"message":{"data":"' + b"A" * 14_000_000 + b'"},"subscription":"s"}',
}


@pytest.mark.parametrize("name", ["commit", "notification"])
@pytest.mark.parametrize("kind", ENVELOPES)
def test_the_values_of_an_event_are_counted_before_its_sender_is_known(
    served: Any, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The framework reads the envelope before the function verifies a token."""
    functions, doors = served
    loads = json.loads

    def guard(data: Any, **named: Any) -> Any:
        return _refuse() if len(data) > 100_000 else loads(data, **named)

    monkeypatch.setattr(json, "loads", guard)
    stranger = Door(doors[name].function, doors[name].path, ENVELOPES[kind])
    answer = stranger.knock(functions, {})
    assert (answer.code, answer.events, answer.writes) == (400, ["refused_by_framework"], 0)
    assert " at most " in answer.lines[0]["reason"] or " more than " in answer.lines[0]["reason"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_large_message_without_refs_is_not_parsed(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a Gerrit host's event may be larger than 64 KiB."""
    functions, doors = served
    monkeypatch.setattr(commit_event, "check_values", _refuse)
    data = json.dumps({"repo": "x" * commit_event.MAX_EVENT_BYTES}).encode()
    assert _deliver(functions, doors["commit"], data) == (400, ["malformed"], 0)


DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "closed": b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a long number": b'{"a":' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("compressed", [False, True])
def test_deep_documents_are_refused_at_every_door(served: Any, kind: str, compressed: bool) -> None:
    """No answer is 500, nothing is written, and one line is logged."""
    functions, doors = served
    for name, door in doors.items():
        if name in ("page", "form"):
            continue
        body = DEEP[kind]
        headers = {"Authorization": functions.token(door.audience, door.account)}
        if door.function == "console" and compressed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        if door.audience == ON_EVENT and compressed:
            body = push(body)
        sent = Door(door.function, door.path, body, audience=door.audience, account=door.account)
        answer = sent.knock(functions, headers)
        assert answer.writes == 0, (name, answer)
        is_foreign = name == "cloud build" and compressed  # the topic also has messages of others
        is_unread = name == "sync" or is_foreign or (name == "notification" and answer.events == ["permanent_error"])
        assert answer.code == (200 if is_unread else 400), (name, answer)
        assert len(answer.lines) == (0 if is_foreign else 1) or name == "sync", (name, answer)


@pytest.mark.parametrize("path", ["/prpc/scheduler.Scheduler/EmitTriggers", "/api/v1/scheduler.Scheduler/EmitTriggers"])
def test_a_thousand_to_one(served: Any, path: str) -> None:
    """A compressed request of a thousand times its size is refused with its limit."""
    functions, _ = served
    body = gzip.compress(b'{"batches":[' + b"{}," * 300_000 + b"{}]}")
    assert len(body) < 2_000
    headers = {"Authorization": functions.token("https://console.invalid", "owner@example.com")}
    answer = Door("console", path, body).knock(functions, {**headers, "Content-Encoding": "gzip"})
    assert (answer.code, answer.writes) == (400, 0)
    assert b"a request has at most" in answer.body


def test_a_large_plain_event_is_refused(served: Any) -> None:
    """Even if its text has the word that lets larger messages of Gerrit pass."""
    functions, doors = served
    event = b'{"repo":"refUpdateEvent","repo":"%s","ref":"refs/heads/main","revision":"%s"' % (
        REPO.encode(),
        REVISION.encode(),
    )
    padded = event + b" " * commit_event.MAX_EVENT_BYTES + b"}"
    assert _deliver(functions, doors["commit"], padded) == (400, ["malformed"], 0)
    assert _deliver(functions, doors["commit"], event + b"}")[0] == 200


def test_a_body_is_read_up_to_its_limit() -> None:
    """A sender without end gets an answer after one byte more, and nothing else is kept."""
    stream = io.BytesIO(b"x" * 1_000_000)
    body = read_body(SimpleNamespace(stream=stream, content_length=None), 1_000)
    assert (len(body), stream.tell()) == (1_001, 1_001)
