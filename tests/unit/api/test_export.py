"""The export of invocations as scenarios: round trips of invocations with failures, and refusals."""

import ast
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
from luci_scheduler.core import log_lines
from luci_scheduler.core.instants import format_rfc3339, parse_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition, TriggeringPolicy
from luci_scheduler.core.trigger import PayloadKind, Trigger
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


EXCLUDED: dict[str, tuple[str, Callable[[Invocation, str], tuple[Invocation, str]]]] = {
    "a log whose middle was cut": (
        "middle was cut out",
        lambda i, log: (i, log.replace("[14:05:24.127]", "--- the log has been cut here ---\n[14:05:24.127]", 1)),
    ),
    "a log without its first line": (
        "does not begin",
        lambda i, log: (i, log.replace("New invocation is queued", "Something", 1)),
    ),
    "an answer of Buildbucket, or of a fetched server, that the log does not show as it was": (
        "not JSON",
        lambda i, log: (i, log.replace('"id": "8664000000000000001",', '"id": ', 1)),
    ),
    "a setting of the time between status checks that changed while the invocation ran": (
        "was changed while it ran",
        lambda i, log: (i, log.replace("after 1m30s", "after 30s", 1)),
    ),
    "an invocation without triggers": ("it has no trigger", lambda i, log: (replace(i, incoming_triggers=()), log)),
    "a task of a kind that this version does not know": (
        "has no jobs of the kind dance",
        lambda i, log: (replace(i, task=TaskDefinition("dance")), log),
    ),
    "a task of Cloud Build": (
        "an export has no jobs of the kind cloud_build",
        lambda i, log: (replace(i, task=TaskDefinition("cloud_build", {"trigger": "t"})), log),
    ),
    "a build that was canceled after another launch attempt had overtaken its own": (
        "overtook another",
        lambda i, log: (i, f"{log}[23:00:00.000] {log_lines.CLEANUP_DONE.format()}\n"),
    ),
    "a poll that took a part of a long range, or whose patterns cost too much or are not valid": (
        "took a part of a range",
        lambda i, _: _poll(i, "Ref refs/heads/a: 7 newer commits are left to the next polls"),
    ),
    "a poll between whose attempts the refs changed, or whose other refs have no name that its patterns cover": (
        "does not name the refs",
        lambda i, _: _poll(i, "x", known=9),
    ),
    "a poll that failed because of the scheduler's own store": (
        "no progress of its poll",
        lambda i, _: _poll(i, "Error fetching state of the world: the store is down", fetched=False),
    ),
    "a secret that cannot be left out": (
        "a secret that cannot be left out",
        lambda i, log: (replace(i, incoming_triggers=(_with_secret(i),)), log),
    ),
}
"""The exclusions of docs/reference/command.md: words of the reason, and a record or a log that leads to it."""


def _poll(invocation: Invocation, line: str, *, known: int = 1, fetched: bool = True) -> tuple[Invocation, str]:
    """Return a poll of a branch, with a line of its log."""
    fields = {"repo": "https://r.googlesource.com/r", "refs": ["refs/heads/a"]}
    world = f"Fetched refs: {known} from datastore, {known} from gitiles\n[14:05:24.107] "
    changed = f"Ref refs/heads/a updated: {'1' * 40} => {'2' * 40}\n[14:05:24.107] "
    lines = ["Starting the invocation (attempt 1)", f"{world}{changed}{line}" if fetched else line]
    if not fetched:
        lines.append("The invocation will be retried")
    log = "".join(f"[14:05:24.107] {text}\n" for text in ("New invocation is queued and will start shortly", *lines))
    return replace(invocation, task=TaskDefinition("gitiles", fields), finished=None), log


def _with_secret(invocation: Invocation) -> Trigger:
    (trigger,) = invocation.incoming_triggers
    return replace(trigger, kind=PayloadKind.BUILDBUCKET, payload={"properties": {"access_token": 12345}})


@pytest.mark.parametrize("documented", EXCLUDED)
def test_exclusions_are_documented(documented: str) -> None:
    """Each exclusion is in the reference, and has its reason."""
    words, change = EXCLUDED[documented]
    assert f"\n- {documented}\n" in Path("docs/reference/command.md").read_text(encoding="utf-8")
    invocation, log = change(*_golden())
    with pytest.raises(NotReplayableError, match=words):
        to_scenario(invocation, log)


REASONS = {
    "middle was cut out", "does not begin", "is not JSON", "is not a JSON object", "whole answer", "not a whole number",
    "was changed while it ran", "has no trigger", "has no jobs of the kind", "overtook another", "does not show",
    "took a part of a range", "cost too much", "is not valid", "does not name", "changed between two attempts",
    "its log does not say why", "no progress of its poll", "cannot be left out", "of its kind has no",
}  # fmt: skip
"""Words of every reason in the code: each belongs to an exclusion of the reference."""


def test_no_other_exclusion_exists() -> None:
    """A new reason needs a line in the reference."""
    sources = sorted(Path("functions/luci_scheduler/api").glob("export*.py"))
    raised = [
        ast.unparse(node.exc.args[0])
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func) == "NotReplayableError"
    ]
    assert len(raised) >= len(EXCLUDED)
    assert [text for text in raised if not any(words in text for words in REASONS)] == []


def test_a_missing_line_about_the_topic_does_no_harm() -> None:
    """The scenario is the same without the line about its preparation."""
    invocation, log = _golden()
    changed = log.replace("Preparing PubSub topic", "PubSub", 1)
    first, second = (json.loads(to_scenario(invocation, text).scenario) for text in (log, changed))
    assert first["service"] == second["service"]
    assert first["chance"] == second["chance"]


CANARIES = ["ya29.CANARY-oauth-77", "Bearer CANARY-bearer-77", "eyJhbGciOiJub25lIn0.CANARY-jwt-77."]


def test_secrets_in_triggers_are_left_out() -> None:
    """An export has no secret that the log leaves out, and its replay gives the same log."""
    document, config = _scenario("failing-v2-build")
    commit = document["deliveries"][0]
    properties = {"first": CANARIES[0], "header": {"Authorization": CANARIES[1]}, "list": [CANARIES[2], "kept"]}
    trigger = {
        "id": "1",
        "created": commit["at"],
        "kind": "buildbucket",
        "payload": {"properties": properties, "tags": [f"t:{CANARIES[0]}"]},
    }
    name = config.rpartition('id: "')[2].partition('"')[0]
    commit["triggers"] = {"job": name, "list": [trigger]}
    del commit["commit"], commit["published"]
    invocation, log = _played(document, config)
    exported = to_scenario(invocation, log)
    for canary in CANARIES:
        assert canary.rpartition(" ")[2] not in exported.scenario + exported.config + log
    again, log_again = _played(json.loads(exported.scenario), exported.config)
    assert log_again == log
    assert again.status == invocation.status


def test_the_password_in_an_address_is_left_out() -> None:
    """The log of a fetch does not show it either."""
    fields = {"url": "https://me:CANARY-77@example.com/", "timeout_sec": 10}
    invocation, log = _golden()
    task = replace(invocation, task=TaskDefinition("url_fetch", fields), finished=None, status=Status.STARTING)
    first = log.partition("\n")[0]
    exported = to_scenario(task, f"{first}\n")
    assert "CANARY" not in exported.scenario + exported.config


def test_an_invocation_of_an_older_release_is_exported() -> None:
    """Its record lacks the time of the abort, so the scenario states an assumption."""
    document, config = _scenario("failing-v2-build")
    document["deliveries"] = [
        document["deliveries"][0],
        {"abort": {"by": "user:a@b.c"}, "at": "2026-03-17T14:06:00Z", "answers": [{"reply": {}}]},
    ]
    document["drain"] = False
    invocation, log = _played(document, config)
    exported = to_scenario(replace(invocation, abort_requested_at=None), log)
    assert "The record does not say when" in exported.scenario
    assert _played(json.loads(exported.scenario), exported.config)[1] == log


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
