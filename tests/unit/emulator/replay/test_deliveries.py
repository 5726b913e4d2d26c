"""Deliveries and answers of scenarios: faults are named with their place, and events happen where the scenario says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.replay.errors import ReplayError, ScenarioError
from emulator.replay.hosts import ScriptedGitiles
from emulator.replay.player import Played, play
from emulator.replay.scenario import read_scenario
from emulator.replay.timed import Stopwatch
from luci_scheduler.core.repo_url import parse_repo_url

HOST = "cr-buildbucket.appspot.com"
CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "https://r.googlesource.com/r" refs: "refs/heads/a" }} }}
job {{ id: "job" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}
job {{ id: "fetch" url_fetch {{ url: "https://example.com" }} }}
"""
AT, LATER = "2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z"
TRIGGER = {"id": "1", "created": AT}
BUILD = {"reply": {"id": "8", "status": "SCHEDULED"}}
START = {"triggers": {"job": "job", "list": [TRIGGER]}, "at": AT, "answers": [BUILD], "takes": {"call": ["5s"]}}
POLL = {"triggers": {"job": "poller", "list": [TRIGGER]}, "at": AT}
FETCH = {"triggers": {"job": "fetch", "list": [TRIGGER]}, "at": AT}
ABORT = {"abort": {"by": "user:a@b.c"}, "at": LATER}


def _play(*deliveries: Any, config: str = CONFIG, **changes: Any) -> Played:
    document = {
        "service": {"project": "cloud-project", "buildbucket": [{"host": HOST, "publisher": "a@example.com"}]},
        "config": {"project": "proj", "file": "x.cfg", "revision": "r1"},
        "chance": {"suffixes": [1, 2], "check_delays": [60, 60, 60]},
        "deliveries": list(deliveries),
        "drain": False,
        **changes,
    }
    return play(read_scenario(document, config, {"new.cfg": 'job { id: "job" noop {} }', "bad.cfg": "job {"}))


def _triggers(**changes: Any) -> dict[str, Any]:
    return {**START, "triggers": {"job": "job", "list": [{**TRIGGER, **changes}]}}


FAULTS: dict[str, tuple[list[Any], str]] = {
    "no-triggers": (
        [{**START, "triggers": {"job": "job", "list": []}}],
        "deliveries[0].triggers.list: must not be empty",
    ),
    "unknown-kind": ([_triggers(kind="dance")], "deliveries[0].triggers.list[0]: trigger '1': 'dance' is not a kind"),
    "bad-payload": ([_triggers(kind="gitiles")], "list[0]: trigger '1': the payload needs the string 'repo'"),
    "bad-invocation": ([_triggers(invocation="x")], "list[0].invocation: must be a decimal number in quotation marks"),
    "huge-invocation": ([_triggers(invocation="9" * 19)], "list[0].invocation: must be a decimal number"),
    "unknown-member": ([_triggers(prio=1)], "deliveries[0].triggers.list[0]: has no member 'prio'"),
    "unknown-job": ([{**START, "triggers": {"job": "none", "list": [TRIGGER]}}], "deliveries[0].answers: 1 of them"),
    "half-an-abort": (
        [START, {**ABORT, "abort": {"by": "u", "job": "job"}}],
        "deliveries[1].abort: must name both job",
    ),
    "no-invocation": ([{**ABORT, "at": AT}], "deliveries[0].abort: 0 invocations are active"),
    "two-times": (
        [START, {"task": "timer", "lateness": "1s", "arrival": AT}],
        "deliveries[1].lateness: a task has either",
    ),
    "bad-operation": (
        [START, {**ABORT, "during": "call"}],
        "deliveries[1].during: must be an operation and its number",
    ),
    "during-nothing": ([{**ABORT, "during": "call[0]"}], "deliveries[0].during: there is no delivery before it"),
    "during-a-config": (
        [START, {"config": {"file": "new.cfg", "revision": "2"}, "at": AT}, {**ABORT, "during": "call[0]"}],
        "deliveries[2].during: there is no delivery before it",
    ),
    "during-what-never-runs": (
        [START, {**ABORT, "during": "call[7]"}],
        "deliveries[1].during: the delivery before it has no operation call[7]",
    ),
    "during-too-late": (
        [START, {**ABORT, "at": "2026-03-01T12:00:09Z", "during": "call[0]"}],
        "deliveries[1].at: 2026-03-01T12:00:09Z is after the end of call[0], 2026-03-01T12:00:05Z",
    ),
    "dies-never": ([{**START, "dies": "call[5]"}], "deliveries[0].dies: the delivery has no operation call[5]"),
    "wrong-status": ([{**START, "status": 409}], "deliveries[0].status: the function answered 200 OK, not 409"),
    "fault-in-parallel": (
        [START, {**ABORT, "during": "call[0]", "answers": [BUILD]}],
        "deliveries[1].answers: 1 of them were not used",
    ),
    "no-config": (
        [START, {"config": {"file": "no.cfg", "revision": "2"}, "at": AT}],
        "deliveries[1].config.file: there is",
    ),
    "bad-config": (
        [START, {"config": {"file": "bad.cfg", "revision": "2"}, "at": AT}],
        "deliveries[1].config.file: the config is not valid",
    ),
    "config-first": (
        [{"config": {"file": "new.cfg", "revision": "2"}, "at": AT}],
        "deliveries: must begin with a commit",
    ),
    "no-listing": (
        [{**POLL, "gitiles": []}],
        "deliveries[0].gitiles: the scenario has no answer to a listing of refs/heads",
    ),
    "log-for-listing": (
        [{**POLL, "gitiles": [{"log": []}]}],
        "gitiles: the answer to a listing of refs/heads is a log",
    ),
    "listing-for-log": (
        [{**POLL, "gitiles": [{"refs": {"refs/heads/a": "a" * 40}}, {"refs": {}}]}],
        f"gitiles: the answer to a log of {'a' * 40} is a listing",
    ),
    "unused-listing": (
        [{**POLL, "gitiles": [{"refs": {}}, {"refs": {}}]}],
        "deliveries[0].gitiles: 1 of them were not used",
    ),
    "bad-hash": (
        [{**POLL, "gitiles": [{"refs": {"refs/heads/a": "A" * 40}}]}],
        "refs.refs/heads/a: must be a hash of 40",
    ),
    "bad-gitiles-code": ([{**POLL, "gitiles": [{"error": "BAD"}]}], "gitiles[0].error: 'BAD' is not a gRPC code"),
    "unused-fetch": ([{**FETCH, "fetch": [{"status": "200"}]}], "deliveries[0].fetch: 1 of them were not used"),
    "no-fetch": (
        [FETCH, {"task": "launch"}],
        "deliveries[1].fetch: the scenario has no answer to a fetch of https://exam",
    ),
    "bad-status": ([{**FETCH, "fetch": [{"status": "OK"}]}], "fetch[0].status: must be a code of three digits"),
    "bad-header": (
        [{**FETCH, "fetch": [{"status": "200", "headers": [["a"]]}]}],
        "headers[0]: must be a list of a name",
    ),
    "bad-base64": ([{**FETCH, "fetch": [{"status": "200", "base64": "?"}]}], "fetch[0].base64: must be base64"),
    "two-bodies": (
        [{**FETCH, "fetch": [{"status": "200", "base64": "AA==", "body": ""}]}],
        "fetch[0].base64: an answer has either a body or base64",
    ),
    "not-silent": ([{**START, "answers": [{"silent": False}]}], "answers[0].silent: must be true"),
    "bad-headers": (
        [{**START, "answers": [{"http": 429, "headers": {"a": 1}}]}],
        "answers[0].headers.a: must be a text",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_place(name: str) -> None:
    """Unknown members, wrong values, events that do not happen, answers that are missing or left."""
    deliveries, says = FAULTS[name]
    with pytest.raises(ReplayError) as raised:
        _play(*deliveries)
    assert says in str(raised.value)
    assert str(raised.value).startswith("deliveries")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pollers": {"job": {"known": {}}}}, "pollers.job: the config has no gitiles job with this name"),
        ({"pollers": {"poller": {}}}, "pollers.poller: lacks 'known'"),
        ({"assumptions": [""]}, "assumptions[0]: must not be empty"),
        ({"service": {"project": "p", "buildbucket": [{"host": "h"}]}}, "service.buildbucket[0]: lacks 'publisher'"),
        (
            {"service": {"project": "p", "buildbucket": [], "polling": {"commits_per_ref": 0}}},
            "must be from 1 to 10000",
        ),
    ],
)
def test_faults_of_the_other_parts(changes: dict[str, Any], says: str) -> None:
    """Pollers, servers and settings of polls are checked as well."""
    with pytest.raises(ScenarioError) as raised:
        _play(START, **changes)
    assert says in str(raised.value)


def test_a_silent_server_ends_the_call_at_its_deadline() -> None:
    """Without a duration it is the client's minute; with one, the call ends then."""
    silent = {**START, "answers": [{"silent": True}]}
    (_, early), (_, late) = (_play({**silent, "takes": takes}).invocations[0] for takes in ({"call": ["7s"]}, {}))
    assert (
        "[12:00:07.000] Failed to schedule Buildbucket build - DEADLINE_EXCEEDED: no complete answer in time" in early
    )
    assert "[12:01:00.000] Failed to schedule Buildbucket build - DEADLINE_EXCEEDED: no complete answer in time" in late


@pytest.mark.parametrize("kind", [{"http": 429}, {"error": "RESOURCE_EXHAUSTED"}])
def test_a_server_may_name_a_pause(kind: dict[str, Any]) -> None:
    """The next attempt is due after the pause of ``Retry-After``, and not earlier."""
    refused = {**START, "answers": [{**kind, "headers": {"Retry-After": "300"}}]}
    (invocation, _) = _play(refused).invocations[0]
    assert invocation.next_due is not None
    assert 300 * 10**9 <= invocation.next_due - invocation.started < 605 * 10**9


def test_the_machines_own_work_takes_time() -> None:
    """Before a line, and before the end."""
    over = {"reply": {"id": "8", "status": "SUCCESS"}}
    takes = {"line": ["1s", "2s"], "end": ["4s"]}
    (_, log) = _play({**START, "answers": [over], "takes": takes}).invocations[0]
    assert "[12:00:01.000] Ignoring gitiles_ref" in log or "[12:00:01.000] Preparing PubSub topic" in log
    assert "Invocation finished in 7s with status SUCCEEDED" in log


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (
            [{"request": "GET /repos/o/r/git/matching-refs/tags", "status": 200, "body": []}],
            "deliveries[0].gitiles: the next answer is not to GET https://api.github.com/repos/o/r/git/matching-refs/heads",
        ),
        ([{"request": "GET /x", "status": 99}], "gitiles[0].status: must be from 200 to 599, not 99"),
        ([{"request": "GET /x"}], "gitiles[0]: lacks 'status'"),
    ],
)
def test_a_rest_answer_belongs_to_its_request(answers: list[Any], says: str) -> None:
    """The real client of GitHub sends the requests."""
    github = re.sub(r'repo: "[^"]+"', 'repo: "https://github.com/o/r"', CONFIG)
    with pytest.raises(ReplayError) as raised:
        _play({**POLL, "gitiles": answers}, config=github)
    assert says in str(raised.value)


def test_a_scenario_resolves_no_expressions() -> None:
    """The fault is reported, because a handler would hide the error."""
    clock, faults = SteppedClock(0), list[ScenarioError]()
    gitiles = ScriptedGitiles(Stopwatch(clock, {}, lambda: None), faults.append, clock)
    with pytest.raises(ScenarioError, match=r"^\.gitiles: a scenario resolves no expressions, such as 'main'"):
        gitiles.resolve(parse_repo_url("https://r.googlesource.com/r"), "main")
    assert len(faults) == 1
