"""Buildbucket v2: today's requests and answers, their log and their meaning."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
from luci_scheduler.managers.buildbucket.gitiles_commit import GitilesCommit, extract_commit
from luci_scheduler.managers.buildbucket.v2 import V2Client
from luci_scheduler.ports import BuildbucketError

SAMPLES = Path(__file__).parents[2] / "samples"
REPO = "https://r.googlesource.com/repo"
BUILDSET = ("buildset", "commit/gitiles/r.googlesource.com/repo/+/deadbeef")


def sample(name: str) -> dict[str, Any]:
    """Return a recorded answer."""
    document: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return document


class Wire:
    """A Buildbucket server that always gives the same answer and records the requests."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = dict(answer)
        self.questions: list[tuple[Any, ...]] = []
        self.until: Instant | None = None

    def v1(self, *question: Any, **_named: Any) -> dict[str, Any]:
        """Fail: the server speaks only v2."""
        raise AssertionError(f"a v2 server was asked {question}")

    def v2(self, *question: Any, until: Instant | None = None) -> dict[str, Any]:
        """Record the request and answer it."""
        self.until = until
        self.questions.append(question)
        return self._answer


def build_request(**changed: Any) -> BuildRequest:
    """Return a build request."""
    fields = {
        "task": {"server": "bb.example.com", "bucket": "ci", "builder": "mac-rel"},
        "job_id": JobId("tint/mac-rel"),
        "invocation_id": InvocationId(16),
        "realm": "tint:ci",
        "app_id": "app",
        "hostname": "app.example.com",
        "topic": "projects/p/topics/t",
        "token": "the-token",
    }
    return BuildRequest(**{**fields, **changed})


def checked(answer: Mapping[str, Any]) -> tuple[Status | None, list[str]]:
    """Return the status that a check reads from an answer, and the log lines."""
    lines: list[str] = []
    return V2Client(Wire({})).checked(answer, lines.append), lines


def test_the_printed_request_to_the_byte() -> None:
    """The log has camel case, declaration order, Go's layout of free-form values, escaped markup, and no token."""
    lines: list[str] = []
    trigger = {"id": "t", "gitiles": {"repo": REPO, "ref": "refs/heads/main", "revision": "deadbeef"}}
    tags = ["buildset:commit/gitiles/r.googlesource.com/repo/+/deadbeef", "empty:", "gitiles_ref:refs/heads/main"]
    body = V2Client(Wire({})).prepare(
        build_request(properties={"b": "<&>", "n": 1.0}, tags=tags, triggers=[trigger]), lines.append
    )
    assert lines[:-1] == [
        f'Popped buildset tag "{tags[0]}"',
        "Popped gitiles commit info from properties and tags",
        'Preparing PubSub topic for "https://bb.example.com"',
        'PubSub topic is "projects/p/topics/t"',
    ]
    assert (
        lines[-1]
        == """Buildbucket request:
{
  "requestId": "16",
  "builder": {
    "project": "tint",
    "bucket": "ci",
    "builder": "mac-rel"
  },
  "properties": {
      "$recipe_engine/scheduler": {
            "hostname": "app.example.com",
            "invocation": "16",
            "job": "tint/mac-rel",
            "triggers": [
                  {
                        "gitiles": {
                              "ref": "refs/heads/main",
                              "repo": "https://r.googlesource.com/repo",
                              "revision": "deadbeef"
                            },
                        "id": "t"
                      }
                ]
          },
      "b": "\\u003c\\u0026\\u003e",
      "n": 1
    },
  "gitilesCommit": {
    "host": "r.googlesource.com",
    "project": "repo",
    "id": "deadbeef",
    "ref": "refs/heads/main"
  },
  "tags": [
    {
      "key": "scheduler_invocation_id",
      "value": "16"
    },
    {
      "key": "scheduler_job_id",
      "value": "tint/mac-rel"
    },
    {
      "key": "user_agent",
      "value": "app"
    },
    {
      "key": "empty"
    }
  ],
  "notify": {
    "pubsubTopic": "projects/p/topics/t"
  }
}"""
    )
    assert base64.b64decode(body["notify"].pop("userData")) == b"the-token"
    assert json.loads(lines[-1].partition("\n")[2]) == body


def test_a_scheduled_build_and_its_url_are_logged() -> None:
    """The answer comes first, then the URL of the build's page."""
    lines: list[str] = []
    answer = sample("v2-get-scheduled")
    build = V2Client(Wire({})).launched(build_request(), answer, lines.append)
    assert lines[0].startswith(
        f'Scheduled build:\n{{\n  "id": "{answer["id"]}",\n  "builder": {{\n    "project": "tint",'
    )
    assert lines[1:] == [f"Task URL: https://bb.example.com/build/{answer['id']}"]
    assert (build.id, build.url, build.status) == (answer["id"], lines[1].removeprefix("Task URL: "), None)


def test_an_answer_without_an_id_is_fatal() -> None:
    """Without an ID there is no build to watch."""
    with pytest.raises(PermanentError, match="holds no build ID"):
        V2Client(Wire({})).launched(build_request(), {"status": "SCHEDULED"}, lambda _: None)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("success", Status.SUCCEEDED),
        ("failure", Status.FAILED),
        ("infra-failure", Status.FAILED),
        ("infra-failure-expired", Status.FAILED),
        ("canceled", Status.ABORTED),
    ],
)
def test_ends_of_builds(name: str, status: Status) -> None:
    """A final status ends the invocation. The log shows the whole build, equivalent to the answer."""
    answer = sample(f"v2-get-{name}")
    found, lines = checked(answer)
    assert found is status
    (line,) = lines
    assert json.loads(line.removeprefix("Build:\n")) == answer


@pytest.mark.parametrize("name", ["scheduled", "started", "canceling"])
def test_an_active_build_logs_its_status(name: str) -> None:
    """A build that is being canceled is still active."""
    answer = sample(f"v2-get-{name}")
    found, lines = checked(answer)
    assert found is None
    assert lines == [f"Build status: {answer['status']}"]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"id": "1", "status": "PONDERING"}, "PONDERING"),
        ({"id": "1", "status": 99}, "99"),
        ({"id": "1"}, "STATUS_UNSPECIFIED"),
    ],
)
def test_an_unknown_status_fails_the_invocation(answer: dict[str, Any], named: str) -> None:
    """The log names the status before it shows the build."""
    found, lines = checked(answer)
    assert found is Status.FAILED
    assert lines[0] == f"Unexpected Build status {named}, marking the invocation as failed"
    assert lines[1].startswith("Build:\n{")


@pytest.mark.parametrize("answer", [{}, {"status": "STARTED"}, {"id": ""}])
def test_an_answer_without_a_build_says_nothing_about_it(answer: dict[str, Any]) -> None:
    """A status check then fails for now, and the invocation stays RUNNING."""
    with pytest.raises(BuildbucketError, match="holds no build") as failed:
        V2Client(Wire(answer)).get("s", "1")
    assert failed.value.transient


@pytest.mark.parametrize(
    ("number", "status"),
    [(12, Status.SUCCEEDED), (20, Status.FAILED), (36, Status.FAILED), (68, Status.ABORTED), (1, None), (2.0, None)],
)
def test_a_status_may_come_as_its_number(number: float, status: Status | None) -> None:
    """Protobuf's JSON allows a number for an enum. The log shows the name, as Go prints it."""
    wire, lines = Wire({"id": "1", "status": number}), list[str]()
    assert V2Client(wire).checked(V2Client(wire).get("s", "1"), lines.append) is status
    assert str(number) not in "".join(lines)


def test_numbers_of_64_bits_may_come_as_numbers() -> None:
    """They keep all digits, and the log shows them as strings, as Go does. Other numbers and unknown enums stay."""
    sent = {
        "id": 8677072329461727393,
        "number": 7,
        "status": 12,
        "critical": 1,
        "retriable": 99,
        "input": {"properties": {"id": 3}, "gerritChanges": [{"change": 9007199254740993, "patchset": 2}]},
        "output": {"status": 68},
        "steps": [{"name": "a", "status": 36}],
        "ancestorIds": [9007199254740993],
        "infra": {"backend": {"task": {"status": 2, "updateId": 5}}},
    }
    read = V2Client(Wire(sent)).get("s", "1")
    assert read == {
        "id": "8677072329461727393",
        "number": 7,
        "status": "SUCCESS",
        "critical": "YES",
        "retriable": 99,
        "input": {"properties": {"id": 3}, "gerritChanges": [{"change": "9007199254740993", "patchset": "2"}]},
        "output": {"status": "CANCELED"},
        "steps": [{"name": "a", "status": "INFRA_FAILURE"}],
        "ancestorIds": ["9007199254740993"],
        "infra": {"backend": {"task": {"status": "STARTED", "updateId": "5"}}},
    }
    assert V2Client(Wire(sent)).schedule(build_request(), {}) == read
    assert V2Client(Wire({"builds": [sent]})).find(build_request()) == [read]
    assert '"id": "8677072329461727393"' in checked(read)[1][0]
    odd = {"id": True, "status": None, "steps": "text", "infra": [], "input": {"gerritChanges": {"change": 1}}}
    assert V2Client(Wire(odd)).get("s", "1") == odd | {"input": {"gerritChanges": {"change": "1"}}}


OURS = {"project": "tint", "bucket": "ci", "builder": "mac-rel"}


def _tags(**tags: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


@pytest.mark.parametrize(
    ("answer", "ours"),
    [
        ({}, True),
        ({"builder": OURS}, True),
        ({"builder": {"builder": "mac-rel"}}, True),
        ({"builder": OURS | {"builder": "linux-rel"}}, False),
        ({"builder": OURS | {"bucket": "try"}}, False),
        ({"builder": OURS | {"project": "dawn"}}, False),
        ({"builder": OURS, "tags": _tags(other="x")}, True),
        ({"builder": OURS, "tags": _tags(scheduler_invocation_id="16", scheduler_job_id="tint/mac-rel")}, True),
        ({"builder": OURS, "tags": _tags(scheduler_invocation_id="17")}, False),
        ({"builder": OURS, "tags": _tags(scheduler_invocation_id="16", scheduler_job_id="tint/other")}, False),
        ({"builder": None, "tags": 7}, True),
    ],
)
def test_a_build_belongs_to_the_invocation_unless_it_names_another(answer: dict[str, Any], ours: bool) -> None:
    """The default field mask omits the tags."""
    assert V2Client(Wire({})).is_ours(build_request(), answer) is ours


def test_later_requests_add_a_number_to_the_id_of_the_invocation() -> None:
    """A second request follows an answer with the build of another invocation."""
    wire = Wire({})
    for number in (1, 2):
        V2Client(wire).schedule(build_request(number=number), {"requestId": "16", "builder": OURS})
    assert [question[2]["requestId"] for question in wire.questions] == ["16", "16-2"]


def test_a_logged_build_has_fields_in_declaration_order_and_no_unknown_fields() -> None:
    """The server's order does not matter. Empty fields vanish, empty messages stay, free-form values stay as sent."""
    _, (line,) = checked(
        {
            "unheardOf": 1,
            "tags": [],
            "canary": False,
            "summaryMarkdown": "",
            "output": {"properties": {"n": 1.0}},
            "infra": {"buildbucket": {"requestedProperties": {"a": 1}}},
            "input": {},
            "critical": None,
            "status": "SUCCESS",
            "id": "1",
        }
    )
    assert (
        line
        == """Build:
{
  "id": "1",
  "status": "SUCCESS",
  "input": {

  },
  "output": {
    "properties": {
        "n": 1
      }
  },
  "infra": {
    "buildbucket": {
      "requestedProperties": {
          "a": 1
        }
    }
  }
}"""
    )


def test_every_field_of_a_full_build_is_logged() -> None:
    """The log shows every known field of a large answer."""
    answer = sample("v2-get-success-all-fields")
    _, (line,) = checked(answer)
    assert json.loads(line.removeprefix("Build:\n")) == answer


def test_a_build_is_found_by_its_tag_within_its_builder() -> None:
    """The search includes experimental builds and the job's tag, because two jobs may have drawn the same ID."""
    wire = Wire({"builds": [{"id": "2"}, {"id": "1"}]})
    assert V2Client(wire).find(build_request()) == [{"id": "2"}, {"id": "1"}]
    ((server, method, request),) = wire.questions
    assert (server, method) == ("bb.example.com", "SearchBuilds")
    assert request["predicate"] == {
        "builder": {"project": "tint", "bucket": "ci", "builder": "mac-rel"},
        "tags": [
            {"key": "scheduler_invocation_id", "value": "16"},
            {"key": "scheduler_job_id", "value": "tint/mac-rel"},
        ],
        "includeExperimental": True,
    }
    assert V2Client(Wire({})).find(build_request()) == V2Client(Wire({"builds": 7})).find(build_request()) == []


def test_all_calls_of_an_attempt_share_its_deadline() -> None:
    """Search and request share the deadline of the attempt; a status check has its own."""
    wire, ends = Wire({"id": "1"}), build_request(until=Instant(7))
    V2Client(wire).find(ends)
    assert wire.until == 7
    V2Client(wire).get("s", "1")
    assert wire.until is None
    V2Client(wire).schedule(ends, {})
    assert wire.until == 7


def test_a_cancellation_names_the_canceler() -> None:
    """Buildbucket requires a summary."""
    wire = Wire({})
    V2Client(wire).cancel("bb.example.com", "1")
    expected = {"id": "1", "summaryMarkdown": "Canceled via LUCI Scheduler"}
    assert wire.questions == [("bb.example.com", "CancelBuild", expected)]


def test_more_than_a_hundred_triggers_are_capped_to_the_latest() -> None:
    """The first log line says so, and the commit is still that of the last trigger."""
    lines: list[str] = []
    triggers = [
        {"id": f"t{i}", "gitiles": {"repo": REPO, "ref": "refs/heads/main", "revision": f"{i:x}"}} for i in range(150)
    ]
    body = V2Client(Wire({})).prepare(build_request(triggers=triggers), lines.append)
    assert lines[0] == "Capping 150 triggers passed to the build to just 100 latest ones"
    assert body["gitilesCommit"]["id"] == "95"
    sent = body["properties"]["$recipe_engine/scheduler"]["triggers"]
    assert [trigger["id"] for trigger in sent] == [f"t{i}" for i in range(50, 150)]


def extracted(
    tags: list[tuple[str, str]], properties: dict[str, Any], trigger: Mapping[str, Any] | None = None
) -> tuple[GitilesCommit | None, list[tuple[str, str]], list[str]]:
    """Return the commit, the remaining tags and the log lines."""
    lines: list[str] = []
    commit, left = extract_commit([trigger] if trigger else [], tags, properties, lines.append)
    return commit, left, lines


def test_properties_that_are_not_strings_are_popped_and_count_as_absent() -> None:
    """The service refuses these properties with any content."""
    properties = {"repository": 1, "branch": None, "revision": ["x"], "kept": 1}
    commit, left, lines = extracted([("a", "b")], properties)
    assert (commit, left, properties) == (None, [("a", "b")], {"kept": 1})
    assert lines == ["Ignoring gitiles_ref tag without the buildset tag"]


def test_an_invalid_repository_property_is_ignored() -> None:
    """One line replaces those about host and project; branch and revision are still compared."""
    properties = {"repository": "http://x", "branch": "main", "revision": "deadbeef"}
    commit, _, lines = extracted([BUILDSET, ("gitiles_ref", "main")], properties)
    assert commit == GitilesCommit("r.googlesource.com", "repo", "deadbeef", "refs/heads/main")
    assert lines[1:] == ['Ignoring invalid property "repository": "http://x"', "Reconstructed gitiles commit from tags"]


def test_the_first_buildset_and_the_last_ref_count() -> None:
    """The log names every other one, in the order of the tags, and drops it."""
    tags = [
        ("gitiles_ref", "one"),
        ("buildset", "patch/gerrit/x/1/2"),
        BUILDSET,
        ("buildset", "commit/gitiles/r.googlesource.com/repo/+/beef"),
        ("gitiles_ref", "refs/tags/two"),
        ("other", "x"),
    ]
    commit, left, lines = extracted(tags, {})
    assert commit == GitilesCommit("r.googlesource.com", "repo", "deadbeef", "refs/tags/two")
    assert left == [("other", "x")]
    assert lines == [
        'Ignoring unrecognized buildset tag "buildset:patch/gerrit/x/1/2"',
        'Popped buildset tag "buildset:commit/gitiles/r.googlesource.com/repo/+/deadbeef"',
        'Ignoring extra buildset tag "buildset:commit/gitiles/r.googlesource.com/repo/+/beef"',
        'Ignoring extra gitiles_ref "refs/heads/one"',
        "Reconstructed gitiles commit from tags",
    ]


def test_tags_win_over_the_trigger() -> None:
    """The disagreement is logged with both commits."""
    trigger = {"id": "t", "gitiles": {"repo": f"{REPO}.git", "ref": "refs/heads/main", "revision": "cafe"}}
    commit, _, lines = extracted([BUILDSET], {}, trigger)
    assert commit == GitilesCommit("r.googlesource.com", "repo", "deadbeef")
    assert lines[1:] == [
        "crbug.com/1182002: Gitiles commit from triggers doesn't match the one from tags",
        (
            'From triggers:\n{\n  "host": "r.googlesource.com",\n  "project": "repo",\n'
            '  "id": "cafe",\n  "ref": "refs/heads/main"\n}'
        ),
        'From properties:\n{\n  "host": "r.googlesource.com",\n  "project": "repo",\n  "id": "deadbeef"\n}',
        "Using the one from tags",
    ]


def test_a_trigger_of_a_bad_repository_is_fatal() -> None:
    """Such a trigger names no commit to build."""
    with pytest.raises(PermanentError, match='bad repo URL "http://x" in the trigger'):
        extracted([], {}, {"id": "t", "gitiles": {"repo": "http://x", "ref": "refs/heads/main", "revision": "cafe"}})
