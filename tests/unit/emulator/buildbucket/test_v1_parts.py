"""Requests and builds of the v1 API, without HTTP."""

import json
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec, Callback, Outcome
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.v1_build import build_to_v1, dump_parameters
from emulator.buildbucket.v1_requests import BadRequest, Refused, parse_put

SHA = "a" * 40
BUILDSET = f"buildset:commit/gitiles/h/r/+/{SHA}"
TOPIC = "projects/my-project/topics/my-topic"


def put(parameters: Any = None, **fields: Any) -> Any:
    """Parse a request."""
    text = json.dumps({"builder_name": "linux", **(parameters or {})})
    return parse_put({"bucket": "luci.p.ci", "parameters_json": text, **fields})


def build(status: str = "SCHEDULED", *, start: int | None = None, outcome: Outcome | None = None, **spec: Any) -> Build:
    """Return a build."""
    config = BuilderConfig()
    return Build(
        7, BuildSpec("v1", BuilderId("p", "ci", "linux"), "user:a@b", config, **spec), None, 1_500, 2_500, 3_500,
        "task", status=status, start_time=start, end_time=None if outcome is None else 9_999, outcome=outcome,
    )  # fmt: skip


class TestRequests:
    """The body of ``PUT builds``."""

    def test_the_smallest_put_request(self) -> None:
        request = put()
        assert (request.bucket, request.builder, request.tags) == ("luci.p.ci", "linux", (("builder", "linux"),))
        assert (request.gitiles_commit, request.callback, request.canary, request.experimental) == (
            None,
            None,
            False,
            False,
        )

    def test_all_fields(self) -> None:
        request = put(
            {"properties": {"a": 1}, "changes": []},
            client_operation_id="op",
            tags=["k:v:w", BUILDSET],
            pubsub_callback={"topic": TOPIC, "user_data": "data", "auth_token": "secret"},
            canary_preference="CANARY",
            experimental=True,
        )
        assert (request.operation_id, request.properties, request.parameters) == ("op", {"a": 1}, {"changes": []})
        assert ("k", "v:w") in request.tags
        assert request.callback == Callback(TOPIC, b"data", "secret")
        assert (request.canary, request.experimental) == (True, True)

    def test_a_commit_comes_from_the_tags_with_a_default_ref(self) -> None:
        request = put(tags=[BUILDSET])
        assert request.gitiles_commit == {"host": "h", "project": "r", "id": SHA, "ref": "refs/heads/master"}
        assert ("gitiles_ref", "refs/heads/master") in request.tags

    def test_a_tag_names_the_ref(self) -> None:
        assert put(tags=[BUILDSET, "gitiles_ref:refs/heads/x"]).gitiles_commit["ref"] == "refs/heads/x"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"client_operation_id": "a/b"}, "client_operation_id cannot contain /"),
            ({"parameters_json": "{"}, "Could not parse parameters_json: "),
            ({"parameters_json": "[]"}, "parameters_json is not a JSON object"),
            ({"parameters_json": "{}"}, "parameters_json.builder_name is required"),
            ({"parameters_json": None}, "parameters_json.builder_name is required"),
            (
                {"parameters_json": '{"builder_name": "b", "properties": [1]}'},
                '"properties" parameter is not a JSON object',
            ),
            ({"tags": ["k"]}, 'Invalid tag "k": does not contain ":"'),
            ({"tags": [":v"]}, 'Invalid tag ":v": starts with ":"'),
            ({"tags": ["builder:mac"]}, 'Invalid tag "builder:mac": conflicts with builder_name parameter "linux"'),
            ({"tags": ["build_address:x"]}, 'Tag "build_address" is reserved'),
            ({"tags": ["buildset:patch/gerrit/x"]}, 'Invalid tag "buildset:patch/gerrit/x": does not match regex'),
            ({"tags": [BUILDSET, BUILDSET.replace(SHA, "b" * 40)]}, "More than one commit/gitiles buildset"),
            ({"pubsub_callback": {"topic": "t"}}, "invalid pubsub_callback.topic: topic must match"),
        ],
    )
    def test_an_invalid_value(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(Refused) as caught:
            put(**fields)
        assert (caught.value.reason, caught.value.message[: len(message)]) == ("INVALID_INPUT", message)

    @pytest.mark.parametrize(
        "fields",
        [
            {"bucket": None},
            {"bucket": 1},
            {"client_operation_id": 1},
            {"parameters_json": {}},
            {"tags": "k:v"},
            {"tags": [1]},
            {"canary_preference": "MAYBE"},
            {"pubsub_callback": {}},
            {"pubsub_callback": []},
            {"pubsub_callback": {"topic": TOPIC, "user_data": 1}},
        ],
    )
    def test_a_body_of_the_wrong_type_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(BadRequest):
            put(**fields)

    @pytest.mark.parametrize("body", [None, [], "text"])
    def test_a_body_that_is_not_an_object(self, body: Any) -> None:
        with pytest.raises(BadRequest, match="Message PutRequestMessage must be an object"):
            parse_put(body)


class TestBuilds:
    """A build in a reply."""

    def test_a_scheduled_build(self) -> None:
        shown = build_to_v1(build(), "h", 5_000)
        assert (shown["id"], shown["bucket"], shown["status"]) == ("7", "luci.p.ci", "SCHEDULED")
        assert [shown[name] for name in ("created_ts", "updated_ts", "status_changed_ts", "utcnow_ts")] == [
            "1",
            "2",
            "3",
            "5",
        ]
        assert not {"started_ts", "completed_ts", "result"} & shown.keys()
        assert (shown["canary"], shown["experimental"], shown["canary_preference"]) == (False, False, "PROD")

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            (Outcome("SUCCESS"), {"result": "SUCCESS"}),
            (Outcome("FAILURE"), {"result": "FAILURE", "failure_reason": "BUILD_FAILURE"}),
            (Outcome("INFRA_FAILURE"), {"result": "FAILURE", "failure_reason": "INFRA_FAILURE"}),
            (Outcome("INFRA_FAILURE", timeout=True), {"result": "CANCELED", "cancelation_reason": "TIMEOUT"}),
            (Outcome("CANCELED"), {"result": "CANCELED", "cancelation_reason": "CANCELED_EXPLICITLY"}),
        ],
    )
    def test_the_result_of_a_completed_build(self, outcome: Outcome, expected: dict[str, str]) -> None:
        shown = build_to_v1(build(outcome.status, outcome=outcome), "h", 0)
        names = ("result", "failure_reason", "cancelation_reason")
        assert {name: shown[name] for name in names if name in shown} == expected
        assert (shown["status"], shown["completed_ts"]) == ("COMPLETED", "9")

    def test_the_details_of_a_failed_build(self) -> None:
        outcome = Outcome("FAILURE", summary="broke", output_properties={"out": 1})
        details = json.loads(build_to_v1(build("FAILURE", start=1, outcome=outcome), "h", 0)["result_details_json"])
        assert details["properties"] == {"out": 1}
        assert (details["ui"], details["error"]) == ({"info": "broke"}, {"message": "broke"})
        assert details["swarming"]["bot_dimensions"]["os"] == ["Linux", "Ubuntu"]

    def test_a_successful_build_has_no_error_in_its_details(self) -> None:
        outcome = Outcome("SUCCESS", summary="fine")
        details = json.loads(build_to_v1(build("SUCCESS", outcome=outcome), "h", 0)["result_details_json"])
        assert details == {"properties": {}, "ui": {"info": "fine"}}

    def test_a_running_build_does_not_show_its_outcome(self) -> None:
        running = build("STARTED", start=1, outcome=Outcome("FAILURE", summary="broke", output_properties={"out": 1}))
        assert json.loads(build_to_v1(running, "h", 0)["result_details_json"]) == {"properties": {}}

    def test_tags_grow_as_the_build_starts_and_ends(self) -> None:
        tags = [
            set(build_to_v1(item, "h", 0)["tags"])
            for item in (build(), build("STARTED", start=1), build("SUCCESS", start=1, outcome=Outcome("SUCCESS")))
        ]
        assert "swarming_task_id:" in tags[0]
        assert tags[1] - tags[0] == {"swarming_task_id:task"}
        assert tags[2] - tags[1] == {"swarming_tag:os:Linux"}

    def test_numbers_are_floats_except_a_few(self) -> None:
        parameters = {"b": 1, "a": {"issue": 2, "list": [3, True, None]}, "patchset": 4.0}
        assert dump_parameters(parameters) == '{"a": {"issue": 2, "list": [3.0, true, null]}, "b": 1.0, "patchset": 4}'
