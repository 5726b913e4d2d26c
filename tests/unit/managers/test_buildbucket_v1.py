"""Buildbucket v1: the log of an answer, and its meaning, match the page of February 2021."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
from luci_scheduler.managers.buildbucket.v1 import V1Client
from luci_scheduler.ports import BuildbucketError

TESTS = Path(__file__).parents[2]
PAGE = (TESTS / "golden" / "tint-mac-rel" / "log.txt").read_text(encoding="utf-8")


def sample(name: str) -> dict[str, Any]:
    """Return a recorded answer."""
    document: dict[str, Any] = json.loads((TESTS / "samples" / f"{name}.json").read_text(encoding="utf-8"))
    return document


def of_page(header: str) -> str:
    """Return the log entry of the real page that starts with ``header``, without its time stamp."""
    found = re.search(rf"^\[[0-9:.]{{12}}\] ({re.escape(header)}\n.*?)\n\[", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, header
    return found[1]


class Wire:
    """A Buildbucket server that always gives the same answer and records the requests."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = dict(answer)
        self.questions: list[tuple[Any, ...]] = []
        self.until: Instant | None = None

    def v1(self, *question: Any, until: Instant | None = None, **named: Any) -> dict[str, Any]:
        """Record the request and answer it."""
        self.until = until
        self.questions.append((*question, *named.values()))
        return self._answer

    def v2(self, *question: Any) -> dict[str, Any]:
        """Fail: the server speaks only v1."""
        raise AssertionError(f"a v1 server was asked {question}")


def build_request(**changed: Any) -> BuildRequest:
    """Return the build request of the real page's invocation."""
    fields = {
        "task": {"server": "cr-buildbucket.appspot.com", "bucket": "luci.tint.ci", "builder": "mac-rel"},
        "job_id": JobId("tint/mac-rel"),
        "invocation_id": InvocationId(9020353019805130176),
        "realm": "tint:@legacy",
        "app_id": "luci-scheduler",
        "hostname": "luci-scheduler.appspot.com",
        "topic": "topic",
        "token": "the-token",
    }
    return BuildRequest(**{**fields, **changed})


def launched(answer: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the build that a launch reads from an answer, and the log lines."""
    lines: list[str] = []
    return V1Client(Wire({})).launched(build_request(), answer, lines.append), lines


def checked(answer: Mapping[str, Any]) -> tuple[Status | None, list[str]]:
    """Return the status that a check reads from an answer, and the log lines."""
    lines: list[str] = []
    return V1Client(Wire({})).checked(answer, lines.append), lines


@pytest.mark.parametrize("name", ["v1-put-response-as-on-wire", "v1-put-response"])
def test_the_answer_to_a_put_is_logged_as_on_the_real_page(name: str) -> None:
    """The log omits false and unknown fields and sorts fields by name; it matches to the byte."""
    answer = sample(name)
    answer["build"] = {"etag": "x", **dict(reversed(answer["build"].items()))}
    build, lines = launched({"kind": "buildbucket#build", **answer})
    assert lines == [of_page("Buildbucket response:"), "Task URL: https://ci.chromium.org/b/8854922957825743408"]
    assert (build.id, build.url, build.status) == ("8854922957825743408", lines[1].split(": ")[1], None)


def test_the_end_of_a_build_is_logged_as_on_the_real_page() -> None:
    """A check of a finished build logs the build's line and the whole answer."""
    status, lines = checked(sample("v1-get-completed-success"))
    assert status is Status.SUCCEEDED
    assert lines == [
        'Build 8854922957825743408: status "COMPLETED", result "SUCCESS", failure_reason "", cancelation_reason ""',
        of_page("Buildbucket build:"),
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("failure", 'result "FAILURE", failure_reason "BUILD_FAILURE", cancelation_reason ""'),
        ("infra-failure", 'result "FAILURE", failure_reason "INFRA_FAILURE", cancelation_reason ""'),
        ("timeout", 'result "CANCELED", failure_reason "", cancelation_reason "TIMEOUT"'),
        ("canceled", 'result "CANCELED", failure_reason "", cancelation_reason "CANCELED_EXPLICITLY"'),
    ],
)
def test_any_other_end_is_a_failure(name: str, line: str) -> None:
    """In 2021, a canceled build failed its invocation."""
    answer = sample(f"v1-get-completed-{name}")
    status, lines = checked(answer)
    assert status is Status.FAILED
    assert lines[0] == f'Build {answer["build"]["id"]}: status "COMPLETED", {line}'
    assert lines[1].startswith('Buildbucket build:\n{\n  "build": {\n    "bucket": "luci.tint.ci",\n')


@pytest.mark.parametrize("name", ["SCHEDULED", "STARTED"])
def test_an_active_build_logs_one_line(name: str) -> None:
    """The log does not show its answer."""
    status, lines = checked({"build": {"id": "1", "status": name}})
    assert status is None
    assert lines == [f'Build 1: status "{name}", result "", failure_reason "", cancelation_reason ""']


@pytest.mark.parametrize("unknown", ["PAUSED", "", 7, None])
def test_an_unknown_status_is_a_failure(unknown: object) -> None:
    """The original knows three statuses. Any other value of any type ends the invocation."""
    status, lines = checked({"build": {"id": "1", "status": unknown}})
    assert status is Status.FAILED
    assert len(lines) == 2


def test_a_build_that_ended_during_its_launch_is_processed_at_once() -> None:
    """A repeated request may return a finished build. Its line follows the URL, and the answer is not logged again."""
    build, lines = launched(sample("v1-get-completed-failure"))
    assert build.status is Status.FAILED
    assert [line.partition(":")[0].split()[0] for line in lines] == ["Buildbucket", "Task", "Build"]


ERROR = {"error": {"reason": "INVALID_INPUT", "message": 'bad "bucket"'}}


def test_an_error_answer_to_a_put_is_fatal_and_logged_before_its_line() -> None:
    """The answer comes first, then the reason and the message."""
    lines: list[str] = []
    with pytest.raises(PermanentError, match=r'^buildbucket error "INVALID_INPUT" - bad "bucket"$'):
        V1Client(Wire({})).launched(build_request(), ERROR, lines.append)
    printed = '{\n  "error": {\n    "message": "bad \\"bucket\\"",\n    "reason": "INVALID_INPUT"\n  }\n}'
    problem = 'Buildbucket returned error "INVALID_INPUT": bad "bucket"'
    assert lines == [f"Buildbucket response:\n{printed}", problem]


def test_an_error_answer_to_a_check_is_fatal_and_logged_after_its_line() -> None:
    """A check logs an answer only if it has a problem, after the line about the problem."""
    lines: list[str] = []
    with pytest.raises(PermanentError, match="buildbucket error"):
        V1Client(Wire({})).checked(ERROR, lines.append)
    assert [line.partition(":")[0] for line in lines] == [
        'Buildbucket returned error "INVALID_INPUT"',
        "Buildbucket response",
    ]


@pytest.mark.parametrize(
    "answer", [{}, {"build": {}}, {"build": None}, {"build": "text"}, {"build": {"status": "STARTED"}}]
)
def test_an_answer_without_a_build_is_fatal(answer: dict[str, Any]) -> None:
    """Without a build ID there is no build to watch."""
    lines: list[str] = []
    with pytest.raises(PermanentError, match="missing 'build'"):
        V1Client(Wire({})).checked(answer, lines.append)
    assert lines[0] == "Buildbucket response is not valid, missing 'build'"
    assert lines[1].startswith("Buildbucket response:\n{")


def test_an_error_of_another_shape_is_still_an_error() -> None:
    """A proxy in front of a server may send any answer."""
    with pytest.raises(PermanentError, match='buildbucket error "" - teapot'):
        V1Client(Wire({})).checked({"error": "teapot"}, lambda _: None)


def test_more_than_a_hundred_triggers_are_capped_to_the_latest() -> None:
    """The build receives the newest hundred; the first log line says so."""
    lines: list[str] = []
    body = V1Client(Wire({})).prepare(build_request(triggers=[{"id": f"t{i}"} for i in range(101)]), lines.append)
    assert lines[0] == "Capping 101 triggers passed to the build to just 100 latest ones"
    assert lines[1].startswith("Preparing PubSub topic")
    sent = json.loads(body["parameters_json"])["properties"]["$recipe_engine/scheduler"]["triggers"]
    assert [trigger["id"] for trigger in sent] == [f"t{i}" for i in range(1, 101)]


def test_a_request_omits_empty_fields() -> None:
    """A request without a bucket is sent and logged without the field."""
    lines: list[str] = []
    body = V1Client(Wire({})).prepare(build_request(task={"server": "s", "builder": "b"}), lines.append)
    assert "bucket" not in body
    assert lines[-1].startswith('Buildbucket request:\n{\n  "client_operation_id"')


def test_the_token_is_sent_and_never_printed() -> None:
    """The request contains the token; no log line does."""
    lines: list[str] = []
    body = V1Client(Wire({})).prepare(build_request(), lines.append)
    assert body["pubsub_callback"] == {"auth_token": "the-token", "topic": "topic"}
    assert '"auth_token": "..."' in lines[-1]
    assert "the-token" not in "".join(lines)


def test_a_build_is_found_by_its_tag_within_its_builder() -> None:
    """The search includes experimental builds and the job's tag, because two jobs may have drawn the same ID."""
    wire = Wire({"builds": [{"id": "1"}, {"id": "2"}]})
    assert V1Client(wire).find(build_request()) == [{"build": {"id": "1"}}, {"build": {"id": "2"}}]
    ((server, method, path, query),) = wire.questions
    assert (server, method, path) == ("cr-buildbucket.appspot.com", "GET", "search")
    assert query == [
        ("bucket", "luci.tint.ci"),
        ("tag", "scheduler_invocation_id:9020353019805130176"),
        ("tag", "scheduler_job_id:tint/mac-rel"),
        ("tag", "builder:mac-rel"),
        ("include_experimental", "true"),
    ]
    assert V1Client(Wire({})).find(build_request()) == []
    with pytest.raises(BuildbucketError, match="INVALID_INPUT: no") as refused:
        V1Client(Wire({"error": {"reason": "INVALID_INPUT", "message": "no"}})).find(build_request())
    assert not refused.value.transient


@pytest.mark.parametrize(
    ("build", "ours"),
    [
        (None, True),
        ({"id": "1"}, True),
        ({"bucket": "luci.tint.ci"}, True),
        ({"bucket": "tint:ci"}, True),
        ({"bucket": "luci.tint.try"}, False),
        ({"bucket": "tint/ci", "tags": ["builder:mac-rel"]}, True),
        ({"tags": ["scheduler_invocation_id:9020353019805130176", "scheduler_job_id:tint/mac-rel"]}, True),
        ({"tags": ["scheduler_invocation_id:9020353019805130177"]}, False),
        ({"tags": ["scheduler_job_id:tint/other"]}, False),
        ({"tags": ["builder:linux-rel"]}, False),
        ({"tags": "text", "bucket": 7}, True),
    ],
)
def test_a_build_belongs_to_the_invocation_unless_it_names_another(build: Any, ours: bool) -> None:
    """The tags decide; without tags, the bucket does."""
    assert V1Client(Wire({})).is_ours(build_request(), {"build": build}) is ours


def test_the_recorded_answer_belongs_to_the_invocation() -> None:
    """The recorded answer belongs to the real page's invocation."""
    assert V1Client(Wire({})).is_ours(build_request(), sample("v1-put-response-as-on-wire"))


def test_all_calls_of_an_attempt_share_its_deadline() -> None:
    """Search and request share the deadline of the attempt; a status check has its own."""
    wire, ends = Wire({"build": {"id": "1"}}), build_request(until=Instant(7))
    V1Client(wire).find(ends)
    assert wire.until == 7
    V1Client(wire).get("s", "1")
    assert wire.until is None
    V1Client(wire).schedule(ends, {})
    assert wire.until == 7


@pytest.mark.parametrize("answer", [{}, {"build": {}}, {"build": "1"}, {"kind": "buildbucket#resourcesItem"}])
def test_an_answer_without_a_build_says_nothing_about_it(answer: dict[str, Any]) -> None:
    """A status check then fails for now, and the invocation stays RUNNING. The service's own error is its word."""
    with pytest.raises(BuildbucketError, match="holds no build") as failed:
        V1Client(Wire(answer)).get("s", "1")
    assert failed.value.transient
    assert V1Client(Wire({"error": {"reason": "BUILD_NOT_FOUND"}})).get("s", "1")


def test_canceling_a_finished_build_is_not_an_error() -> None:
    """Any other refusal is an error."""
    V1Client(Wire({"error": {"reason": "BUILD_IS_COMPLETED"}})).cancel("s", "1")
    with pytest.raises(PermanentError, match="BUILD_NOT_FOUND"):
        V1Client(Wire({"error": {"reason": "BUILD_NOT_FOUND", "message": ""}})).cancel("s", "1")
