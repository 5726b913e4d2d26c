"""An invocation as a scenario: the inputs that lead to its log, worked out from its record and the log itself.

Nothing is recorded for this. The log tells when each delivery came, what Buildbucket answered and which delays were drawn; the
record holds the exact begin and end, and the suffix of its ID. What leaves no line in the log (a repeated notification, a lost
race) is not in the scenario either, and would change nothing. Time passes in operations only when a scenario is played:
lines between which a machine idled by itself come out with the stamp of the line before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import failed_precondition
from luci_scheduler.api.service import get_invocation_log, get_job
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created, split_job_id
from luci_scheduler.core.instants import DAY, HOUR, MICROSECOND, MILLISECOND, SECOND, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.outcome import CLEANUP_LINES
from luci_scheduler.engine.runtime import Limits

__all__ = ["Exported", "NotReplayableError", "export_invocation", "to_scenario"]

_LINE = re.compile(r"^\[(\d\d):(\d\d):(\d\d)\.(\d{3})\] ", re.MULTILINE)
_TOPIC = re.compile(r'PubSub topic is "projects/([^/"]+)/topics/scheduler\.buildbucket\.([^~"]+)~([^"]+)"')
_ATTEMPT = re.compile(r"Starting the invocation \(attempt (\d+)\)")
_TIMER = re.compile(r"Scheduling timer .* after (?:(\d+)h)?(?:(\d+)m)?(\d+)s")
_FAILED = re.compile(
    r"Failed to (?:schedule Buildbucket build|add buildbucket build|fetch build|fetch buildbucket build) - (.*)",
    re.DOTALL,
)
_V1_STATUS = re.compile(
    r'Build (\d+): status ("[^"]*"), result ("[^"]*"), failure_reason ("[^"]*"), cancelation_reason ("[^"]*")'
)
_BLOCKS = ("Scheduled build:\n", "Buildbucket response:\n", "Build:\n", "Buildbucket build:\n")
_QUEUED = "New invocation is queued and will start shortly"
_NOTIFIED = "Received PubSub notification"
_HANDLING = "Handling timer "
_GIVING_UP = "Too many attempts, giving up"
_THROTTLED = re.compile(r"Failed to .* - (RESOURCE_EXHAUSTED|HTTP 429)\b")
_FINISHED = "Invocation finished in "
_REQUEST = "Buildbucket request:\n"
_CUT = "--- the log has been cut here ---"
_ABORTED = ("manually aborted by", "Skipping the launch")
_FIXED_TEXTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
_V1_INTERVAL = 60
_DRAWN = range(60, 600)
_CONFIG_FILE = "luci-scheduler.cfg"


class NotReplayableError(Exception):
    """The invocation cannot be told as a scenario; the text says why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A scenario and the config that it names, as texts of files."""

    scenario: str
    config: str


@dataclass(frozen=True, slots=True)
class _Entry:
    at: Instant
    """To the millisecond."""
    text: str


def export_invocation(context: Context, job_id: JobId, invocation_id: InvocationId) -> Exported:
    """Return an invocation as a scenario: three reads.

    Raises:
        ApiError: NOT_FOUND; FAILED_PRECONDITION: it cannot be told as a scenario.
    """
    policy = get_job(context, job_id).definition.policy
    invocation, log = get_invocation_log(context, job_id, invocation_id)
    try:
        return to_scenario(invocation, log, policy)
    except NotReplayableError as error:
        raise failed_precondition(f"the invocation cannot be replayed: {error}") from error


def to_scenario(
    invocation: Invocation, log: str, policy: TriggeringPolicy | None = None, limits: Limits | None = None
) -> Exported:
    """Work out the scenario of an invocation.

    Args:
        invocation: its record.
        log: its whole debug log.
        policy: the job's triggering policy; the default one if None.
        limits: those that it ran under, for the pauses between launch attempts; the defaults if None.

    Raises:
        NotReplayableError: it was not started by one commit for a Buildbucket job, was aborted by a person, is still being
            launched, had its build canceled after its end, or its log was cut.
    """
    trigger = _only_commit(invocation)
    if _CUT in log:
        raise NotReplayableError("its log was so long that its middle was cut out")
    entries = _entries(log, invocation.started)
    if not entries or entries[0].text != _QUEUED:
        raise NotReplayableError("its log does not begin with the line about its creation")
    if any(mark in entry.text for mark in _ABORTED for entry in entries):
        raise NotReplayableError("a person aborted it, which is no part of a scenario")
    if any(entry.text.startswith(CLEANUP_LINES) for entry in entries):
        raise NotReplayableError("its build was canceled after its end, which is no part of a scenario")
    service, is_v1 = _service(invocation, entries)
    teller = _Teller(invocation, is_v1=is_v1, limits=limits or Limits())
    deliveries = teller.deliveries(_segments(entries), trigger)
    document = {
        "service": service | teller.interval(),
        "config": {
            "project": split_job_id(invocation.job_id)[0],
            "file": _CONFIG_FILE,
            "revision": invocation.revision or "unknown",
            **({"revision_url": invocation.revision_url} if invocation.revision_url else {}),
        },
        "chance": {"suffixes": [invocation_created(invocation.id)[1]], **teller.check_delays()},
        "deliveries": deliveries,
        "drain": False,
    }
    config = _config(invocation, trigger, policy or TriggeringPolicy())
    # Text of servers is read again from the log's JSON: control characters become JSON escapes once more.
    scenario = escaped(json.dumps(document, indent=1, ensure_ascii=False), lines=True)
    return Exported(f"{scenario}\n", config)


def _only_commit(invocation: Invocation) -> Trigger:
    if invocation.task.kind != "buildbucket":
        raise NotReplayableError(f"a scenario has Buildbucket jobs only, and this is {invocation.task.kind}")
    triggers = invocation.incoming_triggers
    if len(triggers) != 1 or triggers[0].kind != "gitiles":
        kinds = ", ".join(trigger.kind for trigger in triggers) or "none"
        raise NotReplayableError(f"a scenario has one commit for an invocation, and this one's triggers are: {kinds}")
    if extra := triggers[0].payload.keys() - {"repo", "ref", "revision"}:
        raise NotReplayableError(f"its trigger brought {', '.join(sorted(extra))}, which an event of a commit does not")
    return triggers[0]


def _entries(log: str, started: Instant) -> list[_Entry]:
    """Return the log's stamped texts; stamps have no date: one that goes back by half a day belongs to the next."""
    found = list(_LINE.finditer(log))
    midnight = started - started % DAY
    entries: list[_Entry] = []
    for number, match in enumerate(found):
        hours, minutes, seconds, milliseconds = map(int, match.groups())
        at = midnight + (hours * 3600 + minutes * 60 + seconds) * SECOND + milliseconds * MILLISECOND
        # By hours, not milliseconds: the lines of one log are of several machines, whose clocks differ a little.
        while at + 12 * HOUR < (entries[-1].at if entries else started):
            midnight, at = midnight + DAY, at + DAY
        end = found[number + 1].start() if number + 1 < len(found) else len(log)
        entries.append(_Entry(Instant(at), log[match.end() : end].rstrip("\n")))
    return entries


def _segments(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    """Return the entries of each delivery."""
    segments: list[list[_Entry]] = []
    for entry in entries:
        attempt = _ATTEMPT.match(entry.text)
        begins = entry.text.startswith((_NOTIFIED, _HANDLING, _GIVING_UP, _QUEUED))
        if begins or (attempt and attempt[1] != "1"):
            segments.append([])
        segments[-1].append(entry)
    return segments


def _service(invocation: Invocation, entries: Sequence[_Entry]) -> tuple[dict[str, Any], bool]:
    topic = next((match for entry in entries if (match := _TOPIC.match(entry.text))), None)
    request = next((_json(entry.text[len(_REQUEST) :]) for entry in entries if entry.text.startswith(_REQUEST)), None)
    if topic is None or request is None:
        raise NotReplayableError("it never asked for a build")
    is_v1 = "client_operation_id" in request
    tags = [
        tuple(tag.split(":", 1)) if isinstance(tag, str) else (tag.get("key"), tag.get("value"))
        for tag in request.get("tags", [])
    ]
    properties = json.loads(request["parameters_json"])["properties"] if is_v1 else request.get("properties", {})
    server = {
        "host": invocation.task.fields.get("server", ""),
        "publisher": f"{topic[2]}@{topic[3]}",
        "protocol": "v1" if is_v1 else "v2",
    }
    hostname = properties.get("$recipe_engine/scheduler", {}).get("hostname", "")
    app_id = dict(item for item in tags if len(item) == 2).get("user_agent", "")  # noqa: PLR2004 - key and value
    return {
        "project": topic[1],
        **({"app_id": app_id} if app_id else {}),
        **({"hostname": hostname} if hostname else {}),
        "buildbucket": [server],
    }, is_v1


class _Teller:
    """Turns the entries of deliveries into deliveries, on a clock that stands where a replay's would."""

    def __init__(self, invocation: Invocation, *, is_v1: bool, limits: Limits) -> None:
        self._invocation = invocation
        self._is_v1 = is_v1
        self._limits = limits
        self._now = invocation.started
        self._due: int | None = None
        """When the next task is due, as the queue keeps it."""
        self._delays: list[int] = []
        self._attempt = 1

    def deliveries(self, segments: Sequence[Sequence[_Entry]], trigger: Trigger) -> list[dict[str, Any]]:
        """Return all deliveries."""
        return [self._first(segments[0], trigger), *[self._later(segment) for segment in segments[1:]]]

    def interval(self) -> dict[str, int]:
        """Return the seconds between checks, where neither chance nor the protocol gives them."""
        if not self._delays or (not self._is_v1 and all(delay in _DRAWN for delay in self._delays)):
            return {}
        if len(set(self._delays)) > 1:
            raise NotReplayableError("the time between its status checks was changed while it ran")
        return {} if self._is_v1 and self._delays[0] == _V1_INTERVAL else {"check_interval_seconds": self._delays[0]}

    def check_delays(self) -> dict[str, list[int]]:
        """Return the drawn seconds until checks."""
        drawn = not self._is_v1 and self._delays and not self.interval()
        return {"check_delays": self._delays} if drawn else {}

    def _first(self, entries: Sequence[_Entry], trigger: Trigger) -> dict[str, Any]:
        started = next((item for item in entries if _ATTEMPT.match(item.text)), None)
        if started is None:
            raise NotReplayableError("it was not started yet")
        reads = ["0s", self._pass_until(entries[0].at)]
        commits = [self._pass_until(started.at)]
        takes, answers = self._launch(entries[entries.index(started) :])
        takes["read"] = reads
        takes["commit"] = [*commits, *takes["commit"]]
        names = ("repo", "ref", "revision")
        return {
            "commit": {name: str(trigger.payload[name]) for name in names},
            "at": format_rfc3339(self._invocation.started),
            "published": format_rfc3339(trigger.created),
            "takes": takes,
            "answers": answers,
        }

    def _later(self, entries: Sequence[_Entry]) -> dict[str, Any]:
        begin = entries[0]
        if begin.text.startswith(_NOTIFIED):
            self._now = Instant(max(self._now, begin.at))
            at = self._now
            takes, answers = self._asked(entries)
            build = {"id": str(self._invocation.task_data.get("build_id", ""))}
            return {"notification": {"build": build}, "at": format_rfc3339(at), "takes": takes, "answers": answers}
        lateness = self._task_comes(begin.at)
        if begin.text.startswith(_HANDLING):
            takes, answers = self._asked(entries)
            return {"task": "timer", "lateness": lateness, "takes": takes, "answers": answers}
        self._attempt += 1
        if begin.text == _GIVING_UP:
            return {"task": "launch", "lateness": lateness, "answers": [{"reply": {}}]}
        takes, answers = self._launch(entries)
        # A later attempt looks for the build of an earlier one; whether it finds it, the log does not tell and does not change.
        takes["call"], answers = ["0s", *takes["call"]], [{"reply": {}}, *answers]
        return {"task": "launch", "lateness": lateness, "takes": takes, "answers": answers}

    def _task_comes(self, at: Instant) -> str:
        if self._due is None:
            raise NotReplayableError("a task came that its log does not tell the beginning of")
        # The queue keeps microseconds; one more than the stamp stays in the stamp's millisecond whatever was cut off.
        self._now = Instant(max(self._now, at + MICROSECOND))
        lateness = format_duration(self._now - self._due)
        self._due = None
        return lateness

    def _launch(self, entries: Sequence[_Entry]) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
        """Return durations and answers of an attempt; its first entry says that it starts, and its claim was just committed."""
        if len(entries) < 2:  # noqa: PLR2004 - the first line, and what comes of it
            raise NotReplayableError("it is still being launched")
        claim = self._pass_until(entries[1].at)
        takes, answers = self._asked(entries)
        if any(entry.text.startswith(_FINISHED) for entry in entries) and not _has_build(entries):
            # Before it fails, a launch looks for a build that it may have made after all; the log has only the time that it took.
            takes["call"].append(self._pass_until(self._invocation.finished or self._now))
            answers.append({"reply": {}})
        if any(entry.text == "The invocation will be retried" for entry in entries):
            if any(_THROTTLED.match(entry.text) for entry in entries):
                raise NotReplayableError(
                    "a launch was refused for a quota: the pause before the next one was drawn by chance"
                )
            shift = min(self._attempt - 1, 20)
            pause = min(self._limits.retry_backoff_min << shift, self._limits.retry_backoff_max)
            self._due = _kept(self._now + pause)
        return {"commit": [claim], **takes}, answers

    def _asked(self, entries: Sequence[_Entry]) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
        """Return durations and answers of a delivery that asks Buildbucket once, and may then set a timer."""
        answered = next((entry for entry in entries if _is_answer(entry.text)), None)
        if answered is None:
            raise NotReplayableError(f"its log does not tell what Buildbucket answered after {entries[0].text!r}")
        finished, end = self._invocation.finished, answered.at
        is_last = any(entry.text.startswith(_FINISHED) for entry in entries)
        if is_last and finished is not None and finished - finished % MILLISECOND == end:
            end = finished
        call = self._pass_until(end)
        takes = {"call": [call]}
        timer = next((entry for entry in entries if entry.text.startswith("Scheduling timer ")), None)
        if timer is not None:
            delay = _seconds(timer.text)
            self._delays.append(delay)
            self._due = _kept(self._now + delay * SECOND)
            takes["enqueue"] = [self._pass_until(timer.at)]
        return takes, [
            _answer(entries, answered, is_v1=self._is_v1, build_id=self._invocation.task_data.get("build_id"))
        ]

    def _pass_until(self, instant: Instant) -> str:
        """Let the clock come to an instant, and return how long that takes."""
        passed = max(0, instant - self._now)
        self._now = Instant(self._now + passed)
        return format_duration(passed)


def _kept(instant: int) -> int:
    return instant - instant % MICROSECOND


def _seconds(line: str) -> int:
    match = _TIMER.match(line)
    if match is None:
        raise NotReplayableError(f"the time of a status check is no whole number of seconds: {line!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _has_build(entries: Sequence[_Entry]) -> bool:
    return any(entry.text.startswith("Task URL: ") for entry in entries)


def _is_answer(text: str) -> bool:
    return text.startswith(
        (*_BLOCKS, "Build status: ", "Unexpected Build status ", "Buildbucket returned error ")
    ) or bool(_FAILED.match(text) or _V1_STATUS.match(text))


def _answer(entries: Sequence[_Entry], answered: _Entry, *, is_v1: bool, build_id: Any) -> dict[str, Any]:
    for entry in entries:
        if block := next((block for block in _BLOCKS if entry.text.startswith(block)), ""):
            return {"reply": _json(entry.text[len(block) :])}
    if failed := _FAILED.match(answered.text):
        return _failure(failed[1], is_v1=is_v1)
    if match := _V1_STATUS.match(answered.text):
        names = ("status", "result", "failure_reason", "cancelation_reason")
        told = {name: json.loads(text) for name, text in zip(names, match.groups()[1:], strict=True)}
        return {"reply": {"build": {"id": match[1], **{name: text for name, text in told.items() if text}}}}
    return {"reply": {"id": str(build_id), "status": answered.text.removeprefix("Build status: ")}}


def _failure(text: str, *, is_v1: bool) -> dict[str, Any]:
    code, _, message = text.partition(": ")
    if message.startswith("no answer: "):
        return {"lost": True}
    text = code if is_v1 else message
    if text.startswith("HTTP "):
        status, _, body = text.removeprefix("HTTP ").partition(": ")
        body = message if is_v1 else body
        return {"http": int(status), **({"body": body} if body else {})}
    return {"error": code, **({} if code in _FIXED_TEXTS else {"message": message})}


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise NotReplayableError(f"what its log shows of a request or an answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotReplayableError("what its log shows of a request or an answer is no JSON object")
    return document


def _config(invocation: Invocation, trigger: Trigger, policy: TriggeringPolicy) -> str:
    """Return a config with the job as it was for this invocation, and a poller that brings the commit to it."""
    name = split_job_id(invocation.job_id)[1]
    realm = "" if invocation.realm == "@legacy" else f"  realm: {_quoted(invocation.realm)}\n"
    lines = [
        f"# {invocation.job_id} as it was defined for invocation {invocation.id}.",
        "trigger {",
        f"  id: {_quoted(_poller_name(name))}",
        "  gitiles {",
        f"    repo: {_quoted(trigger.payload['repo'])}",
        f"    refs: {_quoted('regexp:' + re.escape(trigger.payload['ref']))}",
        "  }",
        f"  triggers: {_quoted(name)}",
        "}",
        "job {",
        f"  id: {_quoted(name)}",
        *_task(invocation.task.fields),
        *_policy(policy),
        "}",
    ]
    return "".join(f"{line}\n{realm if line.startswith('  id: ') else ''}" for line in lines)


def _poller_name(job: str) -> str:
    return "exported-commits" if job != "exported-commits" else "exported-commits-2"


def _task(fields: Mapping[str, Any]) -> list[str]:
    values = [
        (name, item)
        for name, value in fields.items()
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    return ["  buildbucket {", *[f"    {name}: {_quoted(item)}" for name, item in values], "  }"]


def _policy(policy: TriggeringPolicy) -> list[str]:
    if policy == replace(TriggeringPolicy(), max_concurrent_invocations=policy.max_concurrent_invocations):
        return []  # one invocation only: how many may run at once does not matter
    values = [f"    kind: {policy.kind}", f"    max_batch_size: {policy.max_batch_size}"]
    if policy.log_base:
        values.append(f"    log_base: {policy.log_base}")
    return ["  triggering_policy {", *values, "  }"]


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)
