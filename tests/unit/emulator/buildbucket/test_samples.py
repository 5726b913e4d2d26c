"""The Buildbucket server reproduces the recorded payloads of the v2 API."""

import base64
import json
import zlib

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, BuilderConfig, CannedResponse, Fault, Outcome
from emulator.buildbucket.notifications import v2_message
from emulator.buildbucket.prpc import RpcError, failure
from emulator.buildbucket.testing import GUARD, ScriptedEntropy, call_prpc, prpc_json
from emulator.clock import SteppedClock
from tests.unit.emulator.buildbucket.support import ACCOUNT, MAC_REL, SAMPLES, sample

V2_CREATED = 1_773_756_311_482_913_207
V2_STARTED = 1_773_756_323_911_204_518
V2_CANCELED = 1_773_756_720_500_000_001
V2_ENDED = 1_773_757_900_118_733_964


@pytest.fixture
def v2_server(publisher):
    """A server that can create the recorded v2 build, with its time, its random bits and its builder."""
    server = BuildbucketServer(
        SteppedClock(V2_CREATED), publisher, life_cycle="manual", entropy=ScriptedEntropy(20991, 0x6C9F1A0E2D3B4C1)
    )
    experiments = ("luci.buildbucket.agent.cipd_installation", "luci.recipes.use_python3")
    config = BuilderConfig(
        {"recipe": "tint"}, next_number=4127, service_account=ACCOUNT, experiments=experiments, recipe="tint"
    )
    server.add_builder(MAC_REL, config)
    server.start()
    yield server
    server.stop()


def schedule(server):
    """Create the recorded v2 build and return its ID."""
    prpc_json(call_prpc(server.url, "ScheduleBuild", sample("v2-schedule-request.json")))
    return 8687075417889513457


def start(server):
    """Create the recorded v2 build and start it at its recorded time."""
    build_id = schedule(server)
    server.clock.move_to(V2_STARTED)
    server.start_build(build_id)
    return build_id


def get(server, body=None, method="GetBuild"):
    """Get the recorded v2 build."""
    return prpc_json(call_prpc(server.url, method, body or sample("v2-get-request.json")))


class TestV2:
    """Replies of the v2 API."""

    def test_schedule_build_returns_the_recorded_bytes(self, v2_server):
        """ScheduleBuild returns the recorded bytes except for spacing: guard line, default mask, ID with the time."""
        exchange = sample("v2-schedule.http.json")
        response = call_prpc(v2_server.url, "ScheduleBuild", exchange["request"]["body"])
        recorded = (SAMPLES / "v2-schedule-response.body.txt").read_text()
        assert exchange["response"]["body"] == recorded
        assert response.text.startswith(GUARD)
        assert response.text.endswith("}\n")
        assert prpc_json(response) == json.loads(recorded.removeprefix(GUARD))
        assert response.headers.items() >= exchange["response"]["headers"].items()

    def test_a_repeated_request_id_returns_the_current_build(self, v2_server):
        """A repeated request ID returns the current build."""
        start(v2_server)
        repeat = call_prpc(v2_server.url, "ScheduleBuild", sample("v2-schedule-request.json"))
        assert prpc_json(repeat) == sample("v2-schedule-response-duplicate.json")

    def test_scheduled_and_started(self, v2_server):
        """GetBuild shows a scheduled and a running build, by ID and by number."""
        build_id = schedule(v2_server)
        assert get(v2_server) == sample("v2-get-scheduled.json")
        v2_server.clock.move_to(V2_STARTED)
        v2_server.start_build(build_id)
        assert get(v2_server) == sample("v2-get-started.json")
        assert get(v2_server, sample("v2-get-request-by-number.json")) == sample("v2-get-started.json")
        assert get(v2_server, method="GetBuildStatus") == sample("v2-getbuildstatus-response.json")

    @pytest.mark.parametrize(
        ("name", "status", "written"),
        [("failure", "FAILURE", 0), ("infra-failure", "INFRA_FAILURE", 0), ("success", "SUCCESS", 523_456_367)],
    )
    def test_get_build_shows_the_end(self, v2_server, name, status, written):
        """GetBuild shows the end of a build, which may be older than its last update."""
        build_id = start(v2_server)
        v2_server.end_build(build_id, Outcome(status), at=V2_ENDED + written, reported_ago=written)
        expected = sample(f"v2-get-{name}.json")
        critical = expected.pop("critical", None)  # critical is a setting of the builder
        assert critical in (None, "YES")
        assert get(v2_server) == expected

    def test_an_expired_build_has_no_start_time(self, v2_server):
        """A build that no bot took has no start time, and both details are empty objects."""
        build_id = schedule(v2_server)
        expected = sample("v2-get-infra-failure-expired.json")
        outcome = Outcome("INFRA_FAILURE", timeout=True, resource_exhaustion=True)
        v2_server.end_build(build_id, outcome, at=1_773_777_911_702_118_000)
        assert get(v2_server) == expected

    def test_cancel_build_does_not_change_the_status(self, v2_server):
        """CancelBuild does not change the status. Only allFields shows the canceler and the reason."""
        start(v2_server)
        v2_server.clock.move_to(V2_CANCELED)
        reply = call_prpc(v2_server.url, "CancelBuild", sample("v2-cancel-request.json"), caller="dev@example.com")
        assert prpc_json(reply) == sample("v2-cancel-response.json")
        everything = get(v2_server, {"id": "8687075417889513457", "mask": {"allFields": True}})
        expected = sample("v2-get-canceling.json")
        shown = {name: everything[name] for name in expected if name != "input"}
        assert shown == {name: value for name, value in expected.items() if name != "input"}

    def test_a_canceled_build_has_an_end(self, v2_server):
        """A canceled build has an end like any other build."""
        build_id = start(v2_server)
        v2_server.end_build(build_id, Outcome("CANCELED"), at=1_773_756_751_733_000_000)
        assert get(v2_server) == sample("v2-get-canceled.json")

    def test_all_fields(self, v2_server):
        """AllFields shows everything except the hidden tags builder and gitiles_ref."""
        build_id = start(v2_server)
        expected = sample("v2-get-success-all-fields.json")
        properties = expected["output"]["properties"]
        outcome = Outcome("SUCCESS", output_properties=properties)
        v2_server.end_build(build_id, outcome, at=V2_ENDED + 523_456_367, reported_ago=523_456_367)
        shown = get(v2_server, {"id": build_id, "mask": {"allFields": True}})
        assert [step["name"] for step in shown.pop("steps")] == [step["name"] for step in expected.pop("steps")]
        assert shown == expected

    def test_a_mask_selects_fields(self, v2_server):
        """A mask selects fields and parts of properties."""
        build_id = start(v2_server)
        outcome = Outcome("SUCCESS", summary="all good", output_properties={"got_revision": "abc", "other": 1})
        v2_server.end_build(build_id, outcome, at=V2_ENDED)
        assert get(v2_server, sample("v2-get-request-with-mask.json")) == {
            "id": str(build_id),
            "status": "SUCCESS",
            "endTime": "2026-03-17T14:31:40.118733964Z",
            "summaryMarkdown": "all good",
            "output": {"properties": {"got_revision": "abc"}},
        }

    def test_a_search_finds_a_build_by_its_tag(self, v2_server):
        """SearchBuilds finds a build by the invocation's tag; a full page has a token."""
        start(v2_server)
        request = sample("v2-search-request.json")
        assert get(v2_server, request, "SearchBuilds") == sample("v2-search-response.json")
        request |= {"pageSize": 1, "mask": {"fields": "id,status,createTime"}}
        more = get(v2_server, request, "SearchBuilds")
        assert more == sample("v2-search-response-more.json")
        assert get(v2_server, request | {"pageToken": more["nextPageToken"]}, "SearchBuilds") == {}

    def test_a_batch_responds_in_the_order_of_its_requests(self, v2_server):
        """Batch responds in the order of the requests, with errors in their places."""
        start(v2_server)
        v2_server.clock.move_to(V2_CANCELED)
        assert get(v2_server, sample("v2-batch-request.json"), "Batch") == sample("v2-batch-response.json")

    def test_server_info(self, v2_server):
        """The server information names the publishing account."""
        info = requests.get(f"{v2_server.url}/auth/api/v1/server/info", timeout=60).json()
        expected = sample("server-info.json")
        assert info.keys() == expected.keys()
        assert all(info[name] == expected[name] for name in ("app_id", "service_account_name"))


class TestV2Errors:
    """Errors of the v2 API, byte for byte."""

    @pytest.mark.parametrize(
        "name", ["invalid-argument", "not-found", "permission-denied", "unauthenticated", "unimplemented"]
    )
    def test_a_faulty_request_gets_the_recorded_response(self, v2_server, name):
        """A faulty request gets the recorded response."""
        if name == "permission-denied":
            v2_server.registry.close_bucket("tint/ci", visible=True)
        v2_server.strict_auth = name == "unauthenticated"
        headers = {"Authorization": "Bearer expired"} if name == "unauthenticated" else {}
        self.check(v2_server, f"v2-error-{name}.http.json", headers)

    @pytest.mark.parametrize(("name", "code"), [("internal", 13), ("unavailable", 14), ("deadline", 4)])
    def test_injected_errors_have_the_fixed_texts(self, v2_server, name, code):
        """Injected errors have the fixed texts."""
        v2_server.faults.add(Fault("error", code=code, message="something private"))
        self.check(v2_server, f"v2-error-{name}.http.json", {})

    def test_front_end(self, v2_server):
        """A page of the front end has no code header."""
        v2_server.faults.add(Fault("html", status=502))
        response = self.check(v2_server, "v2-error-frontend-html-502.http.json", {}, {"X-Content-Type-Options"})
        assert "X-Prpc-Grpc-Code" not in response.headers

    def test_details_are_in_a_header(self):
        """A header contains the details as base64 of JSON."""
        recorded = sample("v2-error-with-details.http.json")["response"]
        detail = json.loads(base64.b64decode(recorded["headers"]["X-Prpc-Status-Details-Bin"]))
        response = failure(RpcError(3, recorded["body"].removesuffix("\n"), details=[detail]))
        assert response.status_code == recorded["status"]
        assert response.get_data(as_text=True) == recorded["body"]
        assert json.loads(base64.b64decode(response.headers["X-Prpc-Status-Details-Bin"])) == detail

    @staticmethod
    def check(server, name, headers, unsaid=frozenset()):
        """Send a recorded request and compare status, headers and body."""
        exchange = sample(name)
        method = exchange["request"]["url"].rpartition("/")[2]
        response = call_prpc(server.url, method, exchange["request"]["body"], headers=headers)
        expected = exchange["response"]
        assert response.status_code == expected["status"]
        assert response.text == expected["body"]
        assert {key: response.headers[key] for key in expected["headers"].keys() - unsaid} == {
            key: value for key, value in expected["headers"].items() if key not in unsaid
        }
        return response


class TestV2Notifications:
    """Notifications of the v2 API."""

    @pytest.mark.parametrize("name", ["scheduled", "started", "success"])
    def test_data_and_attributes(self, v2_server, publisher, name):
        """Each change publishes the recorded message, apart from large fields."""
        build_id = schedule(v2_server)
        if name != "scheduled":
            v2_server.clock.move_to(V2_STARTED)
            v2_server.start_build(build_id)
        if name == "success":
            v2_server.end_build(build_id, Outcome("SUCCESS"), at=V2_ENDED)
        message = publisher.messages[-1]
        expected = sample(f"v2-pubsub-{name}.data.json")
        shown = message.json()
        large = zlib.decompress(base64.b64decode(shown["buildPubsub"].pop("buildLargeFields")))
        recorded = zlib.decompress(base64.b64decode(expected["buildPubsub"].pop("buildLargeFields")))
        # After the input come output and steps, which differ from the recording.
        assert large[:587] == recorded[:587]
        assert large == recorded or name != "scheduled"
        assert shown == expected
        assert message.attributes == sample(f"v2-pubsub-{name}.message.json")["attributes"]
        assert message.data.startswith(b'{\n\t"buildPubsub": {\n\t\t"build"')

    def test_large_fields_dropped(self, v2_server):
        """Large fields beyond the limit are dropped, and the message says so."""
        build_id = start(v2_server)
        build = v2_server.end_build(build_id, Outcome("FAILURE"), at=V2_ENDED)
        message = v2_message(build, build.spec.callback, "cr-buildbucket.appspot.com", limit=10)
        assert json.loads(message.data) == sample("v2-pubsub-failure-large-fields-dropped.data.json")
        recorded = sample("v2-pubsub-failure-large-fields-dropped.message.json")
        assert message.attributes == recorded["attributes"]

    def test_legacy_format(self, v2_server, publisher):
        """The legacy format is a v1 build with the token as a plain string, without a token attribute."""
        v2_server.notifier.legacy_format = True
        start(v2_server)
        recorded = sample("v2-pubsub-legacy-format.message.json")
        body = json.loads(base64.b64decode(recorded["data"]))
        message = publisher.messages[-1]
        assert message.attributes.keys() == recorded["attributes"].keys()
        assert message.json().keys() == body.keys()
        token = base64.b64decode(sample("v2-schedule-request.json")["notify"]["userData"]).decode()
        assert message.json()["user_data"] == token
        assert body["build"].keys() >= message.json()["build"].keys() - {"canary", "experimental", "started_ts"}


def test_replay_of_recorded_v2_responses(v2_server):
    """Prepared v2 responses are used in order, and may be errors."""
    v2_server.script_response("GetBuild", sample("v2-get-success.json"))
    v2_server.script_response("GetBuild", CannedResponse("no such thing", code=5))
    assert call_prpc(v2_server.url, "GetBuild", {}).status_code == 400
    first = call_prpc(v2_server.url, "GetBuild", sample("v2-get-request.json"))
    assert (first.status_code, prpc_json(first)) == (200, sample("v2-get-success.json"))
    assert call_prpc(v2_server.url, "GetBuild", {"id": "1"}).text == "no such thing\n"
