"""Commit events: the accepted payloads, in this project's form and in Gerrit's."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.core.commit_event import MAX_EVENT_BYTES, MAX_GERRIT_BYTES, CommitEvent, parse_commit_events
from luci_scheduler.core.errors import MalformedError
from tests.memory import peak_bytes

SAMPLES = Path(__file__).parents[2] / "samples"
SHA = "7b1c0f8a2b0e4c46b9e6a0cf55d0b6a1c9f27e3d"
TINT = "https://dawn.googlesource.com/tint"
GOOD = {"repo": f"{TINT}.git", "ref": "refs/heads/main", "revision": SHA}


def parse(document: Any) -> tuple[CommitEvent, ...]:
    """Read a document."""
    return parse_commit_events(json.dumps(document).encode())


def gerrit(*updates: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return Gerrit's message about some updates."""
    return {"url": TINT, "refUpdateEvent": {"refUpdates": {u["refName"]: u for u in updates}}, **members}


def update(ref: str, kind: str = "UPDATE_FAST_FORWARD", new: str = SHA) -> dict[str, Any]:
    """Return an update of a ref."""
    return {"refName": ref, "updateType": kind, "oldId": "1" * 40, "newId": new}


def test_the_recorded_event() -> None:
    """The repository's spelling does not matter."""
    data = (SAMPLES / "gitiles-commit-event.data.json").read_bytes()
    assert parse_commit_events(data) == (CommitEvent(TINT, "refs/heads/main", SHA),)


def test_the_recorded_message_of_gerrit() -> None:
    """Gerrit's message yields the same event."""
    message = json.loads((SAMPLES / "gerrit-pubsub-ref-update.message.json").read_text(encoding="utf-8"))
    assert parse_commit_events(base64.b64decode(message["data"])) == (CommitEvent(TINT, "refs/heads/main", SHA),)


def test_gerrit_may_report_several_refs() -> None:
    """Created and moved refs are events, in order. Deleted refs are not. Unknown members are ignored."""
    found = parse(
        gerrit(
            update("refs/heads/b", "CREATE", "2" * 40),
            update("refs/heads/gone", "DELETE", "0" * 40),
            update("refs/heads/gone-too", "DELETE"),
            update("refs/heads/zero", "UPDATE_NON_FAST_FORWARD", "0" * 40),
            update("refs/changes/65/198765/3"),
            update("refs/heads/a", "UPDATE_NON_FAST_FORWARD"),
            eventTime="2026-03-17T14:04:58.120331Z",
            name="projects/dawn/repos/tint",
            more={},
        )
    )
    assert [(event.ref, event.revision) for event in found] == [
        ("refs/changes/65/198765/3", SHA),
        ("refs/heads/a", SHA),
        ("refs/heads/b", "2" * 40),
    ]


def test_gerrit_also_reports_repositories() -> None:
    """A created or deleted repository is not a commit."""
    for member in ("createRepoEvent", "deleteRepoEvent"):
        assert parse({"url": TINT, member: {}}) == ()
    assert parse({"url": TINT, "refUpdateEvent": {"email": "x@y.z"}}) == ()


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({**GOOD, "author": "me"}, "'author'"),
        ({"repo": TINT, "ref": "refs/heads/main"}, "'revision'"),
        ({**GOOD, "ref": "main"}, "'ref'"),
        ({**GOOD, "ref": 1}, "'ref'"),
        ({**GOOD, "ref": "refs/" + "x" * 1024}, "'ref'"),
        ({**GOOD, "ref": "refs/heads/a\nb"}, "'ref'"),
        ({**GOOD, "ref": "refs/heads/a..refs/heads/b"}, "'ref'"),
        ({**GOOD, "ref": "refs/heads/a^"}, "'ref'"),
        ({**GOOD, "revision": SHA[:39]}, "'revision'"),
        ({**GOOD, "revision": SHA.upper()}, "'revision'"),
        ({**GOOD, "repo": "https://example.com/x"}, "'repo'"),
        ([GOOD], "list"),
        (gerrit(update("refs/heads/a", new="1")), "'newId'"),
        (gerrit(update("heads/a")), "'refName'"),
        ({**gerrit(update("refs/heads/a")), "url": "https://example.com/x"}, "'url'"),
        ({**gerrit(update("refs/heads/a")), "url": 1}, "'url'"),
        ({"url": TINT, "refUpdateEvent": []}, "'refUpdates'"),
        ({"url": TINT, "refUpdateEvent": {"refUpdates": [1]}}, "'refUpdates'"),
        ({"url": TINT, "refUpdateEvent": {"refUpdates": {"refs/heads/a": 1}}}, "'refUpdates'"),
    ],
)
def test_bad_events(document: Any, named: str) -> None:
    """The message names the fault."""
    with pytest.raises(MalformedError, match=named):
        parse(document)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"[" * 60_000])
def test_payloads_that_are_not_json(data: bytes) -> None:
    """The message asks for JSON."""
    with pytest.raises(MalformedError, match="must be JSON"):
        parse_commit_events(data)


def test_a_deleted_ref_is_not_an_event() -> None:
    """A deleted ref yields no event in either form."""
    assert parse({**GOOD, "revision": "0" * 40}) == ()
    assert parse(gerrit(update("refs/heads/a", new="0" * 40))) == ()


def test_a_plain_event_has_at_most_64_kib() -> None:
    """One byte more is refused, even if it could be parsed."""
    text = json.dumps(GOOD)
    fits = text + " " * (MAX_EVENT_BYTES - len(text))
    assert len(parse_commit_events(fits.encode())) == 1
    with pytest.raises(MalformedError, match="at most 65536 bytes"):
        parse_commit_events(f"{fits} ".encode())
    hidden = json.dumps({**GOOD, "x": '"refUpdateEvent"' + "x" * MAX_EVENT_BYTES})
    with pytest.raises(MalformedError):
        parse_commit_events(hidden.encode())


def test_a_message_of_gerrit_has_at_most_ten_megabytes() -> None:
    """That is room for 3,000 refs many times over. One byte more is refused before parsing."""
    many = [update(f"refs/heads/release-{number:04}", "CREATE") for number in range(3_000)]
    text = json.dumps(gerrit(*many))
    assert len(text) > 400_000
    fits = text + " " * (MAX_GERRIT_BYTES - len(text))
    assert len(parse_commit_events(fits.encode())) == 3_000
    with pytest.raises(MalformedError, match="at most 10000000 bytes"):
        parse_commit_events(f"{fits} ".encode())


@pytest.mark.parametrize("unit", ["[],", "{},", '{"":0},', '"",', "0,"])
def test_a_message_of_gerrit_has_at_most_half_a_million_values(unit: str) -> None:
    """Ten megabytes of empty lists would take 400 MB of memory."""
    head = f'{{"url": "{TINT}", "refUpdateEvent": {{"refUpdates": {{}}}}, "x": ['
    assert parse_commit_events(f"{head}{unit * 100_000}0]}}".encode()) == ()
    data = f"{head}{unit * 1_000_000}0]}}".encode()

    def parse() -> None:
        with pytest.raises(MalformedError, match="more than 500000 values"):
            parse_commit_events(data)

    assert peak_bytes(parse) < 1_000_000


def test_a_message_of_gerrit_may_fill_ten_megabytes_with_refs() -> None:
    """The entries have Gerrit's form."""
    updates = [update(f"refs/heads/release-{n:05}", new=f"{n + 1:040x}") for n in range(45_000)]
    data = json.dumps(gerrit(*updates)).encode()
    assert 9_000_000 < len(data) <= MAX_GERRIT_BYTES
    assert len(parse_commit_events(data)) == 45_000


def test_hashes_of_sha_256() -> None:
    """They have 64 digits. No other length is a hash, and zeros of either length delete the ref."""
    document = {"repo": "https://github.com/Org/App", "ref": "refs/heads/main", "revision": "b" * 64}
    assert parse_commit_events(json.dumps(document).encode()) == (
        CommitEvent("https://github.com/org/app", "refs/heads/main", "b" * 64),
    )
    assert parse_commit_events(json.dumps({**document, "revision": "0" * 64}).encode()) == ()
    for length in (39, 41, 52, 63, 65):
        with pytest.raises(MalformedError, match="'revision' must be 40 lower-case hexadecimal digits, or 64"):
            parse_commit_events(json.dumps({**document, "revision": "b" * length}).encode())
