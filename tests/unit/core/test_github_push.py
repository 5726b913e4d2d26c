"""A push of GitHub: the proof of its sender, and the rule for each kind of push."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luci_scheduler.core.commit_event import CommitEvent, parse_commit_events
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.github_push import Ignored, event_of, has_form, is_genuine, message_of, read_push
from luci_scheduler.core.instants import DAY, SECOND, Instant
from tests.pushes import PUSHED, SAMPLES, payload, signature

REPO = "https://github.com/example-org/widget"
HEAD, TAG, ZERO = "d710f453fb111e7bdd7a5e94d1b8a4e01b967451", "9d64b0b12a1e14cf6fbfbfbc92812a5a23bc3242", "0" * 40


def _event(document: dict[str, Any], hosts: CommitHosts = DEFAULT_HOSTS, now: int = PUSHED) -> tuple[str, ...] | str:
    """Return the ref and the revision of a push's commit event, or the reason why it has none."""
    found = event_of(read_push(document), hosts, Instant(now))
    return found.reason if isinstance(found, Ignored) else (found.ref, found.revision)


def test_the_pair_of_the_samples() -> None:
    """The signature covers the UTF-8 bytes of the body as they came."""
    pair = json.loads((SAMPLES / "signature-check.json").read_text(encoding="utf-8"))
    body = pair["body"].encode()
    assert signature(body, pair["secret"]) == pair["signature"]
    assert has_form(pair["signature"])
    assert is_genuine([pair["secret"]], body, pair["signature"])
    assert is_genuine(["another secret", pair["secret"]], body, pair["signature"])
    assert not is_genuine(["another secret"], body, pair["signature"])
    assert not is_genuine([pair["secret"]], body.lower() + b" ", pair["signature"])
    assert not is_genuine([], body, pair["signature"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("refs/heads/main", HEAD)),
        ({"ref": "refs/heads/feature/\u00e4 b".replace(" ", "-")}, ("refs/heads/feature/\u00e4-b", HEAD)),
        ({"ref": "refs/notes/commits"}, ("refs/notes/commits", HEAD)),
        ({"created": True, "commits": []}, ("refs/heads/main", HEAD)),
        ({"forced": True}, ("refs/heads/main", HEAD)),
        ({"forced": True, "created": True, "commits": []}, ("refs/heads/main", HEAD)),
        ({"forced": True, "commits": []}, "it rewinds the branch"),
        ({"head_commit": None}, ("refs/heads/main", HEAD)),
        ({"deleted": True, "after": ZERO, "head_commit": None, "commits": []}, "it deletes the ref"),
        ({"deleted": True}, "it deletes the ref"),
        ({"after": ZERO}, "it deletes the ref"),
        ({"ref": "refs/tags/v1", "after": TAG, "created": True, "commits": []}, ("refs/tags/v1", HEAD)),
        ({"ref": "refs/tags/v1", "after": TAG, "forced": True, "commits": []}, ("refs/tags/v1", HEAD)),
        ({"ref": "refs/tags/v1", "after": TAG, "head_commit": None}, "the tag leads to no commit"),
        ({"ref": "refs/tags/v1", "after": ZERO, "deleted": True, "head_commit": None}, "it deletes the ref"),
    ],
)  # fmt: skip
def test_a_push_has_an_event_for_the_head_of_its_ref(changes: dict[str, Any], expected: Any) -> None:
    assert _event(payload(**changes)) == expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [(-DAY, True), (0, True), (7 * DAY, True), (7 * DAY + 1, False), (400 * DAY, False)],
)
def test_an_old_push_is_a_replay(age: int, expected: bool) -> None:
    """A person may redeliver a push for a few days, and a signature never expires."""
    found = _event(payload(), now=PUSHED + age)
    assert found == (("refs/heads/main", HEAD) if expected else "it was pushed more than seven days ago")


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com.example.com/example-org/widget",
        "https://git.example.com/example-org/widget",
        "https://gitlab.com/example-org/widget",
        "https://github.com@example.com/example-org/widget",
        "https://r.googlesource.com/repo",
        "github.com/example-org/widget",
        "",
    ],
)
def test_a_push_of_another_host_has_no_event(url: str) -> None:
    """A repository on Gitiles is no exception: its events come from another sender."""
    assert _event(payload({"html_url": url})) == "its host is not a configured GitHub host"


def test_a_push_of_an_enterprise_host_counts_if_it_is_configured() -> None:
    url = "https://git.example.com/Example-Org/Widget"
    hosts = CommitHosts({"git.example.com": ConfiguredHost(HostKind.GITHUB, "https://git.example.com/api/v3")})
    assert _event(payload({"html_url": url}), hosts) == ("refs/heads/main", HEAD)
    assert _event(payload(), hosts) == "its host is not a configured GitHub host"


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"ref": "main"}, "'ref'"),
        ({"ref": "refs/heads/" + "x" * 1014}, "'ref'"),
        ({"ref": "refs/heads/a..b"}, "'ref'"),
        ({"ref": "refs/heads/a\nb"}, "'ref'"),
        ({"after": "d710f453"}, "'after'"),
        ({"after": HEAD.upper()}, "'after'"),
        ({"ref": "refs/tags/v1", "head_commit": {"id": "x"}}, "'head_commit.id'"),
        ({"repository": {"html_url": "https://github.com/example-org", "pushed_at": 1_773_755_890}}, "html_url"),
        ({"repository": {"html_url": "http://github.com/a/b", "pushed_at": 1_773_755_890}}, "html_url"),
    ],
)
def test_a_push_with_a_bad_value_is_malformed(changes: dict[str, Any], member: str) -> None:
    with pytest.raises(MalformedError, match=member):
        _event(payload(**changes))


@pytest.mark.parametrize(
    "member", ["ref", "after", "created", "deleted", "forced", "commits", "repository", "html_url", "pushed_at"]
)
@pytest.mark.parametrize("value", [..., None, 1.5, [1], {"a": 1}, "1", True])
def test_a_push_needs_its_members(member: str, value: Any) -> None:
    """Each missing or wrong member is named."""
    document = payload()
    place = document["repository"] if member in ("html_url", "pushed_at") else document
    kind, _ = type(place[member]), place.pop(member)
    if value is not ...:
        place[member] = value
    if type(value) is kind and member != "repository":
        read_push(document)
        return
    with pytest.raises(MalformedError, match=member if member != "repository" else r"repository|html_url"):
        read_push(document)


@pytest.mark.parametrize("seconds", [-1, 1 << 33, 1 << 62])
def test_a_push_needs_a_time(seconds: int) -> None:
    with pytest.raises(MalformedError, match="pushed_at"):
        read_push(payload({"pushed_at": seconds}))


def test_a_head_commit_needs_an_id() -> None:
    for head in ({}, {"id": 5}, [], "x", 0, False):
        with pytest.raises(MalformedError, match=r"head_commit|'id'"):
            read_push(payload(head_commit=head))


def test_the_message_is_the_commit_event() -> None:
    """The same text as the sample, and the function on the other side reads it."""
    pushed = read_push(payload())
    event = event_of(pushed, DEFAULT_HOSTS, Instant(PUSHED + SECOND))
    assert isinstance(event, CommitEvent)
    message = message_of(pushed, event)
    assert message == (SAMPLES / "commit-event.data.json").read_bytes().strip()
    assert parse_commit_events(message) == (CommitEvent(REPO, "refs/heads/main", HEAD),)
