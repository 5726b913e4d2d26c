"""Strict reading of scenarios: every fault is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.replay.answers import Reply
from emulator.replay.errors import ScenarioError
from emulator.replay.operations import OPERATIONS
from emulator.replay.reading import Node, parse_json
from emulator.replay.scenario import load_scenario, read_scenario
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import MILLISECOND, SECOND, parse_rfc3339
from luci_scheduler.settings import BuildbucketServer

CONFIG = 'job { id: "job" noop {} }'
AT = "2026-03-01T12:00:00Z"
COMMIT = {"at": AT, "commit": {"repo": "https://r.googlesource.com/x", "ref": "refs/heads/main", "revision": "a" * 40}}


def _document(*deliveries: Any, **changes: Any) -> dict[str, Any]:
    return {
        "service": {"project": "p", "buildbucket": [{"host": "h.example.com", "publisher": "a@example.com"}]},
        "config": {"project": "proj", "file": "proj.cfg", "revision": "r1"},
        "chance": {"suffixes": [1, 2]},
        "deliveries": list(deliveries) or [COMMIT],
        **changes,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "the member 'a' appears twice in one object"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_documents_that_are_not_json(text: str, says: str) -> None:
    """Members that appear twice and numbers outside JSON are refused as well."""
    with pytest.raises(ScenarioError, match=says):
        parse_json(text)


def test_strict_json_is_read() -> None:
    """Objects may repeat a member's name at other places."""
    assert parse_json('[{"a": 1, "b": {"a": null}}, {"a": 2.5}]') == [{"a": 1, "b": {"a": None}}, {"a": 2.5}]


@pytest.mark.parametrize(
    ("read", "value", "says"),
    [
        (lambda node: node.text(), 5, "x: must be a text, not 5"),
        (lambda node: node.text(), "", "x: must not be empty"),
        (lambda node: node.integer(1, 5), True, "x: must be a whole number, not true"),
        (lambda node: node.integer(1, 5), 6, "x: must be from 1 to 5, not 6"),
        (lambda node: node.items(), {}, "x: must be a list, not {}"),
        (lambda node: node.duration(), "1", "x: must be a duration such as 1.104s"),
        (lambda node: node.duration(), "-1s", "x: must not be negative"),
        (lambda node: node.instant(), "noon", "x: must be a time such as"),
        (lambda node: node.members(("a",)), {}, "x: lacks 'a'"),
        (lambda node: node.members(("a",)), {"a": 1, "b": 2}, "x: has no member 'b'; it may hold a"),
        (lambda node: node.of_type(dict), ["y" * 100], f'x: must be an object, not ["{"y" * 55}...'),
    ],
)
def test_values_that_are_refused(read: Any, value: Any, says: str) -> None:
    """The error names the place and the value, which is shortened."""
    with pytest.raises(ScenarioError) as raised:
        read(Node(value, "x"))
    assert str(raised.value).startswith(says)
    assert len(str(raised.value)) < 200


def test_values_that_are_read() -> None:
    """Places are written as in JavaScript."""
    node = Node({"list": [{"n": 3}], "took": "1.5s", "late": "-2ms", "at": AT}, "")
    members = node.members(("list", "took", "late", "at"))
    (item,) = members["list"].items()
    number = item.members(("n",))["n"]
    assert (number.where, number.integer(3, 3)) == ("list[0].n", 3)
    assert members["took"].duration() == SECOND * 3 // 2
    assert members["late"].duration(negative=True) == -2 * MILLISECOND
    assert members["at"].instant() == parse_rfc3339(AT)


def test_a_scenario_has_defaults() -> None:
    """Operations take no time, servers speak v2, and the replay drains the queue."""
    scenario = read_scenario(_document(), CONFIG)
    assert scenario.begins == parse_rfc3339(AT)
    assert scenario.servers == [BuildbucketServer("h.example.com", "a@example.com", Era.V2)]
    assert scenario.defaults == dict.fromkeys(OPERATIONS, 0)
    assert (scenario.app_id, scenario.hostname, scenario.check_interval_seconds) == ("luci-scheduler", "", 0)
    assert scenario.drain


def test_a_delivery_has_its_durations_and_answers() -> None:
    """Each kind of answer is read; a task has a lateness instead of a time."""
    answers = [
        {"reply": {"id": "1"}},
        {"error": "NOT_FOUND", "message": "no build"},
        {"http": 502, "body": "bad gateway"},
        {"lost": True},
    ]
    task = {"task": "timer", "lateness": "-3ms", "takes": {"call": ["1s", "2s"]}, "answers": answers}
    delivery = read_scenario(_document(COMMIT, task), CONFIG).deliveries[1]
    assert (delivery.kind, delivery.body, delivery.at, delivery.lateness) == ("task", "timer", None, -3 * MILLISECOND)
    assert delivery.takes == {"call": [SECOND, 2 * SECOND]}
    assert delivery.answers == [
        Reply(reply={"id": "1"}),
        Reply(code=5, text="no build"),
        Reply(http=502, text="bad gateway"),
        Reply(lost=True),
    ]
    assert [answer.is_failure for answer in delivery.answers] == [False, True, True, True]


@pytest.mark.parametrize(
    ("delivery", "says"),
    [
        ({"at": AT}, "deliveries[1]: must hold exactly one of commit, notification, task"),
        ({**COMMIT, "at": "2026-03-01T11:00:00Z"}, "deliveries must be in the order of time"),
        ({"task": "timer", "answers": [{}]}, "deliveries[1].answers[0]: must hold exactly one of reply"),
        ({"task": "timer", "answers": [{"error": "BAD"}]}, "deliveries[1].answers[0].error: 'BAD' is not a gRPC code"),
        (
            {"task": "timer", "answers": [{"error": "INTERNAL", "message": "x"}]},
            "deliveries[1].answers[0].message: Buildbucket",
        ),
        ({"task": "timer", "answers": [{"lost": False}]}, "deliveries[1].answers[0].lost: must be true"),
        ({"task": "timer", "answers": [{"http": 600}]}, "deliveries[1].answers[0].http: must be from 200 to 599"),
        (
            {"at": AT, "notification": {"build": {"id": "x"}}},
            "deliveries[1].notification.build.id: must be the decimal",
        ),
    ],
)
def test_deliveries_that_are_refused(delivery: Any, says: str) -> None:
    """The error names the delivery."""
    with pytest.raises(ScenarioError) as raised:
        read_scenario(_document(COMMIT, delivery), CONFIG)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deliveries": []}, "must begin with a commit or a notification"),
        ({"deliveries": [{"task": "timer"}]}, "must begin with a commit or a notification"),
        ({"drain": 1}, "drain: must be true or false, not 1"),
        ({"chance": {"suffixes": [1 << 16]}}, "chance.suffixes[0]: must be from 0 to 65535"),
        (
            {"service": {"project": "p", "buildbucket": [{"host": "h", "publisher": "a", "protocol": "v3"}]}},
            "must be v1 or v2, not 'v3'",
        ),
    ],
)
def test_documents_that_are_refused(changes: dict[str, Any], says: str) -> None:
    """The error names the member."""
    with pytest.raises(ScenarioError) as raised:
        read_scenario(_document(**changes), CONFIG)
    assert says in str(raised.value)


def test_an_invalid_config_is_refused() -> None:
    """The error lists the config's problems."""
    with pytest.raises(ScenarioError, match=r"^config\.file: the config is not valid: "):
        read_scenario(_document(), "job {}")


@pytest.mark.parametrize("name", ["/dev/zero", "../other.cfg", "sub/x.cfg", "..", "x/", "\0"])
def test_a_scenario_reads_no_other_folder(tmp_path: Path, name: str) -> None:
    """It may come from a stranger."""
    (tmp_path / "own").mkdir()
    (tmp_path / "other.cfg").write_text(CONFIG)
    document = _document()
    document["config"]["file"] = name
    (tmp_path / "own" / "scenario.json").write_text(json.dumps(document))
    with pytest.raises(ScenarioError, match=r"^config\.file: .*(must be the name of a file|cannot be read)"):
        load_scenario(tmp_path / "own" / "scenario.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, and text in another encoding."""
    with pytest.raises(ScenarioError, match=r"^the scenario cannot be read: No such file"):
        load_scenario(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match=r"^the scenario cannot be read: it is not UTF-8"):
        load_scenario(tmp_path / "bad.json")
