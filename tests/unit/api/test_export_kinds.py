"""Every kind of invocation: it is played in memory, exported through the API and replayed, with the same log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.core.invocation import Status
from luci_scheduler.core.job import TriggeringPolicy
from tests.exports import HOST, REPO, Kept, exported, played, replayed, same

DAY = "2026-03-17"
USER = "user:dev@example.com"
MAIN = "refs/heads/main"
JOB = f'job {{ id: "job" realm: "ci" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}'
WATCHED = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} triggers: "job" }}
{JOB}
"""
Deliveries = list[dict[str, Any]]


def at(time: str) -> str:
    """Return an instant of the day of most kinds; a time with a date stands for itself."""
    return time if "T" in time else f"{DAY}T{time}Z"


def commit(revision: str = "a", time: str = "14:05:24.1061", **more: Any) -> dict[str, Any]:
    return {"commit": {"repo": REPO, "ref": MAIN, "revision": revision * 40}, "at": at(time), **more}


def triggers(*items: dict[str, Any], time: str = "14:05:24.1061", job: str = "job", **more: Any) -> dict[str, Any]:
    return {"triggers": {"job": job, "list": list(items)}, "at": at(time), **more}


def trigger(identifier: str, kind: str = "webui", payload: Any = None, **more: Any) -> dict[str, Any]:
    given = {"payload": payload} if payload else {}
    return {"id": identifier, "created": at("14:00:00.000000007"), "kind": kind, **given, **more}


def gitiles(revision: str, **more: Any) -> dict[str, Any]:
    payload = {"repo": REPO, "ref": MAIN, "revision": revision * 40}
    return trigger(f"{REPO}/+/{MAIN}@{revision * 40}", "gitiles", payload, **more)


TICK = trigger("cron:v1:7", "cron", {"generation": 7})
PERSON = trigger("webui:1", by=USER)


def build(status: str = "SCHEDULED", number: str = "8664", **more: Any) -> dict[str, Any]:
    return {"reply": {"id": number, "status": status, **more}}


def v1_build(status: str = "SCHEDULED", **more: Any) -> dict[str, Any]:
    return {"reply": {"build": {"id": "8664", "status": status, "url": "https://b/8664", **more}}}


def launch(*answers: Any, **more: Any) -> dict[str, Any]:
    return {"task": "launch", "lateness": "3ms", "answers": [{"reply": {}}, *answers], **more}


def check(*answers: Any, **more: Any) -> dict[str, Any]:
    return {"task": "timer", "lateness": "7ms", "answers": list(answers), "takes": {"call": ["120ms"]}, **more}


def notified(answer: Any, time: str = "14:05:30", **more: Any) -> dict[str, Any]:
    more.setdefault("takes", {"call": ["53ms"], "line": ["0s", "2ms"], "end": ["1.000321ms"]})
    return {"notification": {"build": {"id": "8664"}}, "at": at(time), "answers": [answer], **more}


def abort(time: str = "14:06:00.25", *answers: Any, **more: Any) -> dict[str, Any]:
    given = {"answers": list(answers)} if answers else {}
    return {"abort": {"by": USER, "reason": "not\u202e needed"}, "at": at(time), **given, **more}


STARTED = {"takes": {"read": ["0s", "11ms"], "commit": ["17ms", "9ms"], "call": ["300.7ms"], "line": ["0s", "1ms"]}}
OK = {"reply": {}}
LOST = {"lost": True}
BAD_GATEWAY = {"http": 502, "body": "bad gateway"}


class Kind:
    """A kind of invocation: the deliveries that lead to it, and what a reader wants to see in its log."""

    def __init__(
        self,
        *deliveries: dict[str, Any],
        sees: str,
        status: Status = Status.SUCCEEDED,
        config: str = WATCHED,
        says: str = "",
        policy: TriggeringPolicy | None = None,
        configs: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self.deliveries = list(deliveries)
        self.sees = sees
        self.status = status
        self.config = config
        self.says = says
        """A part of an assumption that the export states; empty if it states none."""
        self.policy = policy
        self.configs = configs
        self.changes = changes

    def kept(self) -> Kept:
        """Play the deliveries; return the oldest invocation."""
        protocol = self.changes.get("protocol", "v2")
        publisher = "cr-buildbucket@appspot.gserviceaccount.com"
        server = {"host": HOST, "publisher": publisher, "protocol": protocol, **self.changes.get("server", {})}
        service = {"project": "cloud-project", "hostname": "s.example.com", "buildbucket": [server]}
        document = {
            "service": {**service, **self.changes.get("service", {})},
            "config": {"project": "proj", "file": "x.cfg", "revision": "rev1", "revision_url": "https://r/rev1"},
            "chance": {"suffixes": [46556, 1, 2], "check_delays": [97, 61, 599, 60, 60, 60]},
            "pollers": {job: {"known": refs} for job, refs in self.changes.get("pollers", {}).items() if refs},
            "deliveries": self.deliveries,
            "drain": False,
        }
        return played(document, self.config, self.configs)[0]


def v1(*deliveries: dict[str, Any], **more: Any) -> Kind:
    return Kind(*deliveries, protocol="v1", **more)


def attempts(count: int) -> Iterator[dict[str, Any]]:
    yield commit(answers=[BAD_GATEWAY])
    for number in range(2, count + 1):
        yield launch(BAD_GATEWAY, *([OK] if number == count else []))


BUILDS = {
    "commit": Kind(commit(answers=[build()], **STARTED), notified(build("SUCCESS")), sees="Received PubSub"),
    "commit in v1": v1(
        commit(answers=[v1_build()], **STARTED),
        notified(v1_build("COMPLETED", result="SUCCESS")),
        sees='status "COMPLETED", result "SUCCESS"',
    ),
    "failure": Kind(
        commit(answers=[build()], **STARTED),
        check(build("STARTED")),
        check(build("FAILURE", summaryMarkdown="2 tests\u202e failed \x1b[31m")),
        sees="2 tests",
        status=Status.FAILED,
    ),
    "over at once": Kind(commit(answers=[build("INFRA_FAILURE")]), sees="Task URL", status=Status.FAILED),
    "running": Kind(commit(answers=[build()]), check(build("STARTED")), sees="STARTED", status=Status.RUNNING),
    "batch of commits": Kind(
        triggers(gitiles("a"), gitiles("b", order=1), gitiles("c", order=2), answers=[build()], **STARTED),
        notified(build("SUCCESS")),
        sees="c" * 40,
        says="3 triggers arrive together",
    ),
    "batch of a logarithmic policy": Kind(
        triggers(gitiles("a"), gitiles("b", order=1), answers=[build()]),
        sees="b" * 40,
        status=Status.RUNNING,
        policy=TriggeringPolicy("LOGARITHMIC_BATCHING", log_base=2.0),
        says="policy GREEDY_BATCHING instead of LOGARITHMIC_BATCHING",
    ),
    "batch of many kinds": Kind(
        triggers(
            TICK,
            PERSON,
            gitiles("a"),
            trigger("noop:1", "noop", {"data": "x"}),
            trigger("bare", "none"),
            trigger("api:1", "buildbucket", {"properties": {"k": [1, 2.5, {"ä": None}]}, "tags": ["a:b"]}, order=5),
            answers=[build()],
        ),
        sees="api:1",
        status=Status.RUNNING,
        says="6 triggers",
    ),
    "tick": Kind(triggers(TICK, answers=[build()]), notified(build("CANCELED")), sees="7", status=Status.ABORTED),
    "person": Kind(triggers(PERSON, answers=[build()]), sees=f"Triggered by {USER}", status=Status.RUNNING),
    "emitted trigger": Kind(
        triggers(
            trigger(
                "emit ☃ 1",
                "buildbucket",
                {"properties": {"x\u2028": "<b>&\\n\"'", "big": 2**53 + 1, "token_count": 0.1}, "tags": ["z:1", "a:ü"]},
                title="T\u202e",
                url="https://e.example.com/?a=b&c",
                by="service:other",
            ),
            answers=[build()],
        ),
        sees="token_count",
        status=Status.RUNNING,
    ),
    "backfill": Kind(
        triggers(gitiles("d", by=USER, title="d" * 40, url=f"{REPO}/+/d"), answers=[build()]),
        sees=f"Triggered by {USER}",
        status=Status.RUNNING,
    ),
    "commit of a poll": Kind(
        triggers(gitiles("e", job="proj/poller", invocation="9020353019805130176"), answers=[build()]),
        notified(build("SUCCESS")),
        sees="e" * 40,
    ),
    "trigger without a payload": Kind(
        triggers(trigger("bare", "none"), answers=[build()]), sees="Unrecognized trigger", status=Status.RUNNING
    ),
    "bad repository": Kind(
        triggers(trigger("odd", "gitiles", {"repo": "ftp://x", "ref": MAIN, "revision": "1"})),
        sees="Bad repo URL",
        status=Status.FAILED,
    ),
    "more triggers than a build gets": Kind(
        triggers(*[trigger(f"t{number}", order=number) for number in range(120)], answers=[build()]),
        sees="Capping 120 triggers",
        status=Status.RUNNING,
        says="120 triggers",
    ),
    "two bad gateways": Kind(
        commit(answers=[BAD_GATEWAY], **STARTED),
        launch({"http": 502}, takes={"call": ["0s", "1.2s"]}),
        launch(build()),
        notified(build("SUCCESS"), "14:07:00"),
        sees="INTERNAL: HTTP 502: bad gateway",
    ),
    "quota": Kind(
        commit(answers=[{"error": "RESOURCE_EXHAUSTED", "message": "slow down", "headers": {"Retry-After": "77"}}]),
        launch(build()),
        sees="RESOURCE_EXHAUSTED: slow down",
        status=Status.RUNNING,
    ),
    "quota in v1": v1(
        commit(answers=[{"http": 429, "body": "quota", "headers": {"Retry-After": "9"}}]),
        launch(v1_build()),
        sees="HTTP 429: quota",
        status=Status.RUNNING,
    ),
    "answers of the service": Kind(
        commit(answers=[{"error": "UNAVAILABLE"}]),
        launch({"error": "INTERNAL"}),
        launch({"failure": "UNAVAILABLE: no answer: SSLError"}),
        launch(LOST),
        launch({"silent": True}),
        launch(build()),
        sees="no complete answer in time",
        status=Status.RUNNING,
    ),
    "answer that was lost": Kind(
        commit(answers=[LOST]),
        {"task": "launch", "lateness": "1s", "answers": [{"reply": {"builds": [build()["reply"]]}}]},
        sees="Task URL",
        status=Status.RUNNING,
    ),
    "builds that were doubled": Kind(
        commit(answers=[LOST]),
        {
            "task": "launch",
            "answers": [{"reply": {"builds": [build(number="2")["reply"], build(number="3")["reply"]]}}, OK],
            "takes": {"call": ["80ms", "90ms"]},
        },
        sees="The invocation has builds 3 and 2: canceling 2",
        status=Status.RUNNING,
    ),
    "build of another invocation": Kind(
        commit(answers=[build(number="5", tags=[{"key": "scheduler_invocation_id", "value": "7"}]), OK, build()]),
        sees="with build 5 of another invocation",
        status=Status.RUNNING,
    ),
    "refusal": Kind(
        commit(
            answers=[{"error": "PERMISSION_DENIED", "message": "no \u202e access"}, OK],
            takes={"call": ["200ms", "1.5s"]},
        ),
        sees="PERMISSION_DENIED",
        status=Status.FAILED,
    ),
    "refusal in v1": v1(
        commit(answers=[{"reply": {"error": {"reason": "INVALID_INPUT", "message": "bad"}}}, OK]),
        sees='Buildbucket returned error "INVALID_INPUT": bad',
        status=Status.FAILED,
    ),
    "fifty attempts": Kind(*attempts(50), sees="(attempt 50)", status=Status.FAILED),
    "waiting for another attempt": Kind(
        commit(answers=[BAD_GATEWAY]), launch({"silent": True}), sees="will be retried", status=Status.RETRYING
    ),
    "search that fails": Kind(
        commit(answers=[BAD_GATEWAY]),
        {"task": "launch", "answers": [{"http": 503}]},
        launch(build()),
        sees="Failed to look up the build by its tag",
        status=Status.RUNNING,
    ),
    "function that died before its first attempt": Kind(
        commit(dies="commit[1]"), sees="is queued", status=Status.STARTING, says="The function dies before commit[1]"
    ),
    "function that died in an attempt": Kind(
        commit(dies="call[0]", message="m1"),
        commit(time="14:05:25", message="m1"),
        launch(build()),
        notified(build("SUCCESS"), "14:09:00"),
        sees="(attempt 2)",
        says="Launch attempt 1",
    ),
    "function that dies twice": Kind(
        triggers(TICK, dies="commit[2]", answers=[build()]),
        {"task": "deferred"},
        launch(dies="call[0]", answers=[]),
        {"task": "launch"},
        launch(build()),
        sees="(attempt 3)",
        status=Status.RUNNING,
        says="Launch attempt 2",
    ),
    "server that is not configured": Kind(
        commit(), sees="Failed to prepare PubSub topic", status=Status.FAILED, service={"buildbucket": []}
    ),
    "server without notifications": Kind(
        commit(answers=[build()]),
        check(build("SUCCESS")),
        sees="The server sends no notifications here",
        server={"notifications": False},
    ),
    "topic of its own": Kind(
        commit(answers=[build()]),
        notified(build("SUCCESS")),
        sees="projects/other-project/topics/builds",
        server={"topic": "projects/other-project/topics/builds"},
    ),
    "checks at a fixed interval": Kind(
        commit(answers=[build()]),
        check(build("STARTED")),
        check(build("SUCCESS")),
        sees="after 30s",
        service={"check_interval_seconds": 30},
    ),
    "notifications that repeat, come late and are forged": Kind(
        commit(answers=[build()], takes={"call": ["2s"]}),
        notified(build("STARTED"), "14:05:25", message="n1", during="call[0]", answers=[], status=409, takes={}),
        notified(build("STARTED"), "14:05:26", message="n1"),
        {**notified(OK, "14:05:27", message="n1"), "answers": []},
        {**notified(OK, "14:05:28", token="forged"), "answers": [], "status": 200},
        check(BAD_GATEWAY),
        check(build("SUCCESS")),
        {**notified(OK, "14:09:29"), "answers": []},
        sees="Build status: STARTED",
    ),
    "check that is refused": Kind(
        commit(answers=[build()]),
        check({"error": "NOT_FOUND", "message": "no such build"}),
        sees="Failed to fetch build",
        status=Status.FAILED,
    ),
    "silence of days": Kind(
        commit(answers=[build()]),
        {"task": "timer", "arrival": "2026-03-24T00:00:00.5Z", "answers": [LOST]},
        sees="The build service has not answered for",
        status=Status.FAILED,
    ),
    "midnight": Kind(
        commit(time="23:59:59.999999999", answers=[build()], takes={"read": ["0s", "5ms"]}),
        notified(build("SUCCESS"), "2026-03-19T00:00:00Z"),
        sees="[00:00:00.004]",
    ),
    "config that changed meanwhile": Kind(
        commit(answers=[build()]),
        {"config": {"file": "new.cfg", "revision": "rev2"}, "at": at("14:05:25")},
        notified(build("SUCCESS")),
        sees="Build:",
        configs={"new.cfg": 'job { id: "job" noop {} }'},
    ),
}

ABORTS = {
    "aborted": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", OK, takes={"call": ["88ms"], "line": ["3ms"], "end": ["10µs"]}),
        sees=f"Invocation was manually aborted by {USER}",
        status=Status.ABORTED,
    ),
    "aborted in v1": v1(
        commit(answers=[v1_build()]),
        abort("14:06:00.25", OK),
        sees=f"Invocation is manually aborted by {USER}",
        status=Status.ABORTED,
    ),
    "abort that is refused": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", {"error": "PERMISSION_DENIED", "message": "not yours"}),
        sees="Fatal error when aborting",
        status=Status.ABORTED,
    ),
    "abort that had to wait": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", LOST),
        {"task": "abort", "arrival": at("14:06:07.5"), "answers": [OK], "takes": {"call": ["1s"]}},
        sees="[14:06:07.500] Invocation was",
        status=Status.ABORTED,
    ),
    "abort that gives up": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", LOST),
        {"task": "abort", "arrival": at("14:26:07.5"), "answers": [BAD_GATEWAY]},
        {"task": "cleanup", "arrival": at("15:00:00.123"), "answers": [OK]},
        sees="Build 8664 may be running",
        status=Status.ABORTED,
        says="Only the last try",
    ),
    "abort during a launch": Kind(
        commit(answers=[build(), OK], takes={"commit": ["5ms", "6ms"], "call": ["2s", "150ms"]}),
        abort("14:05:25", during="call[0]"),
        sees="Ignoring timer",
        status=Status.ABORTED,
    ),
    "abort during a launch that fails": Kind(
        commit(answers=[LOST, OK], takes={"call": ["2s", "150ms"]}),
        abort("14:05:25", during="call[0]"),
        sees="Skipping the launch",
        status=Status.ABORTED,
    ),
    "abort before the first attempt": Kind(
        commit(takes={"commit": ["2s", "0s", "9ms"]}),
        abort("14:05:25", during="commit[0]"),
        sees="Skipping the launch",
        status=Status.ABORTED,
    ),
    "abort between attempts": Kind(
        commit(answers=[BAD_GATEWAY]),
        abort("14:05:25"),
        {"task": "abort", "lateness": "20ms", "answers": [OK]},
        {"task": "cleanup", "arrival": at("14:30:00"), "answers": [OK]},
        sees="no unwatched build",
        status=Status.ABORTED,
        says="Only the last try",
    ),
    "abort that is not carried out yet": Kind(
        commit(answers=[build()]), abort("14:06:00.25", BAD_GATEWAY), sees="SCHEDULED", status=Status.RUNNING
    ),
    "cleanup of a build that was found": Kind(
        commit(answers=[LOST]),
        abort("14:05:25"),
        {"task": "abort", "answers": [{"reply": {"builds": [build()["reply"]]}}, LOST]},
        {"task": "cleanup", "answers": [{"reply": {"builds": [build()["reply"]]}}, OK]},
        sees="Build 8664 may be running",
        status=Status.ABORTED,
        says="Only the last try",
    ),
    "cleanup that is refused": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", LOST),
        {"task": "abort", "arrival": at("14:26:07.5"), "answers": [LOST]},
        {"task": "cleanup", "answers": [{"error": "PERMISSION_DENIED", "message": "not yours"}]},
        sees="has refused to cancel",
        status=Status.ABORTED,
        says="Only the last try",
    ),
    "cleanup that gives up": Kind(
        commit(answers=[build()]),
        abort("14:06:00.25", LOST),
        {"task": "abort", "arrival": at("14:26:07.5"), "answers": [LOST]},
        {"task": "cleanup", "arrival": "2026-03-23T00:00:00Z", "answers": [LOST]},
        sees="nothing is looked for any more",
        status=Status.ABORTED,
        says="Only the last try",
    ),
}

NOOP = 'trigger { id: "job" schedule: "triggered" noop { sleep_ms: 1500 triggers_count: 2 } triggers: "other" }\n'
OTHER = 'job { id: "other" noop {} }\n'
FETCH = 'job { id: "job" url_fetch { url: "https://example.com/?a=b" timeout_sec: 10 } }'


def fetched(answer: dict[str, Any], sees: str, status: Status = Status.SUCCEEDED) -> Kind:
    launch_task = {"task": "launch", "lateness": "2ms", "fetch": [answer], "takes": {"fetch": ["1.234567891s"]}}
    return Kind(triggers(TICK), launch_task, config=FETCH, sees=sees, status=status)


TASKS = {
    "sleep with triggers": Kind(
        triggers(TICK), {"task": "launch"}, config=NOOP + OTHER, sees="Dispatching triggers (2 of them)"
    ),
    "sleep that waits for its launch": Kind(
        triggers(TICK), config=NOOP + OTHER, sees="is queued", status=Status.STARTING
    ),
    "sleep that is too long": Kind(
        triggers(TICK),
        {"task": "launch"},
        config='job { id: "job" noop { sleep_ms: 999999999 } }',
        sees="more than one run can do",
        status=Status.FAILED,
    ),
    "sleep that is aborted": Kind(
        triggers(PERSON), abort("14:05:25"), config=NOOP + OTHER, sees="was manually aborted", status=Status.ABORTED
    ),
    "function that dies asleep": Kind(
        triggers(TICK),
        {"task": "launch", "dies": "commit[1]"},
        {"task": "launch"},
        {"task": "launch"},
        config=NOOP + OTHER,
        sees="(attempt 2)",
        says="Launch attempt 1",
    ),
    "fetch": fetched(
        {
            "status": "200 OK",
            "headers": [["content-type", "text/plain"], ["Set-Cookie", "secret"], ["X-A", "1"], ["x-a", "2"]],
            "body": "hello\r\n[12:00:00.000] forged\n\x1b[31m\u202e",
        },
        "Set-Cookie: <redacted>",
    ),
    "fetch of nothing": fetched({"status": "204 No Content"}, "<empty body>"),
    "fetch of bytes": fetched(
        {"status": "200 OK", "headers": [["Content-Type", "image/png"]], "base64": "iVBORw=="}, "<binary response>"
    ),
    "fetch of much": fetched(
        {"status": "200 OK", "headers": [["Content-Type", "text/html"]], "body": "x", "length": 99}, "<truncated>"
    ),
    "fetch that fails": fetched({"status": "503 Busy"}, "503 Busy", Status.FAILED),
    "fetch without an answer": fetched({"error": "the name does not resolve"}, "URL fetch error", Status.FAILED),
    "fetch during which the function dies": Kind(
        triggers(TICK),
        {"task": "launch", "dies": "fetch[0]"},
        {"task": "launch"},
        {"task": "launch", "fetch": [{"status": "200"}]},
        config=FETCH,
        sees="(attempt 2)",
        says="Launch attempt 1",
    ),
}

OLD, NEW = "1" * 40, "2" * 40


def poller(*refs: str, more: str = "") -> str:
    shown = " ".join(f'refs: "{ref}"' for ref in refs or ("regexp:refs/heads/.+",))
    task = f'gitiles {{ repo: "{REPO}" {shown} {more} }}'
    return f'trigger {{ id: "job" schedule: "triggered" {task} triggers: "other" }}\n{OTHER}'


def log(*revisions: str, paths: Sequence[Sequence[str]] = (), **more: Any) -> dict[str, Any]:
    """Return a log, newest first."""
    commits = [{"revision": revision, "committed": at(f"14:0{n}:00")} for n, revision in enumerate(revisions)]
    for item, changed in zip(commits, paths, strict=False):
        item["paths"] = list(changed)  # type: ignore[assignment]
    return {"log": commits, **more}


def polled(*answers: Any, known: dict[str, str], sees: str, status: Status = Status.SUCCEEDED, **more: Any) -> Kind:
    takes = {"gitiles": ["40ms", "250ms", "1s"], "line": ["0s", "1ms"], "end": ["77µs"]}
    config = more.pop("config", poller())
    poll = triggers(TICK, gitiles=list(answers), takes=takes)
    return Kind(poll, config=config, pollers={"job": known}, sees=sees, status=status, **more)


NOT_FOUND = {"error": "NOT_FOUND", "message": "gone"}
UNNAMED = "does not name"
POLLS = {
    "poll": polled(
        {"refs": {MAIN: NEW, "refs/heads/a": OLD, "refs/heads/new": "3" * 40}},
        log(NEW, "4" * 40),
        log("3" * 40),
        known={MAIN: OLD, "refs/heads/a": OLD, "refs/heads/gone": OLD},
        sees="Ref refs/heads/gone deleted",
        says=UNNAMED,
    ),
    "poll without news": polled(
        {"refs": {MAIN: OLD}}, known={MAIN: OLD}, sees="No changes detected", config=poller(MAIN), says=UNNAMED
    ),
    "poll of several folders": polled(
        {"refs": {"refs/branch-heads/1": NEW}},
        {"refs": {MAIN: NEW}},
        log(NEW),
        known={},
        config=poller("regexp:refs/branch-heads/\\\\d+", MAIN),
        sees="is new",
    ),
    "poll that cannot list": polled(
        {"error": "PERMISSION_DENIED", "message": "no access"}, known={}, sees="Error fetching", status=Status.FAILED
    ),
    "poll that misses refs": polled(
        {"refs": {MAIN: OLD}},
        known={MAIN: OLD},
        config=poller(MAIN, "refs/heads/none"),
        sees="unresolved refs",
        status=Status.FAILED,
    ),
    "poll after a force push": polled(
        {"refs": {MAIN: NEW}}, NOT_FOUND, log(NEW), NOT_FOUND, known={MAIN: OLD}, sees="force push detected"
    ),
    "poll that skips commits": polled(
        {"refs": {MAIN: NEW}},
        log(NEW, "3" * 40, next="4" * 40),
        log("4" * 40, "5" * 40, "6" * 40),
        known={MAIN: OLD},
        sees="skipped 3 commits older than the newest 2",
        service={"polling": {"commits_per_ref": 2}},
    ),
    "poll with path filters": polled(
        {"refs": {MAIN: NEW}},
        log(NEW, "3" * 40, paths=[["docs/x.md"], ["src/a.cc"]]),
        known={MAIN: OLD},
        config=poller(MAIN, more='path_regexps: "src/.+[.]cc" path_regexps_exclude: "src/x.+"'),
        sees="because didn't match path filters",
    ),
    "poll of 2021 with path filters": polled(
        {"refs": {MAIN: NEW}},
        log(NEW, paths=[["docs/x.md"]]),
        known={},
        config=poller(MAIN, more='path_regexps: "src/.+"'),
        sees="even though didn't match path filters because new ref",
        service={"polling": {"protocol": "v1"}},
    ),
    "poll of tags": polled(
        {"refs": {"refs/tags/1.0": NEW}},
        known={},
        config=poller("regexp:refs/tags/.+"),
        sees="newly matched but already existed",
    ),
    "poll that stops at its limit": polled(
        {"refs": {"refs/heads/a": NEW, "refs/heads/b": "3" * 40, "refs/heads/c": NEW, "refs/heads/d": OLD}},
        log(NEW),
        log("3" * 40),
        known={"refs/heads/a": OLD, "refs/heads/b": OLD, "refs/heads/c": OLD, "refs/heads/d": OLD},
        sees="Emitted 2 triggers, postponing the rest",
        says=UNNAMED,
        service={"polling": {"commits_per_ref": 1, "commits_per_poll": 2}},
    ),
    "poll of branches with the same commits": polled(
        {"refs": {"refs/heads/a": NEW, "refs/heads/b": NEW}},
        log(NEW),
        known={"refs/heads/a": OLD, "refs/heads/b": OLD},
        sees="refs/heads/b@2222",
    ),
    "poll that is tried again": Kind(
        triggers(
            TICK, gitiles=[{"refs": {MAIN: NEW, "refs/heads/z": OLD}}, {"error": "UNAVAILABLE", "transient": True}]
        ),
        {
            "task": "launch",
            "gitiles": [{"refs": {MAIN: NEW, "refs/heads/z": NEW}}, log(NEW)],
            "takes": {"gitiles": ["1s", "2s", "3s"]},
        },
        config=poller(),
        pollers={"job": {MAIN: OLD, "refs/heads/z": OLD}},
        sees="no progress made due to UNAVAILABLE",
    ),
    "poll whose function dies": Kind(
        triggers(TICK, dies="gitiles[0]", gitiles=[]),
        {"task": "deferred"},
        {"task": "launch", "gitiles": [{"refs": {MAIN: NEW}}, log(NEW)]},
        config=poller(MAIN),
        pollers={"job": {MAIN: OLD}},
        sees="(attempt 2)",
        says="Launch attempt 1",
    ),
}

HOSTILE = (
    "x\x00\x7f\x85\u2028\u202e\U0001f600 \"\\ ' </script> {}[]\n"
    "[12:00:00.000] Invocation finished in 1s with status SUCCEEDED\r\n\ufffe"
)
MANY = [trigger(f"t{n}", "buildbucket", {"properties": {"x": "é" * 300}}, order=n) for n in range(300)]
ODD = {
    "hostile texts in a trigger": Kind(
        triggers(
            trigger(
                HOSTILE,
                "buildbucket",
                {
                    "properties": {HOSTILE: HOSTILE, "": -0.0, "e": 1e300, "i": 2**80, "l": [[[]], None, True]},
                    "tags": [f"a:{HOSTILE}", "b:c:d"],
                },
                title=HOSTILE,
                by=f"user:{HOSTILE}",
            ),
            answers=[build(summaryMarkdown=HOSTILE, input={"properties": {HOSTILE: HOSTILE}})],
        ),
        abort("14:06:00.25", OK, abort={"by": HOSTILE, "reason": HOSTILE}),
        sees="was manually aborted",
        status=Status.ABORTED,
    ),
    "hostile errors": Kind(
        commit(answers=[{"http": 502, "body": HOSTILE}]),
        launch({"http": 503, "body": "<html>", "headers": {"Content-Type": "text/html"}}),
        launch({"error": "NOT_FOUND", "message": HOSTILE}, OK),
        sees="an HTML page",
        status=Status.FAILED,
    ),
    "errors of v1": v1(
        commit(answers=[{"http": 503, "body": '{"error": {"message": "busy"}}'}]),
        launch({"http": 403, "body": '{"error": {"message": "no"}}'}, OK),
        sees="HTTP 403",
        status=Status.FAILED,
    ),
    "answer without a build": Kind(
        commit(answers=[build(number=""), OK]), sees="Scheduled build", status=Status.FAILED
    ),
    "number that is none": Kind(commit(answers=[build(number="12x"), OK]), sees="/build/12x", status=Status.FAILED),
    "huge triggers": Kind(
        triggers(*MANY, answers=[build()]),
        sees="Capping 300 triggers",
        status=Status.RUNNING,
        says="300 triggers",
    ),
    "nanoseconds": Kind(
        commit(
            time="23:59:59.999999999",
            answers=[build()],
            takes={"read": ["0s", "1ns"], "commit": ["999999ns"], "call": ["1ns"], "line": ["1ns"] * 9},
        ),
        notified(build("SUCCESS"), "2026-03-18T00:00:00.000000001Z", takes={"call": ["999.999999ms"], "end": ["1ns"]}),
        sees="[00:00:01.001] Invocation finished in 1.001001008s",
    ),
    "first instant": Kind(
        triggers({"id": "c", "created": "1970-01-01T00:00:00Z"}, time="1970-01-02T00:00:00Z", answers=[build()]),
        sees="[00:00:00.000]",
        status=Status.RUNNING,
    ),
    "old trigger of a policy with a timeout": Kind(
        triggers(trigger("old", created="2020-01-01T00:00:00Z"), answers=[build()]),
        sees="old",
        status=Status.RUNNING,
        policy=TriggeringPolicy("NEWEST_FIRST"),
    ),
    "odd properties of the config": Kind(
        commit(answers=[build()]),
        sees="\\u0001",
        status=Status.RUNNING,
        config=WATCHED.replace('builder: "b"', 'builder: "b" properties: "a:\\"\\n\\001é" tags: "x:y"'),
    ),
}

KINDS = {**BUILDS, **ABORTS, **TASKS, **POLLS, **ODD}


@pytest.mark.parametrize("name", KINDS)
def test_an_export_gives_the_same_log(name: str) -> None:
    """The log is equal byte for byte, and so are status, triggers, attempts and times. Open facts are stated."""
    kind = KINDS[name]
    kept = kind.kept()
    assert kind.sees in kept.log
    assert kept.invocation.status is kind.status
    files = exported(kept, kind.policy)
    assumptions = " ".join(json.loads(files["scenario"]).get("assumptions", []))
    assert (kind.says in assumptions) if kind.says else (assumptions == "")
    assert same(replayed(files), kept)


def test_the_documentation_lists_the_kinds() -> None:
    """In the same order."""
    text = Path("docs/reference/scenarios.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("## Exported kinds\n")
    listed = re.findall(r"^- (.*)$", rest.partition("\n## ")[0], re.MULTILINE)
    assert listed == list(KINDS)
    assert len(listed) >= 80
