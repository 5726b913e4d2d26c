"""The export of invocations as scenarios: round trips of invocations with failures, and refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.replay.player import play
from emulator.replay.scenario import read_scenario
from luci_scheduler.api.export import Facts, to_scenario
from luci_scheduler.api.export_log import NotReplayableError
from luci_scheduler.core.instants import format_rfc3339, parse_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition, TriggeringPolicy
from luci_scheduler.core.trigger import Trigger
from tests.unit.api.support import STRANGER, Client, world_for
from tests.unit.engine.world import JOB

GOLDEN = Path("tests/golden")
Change = Callable[[dict[str, Any]], None]


def _scenario(name: str) -> tuple[dict[str, Any], str]:
    folder = GOLDEN / name
    document = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
    return document, (folder / "luci-scheduler.cfg").read_text(encoding="utf-8")


def _played(document: dict[str, Any], config: str) -> tuple[Invocation, str]:
    (found,) = play(read_scenario(document, config)).invocations
    return found


def _first_answers(*answers: dict[str, Any]) -> Change:
    """Give the launch a failing answer. The tasks that retry it get the other answers."""

    def change(document: dict[str, Any]) -> None:
        first, *others = answers
        commit = document["deliveries"][0]
        good = commit["answers"]
        commit["answers"] = [first]
        retries = [
            {"task": "launch", "lateness": "33.3ms", "answers": [{"reply": {}}, answer]} for answer in (*others, *good)
        ]
        document["deliveries"] = [commit, *retries]
        document["chance"]["check_delays"] = document["chance"].get("check_delays", [])[:1]
        document["drain"] = False

    return change


def _moved(to: str) -> Change:
    """Move all deliveries to another time."""

    def change(document: dict[str, Any]) -> None:
        shift = parse_rfc3339(to) - parse_rfc3339(document["deliveries"][0]["at"])
        for delivery in document["deliveries"]:
            for name in delivery.keys() & {"at", "published"}:
                delivery[name] = format_rfc3339(parse_rfc3339(delivery[name]) + shift)

    return change


def _interval(document: dict[str, Any]) -> None:
    document["service"]["check_interval_seconds"] = 30
    document["chance"].pop("check_delays", None)
    document["deliveries"] = document["deliveries"][:1] + [
        {"task": "timer", "lateness": "5ms", "answers": document["deliveries"][1]["answers"]} for _ in range(3)
    ]
    document["drain"] = False


def _check_is_refused(document: dict[str, Any]) -> None:
    document["deliveries"][1]["answers"] = [{"error": "NOT_FOUND", "message": "no such build"}]
    document["deliveries"] = document["deliveries"][:2]


def _odd_status(document: dict[str, Any]) -> None:
    document["deliveries"][1]["answers"][0]["reply"]["status"] = "MELTED"
    document["deliveries"] = document["deliveries"][:2]


def _v1_error(document: dict[str, Any]) -> None:
    document["deliveries"] = document["deliveries"][:1]
    document["deliveries"][0]["answers"] = [{"reply": {"error": {"reason": "INVALID_INPUT", "message": "bad bucket"}}}]


def _launch_is_refused(document: dict[str, Any]) -> None:
    document["deliveries"] = document["deliveries"][:1]
    document["deliveries"][0]["answers"] = [{"error": "PERMISSION_DENIED", "message": "not allowed"}]
    document["deliveries"][0]["takes"] = {"call": ["200ms", "1.5s"]}  # the request, and the lookup after the refusal


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("failing-v2-build", _launch_is_refused),
        ("failing-v2-build", _first_answers({"lost": True}, {"http": 502, "body": "bad gateway"})),
        (
            "failing-v2-build",
            _first_answers({"http": 500}, {"error": "UNAVAILABLE"}, {"error": "INTERNAL"}),
        ),
        ("failing-v2-build", _moved("2026-03-17T23:59:59.999999999Z")),
        ("failing-v2-build", _moved("2026-03-17T23:55:00.0005Z")),
        ("failing-v2-build", _interval),
        ("failing-v2-build", _check_is_refused),
        ("failing-v2-build", _odd_status),
        ("tint-mac-rel", _first_answers({"http": 502, "body": "bad gateway"}, {"lost": True})),
        ("tint-mac-rel", _v1_error),
    ],
)
def test_round_trips_of_failures(name: str, change: Change) -> None:
    """A replayed export gives the same log: failing launches, refused checks, midnight, other intervals."""
    document, config = _scenario(name)
    change(document)
    invocation, log = _played(document, config)
    exported = to_scenario(invocation, log)
    again, log_again = _played(json.loads(exported.scenario), exported.config)
    assert log_again == log
    assert (again.id, again.started, again.finished) == (invocation.id, invocation.started, invocation.finished)


def _golden() -> tuple[Invocation, str]:
    return _played(*_scenario("failing-v2-build"))


def test_the_scenario_holds_no_line_of_the_log() -> None:
    """A scenario holds only inputs. Another answer leads to another log."""
    invocation, log = _golden()
    document = json.loads(to_scenario(invocation, log).scenario)
    text = json.dumps(document)
    for line in log.splitlines():
        assert line[15:40] not in text or not line.startswith("[")
    document["deliveries"][-1]["answers"][0]["reply"]["status"] = "SUCCESS"
    (again, other) = _played(document, to_scenario(invocation, log).config)
    assert other != log
    assert again.status == "SUCCEEDED"


def test_the_config_has_the_job_as_it_was() -> None:
    """The config has the job's task, its realm and, where it matters, its policy. Texts are quoted."""
    invocation, log = _golden()
    fields = {**invocation.task.fields, "properties": ['a:"b"\\n']}
    odd = replace(invocation, task=TaskDefinition("buildbucket", fields))
    config = to_scenario(odd, log, Facts(TriggeringPolicy(kind="LOGARITHMIC_BATCHING", log_base=2.0))).config
    assert 'realm: "ci"' in config
    assert "kind: LOGARITHMIC_BATCHING" in config
    assert r'properties: "a:\"b\"\\n"' in config
    document, _ = _scenario("failing-v2-build")
    read_scenario(document, config)


def _trigger(**changes: Any) -> tuple[Trigger, ...]:
    (trigger,) = _golden()[0].incoming_triggers
    return (replace(trigger, **changes),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: replace(i, task=TaskDefinition("noop")), "Buildbucket jobs only, and this is a noop job"),
        (lambda i: replace(i, incoming_triggers=()), "this one's triggers are: none"),
        (lambda i: replace(i, incoming_triggers=_trigger() * 2), "triggers are: gitiles, gitiles"),
        (lambda i: replace(i, incoming_triggers=_trigger(kind="cron")), "triggers are: cron"),
        (
            lambda i: replace(
                i, incoming_triggers=_trigger(payload={"repo": "r", "ref": "r", "revision": "r", "tags": []})
            ),
            "its trigger has tags",
        ),
    ],
)
def test_records_that_are_not_exported(change: Callable[[Invocation], Invocation], words: str) -> None:
    """A scenario cannot describe these records."""
    invocation, log = _golden()
    with pytest.raises(NotReplayableError, match=words):
        to_scenario(change(invocation), log)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[14:05:24.127]", "--- the log has been cut here ---\n[14:05:24.127]", "middle was cut out"),
        ("New invocation is queued", "Something", "does not begin"),
        ("Build status: SCHEDULED", "Invocation was manually aborted by user:a@b.c", "a person aborted it"),
        (
            "Build status: SCHEDULED",
            "The build service has answered: no unwatched build of this invocation is left running",
            "canceled after its end",
        ),
        ("Preparing PubSub topic", "PubSub", ""),
        ("PubSub topic is", "Topic is", "never requested a build"),
        ('"id": "8664000000000000001",', '"id": ', "not JSON"),
        ("after 1m30s", "after 1.5s", "not a whole number of seconds"),
    ],
)
def test_logs_that_are_not_exported(old: str, new: str, words: str) -> None:
    """A scenario cannot describe these logs. A missing line about the preparation of the topic does no harm."""
    invocation, log = _golden()
    changed = log.replace(old, new, 1)
    assert changed != log
    if words:
        with pytest.raises(NotReplayableError, match=words):
            to_scenario(invocation, changed)
    else:
        assert to_scenario(invocation, changed).scenario == to_scenario(invocation, log).scenario


def test_a_throttled_launch_cannot_be_exported() -> None:
    """Its pause was random, and the log does not contain it."""
    document, config = _scenario("failing-v2-build")
    _first_answers({"error": "UNAVAILABLE"})(document)
    invocation, log = _played(document, config)
    with pytest.raises(NotReplayableError, match="quota"):
        to_scenario(invocation, log.replace("UNAVAILABLE", "RESOURCE_EXHAUSTED"))


@pytest.mark.parametrize("lines", [1, 2])
def test_an_invocation_that_is_still_being_launched_is_not_exported(lines: int) -> None:
    """Its log has one line or two."""
    invocation, log = _golden()
    with pytest.raises(NotReplayableError, match=r"not started yet|requested a build"):
        to_scenario(invocation, "".join(log.splitlines(keepends=True)[:lines]))


def test_the_api_reads_three_documents_and_hides_what_is_not_visible() -> None:
    """The method costs three reads, and a caller without access to the job gets 404."""
    world = world_for()
    world.commit()
    client = Client(world)
    ref = {"jobRef": {"project": "proj", "job": "job"}, "invocationId": str(world.invocations(JOB)[0].id)}
    world.store.counts.clear()
    client.call("ExportInvocation", ref, service="scheduler.Operator")
    assert world.counted() == "3R/0W/0c"
    assert client.post("ExportInvocation", ref, STRANGER, "scheduler.Operator").status_code == 404
    reply = client.call("GetDefinitions", {"project": "proj"}, service="scheduler.Operator")
    assert [item["jobRef"]["job"] for item in reply["definitions"]] == ["job", "poller"]
    assert client.call("GetDefinitions", {"project": "proj"}, STRANGER, "scheduler.Operator") == {}
