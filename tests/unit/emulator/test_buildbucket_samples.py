"""The Buildbucket server reproduces the recorded payloads."""

import base64
import json
import re
import zlib
from pathlib import Path

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, BuilderConfig, BuilderId, Canned, Fault, Outcome
from emulator.buildbucket.notifications import v2_message
from emulator.buildbucket.prpc import RpcError, failure
from emulator.buildbucket.testing import GUARD, MemoryPublisher, ScriptedChance, call_prpc, prpc_json
from emulator.clock import SteppedClock

SAMPLES = Path(__file__).parents[2] / "samples"
MAC_REL = BuilderId("tint", "ci", "mac-rel")
ACCOUNT = "tint-ci-builder@chops-service-accounts.iam.gserviceaccount.com"
V1 = "/_ah/api/buildbucket/v1"
CALLER = {"Authorization": "Bearer fake:project:tint"}

V2_CREATED = 1_773_756_311_482_913_207
V2_STARTED = 1_773_756_323_911_204_518
V2_CANCELED = 1_773_756_720_500_000_001
V2_ENDED = 1_773_757_900_118_733_964
V1_CREATED = 1_613_684_423_573_704_000
V1_STARTED = 1_613_684_433_958_609_000
V1_COMPLETED = 1_613_686_140_997_433_000


def sample(name):
    """Return a recorded body of JSON."""
    return json.loads((SAMPLES / name).read_text())


@pytest.fixture
def publisher():
    """A publisher that keeps messages."""
    return MemoryPublisher()


@pytest.fixture
def v2_server(publisher):
    """A server on which the recorded v2 build can be made: its moment, its random bits, its builder."""
    server = BuildbucketServer(
        SteppedClock(V2_CREATED), publisher, life_cycle="manual", chance=ScriptedChance(20991, 0x6C9F1A0E2D3B4C1)
    )
    experiments = ("luci.buildbucket.agent.cipd_installation", "luci.recipes.use_python3")
    config = BuilderConfig(
        {"recipe": "tint"}, next_number=4127, service_account=ACCOUNT, experiments=experiments, recipe="tint"
    )
    server.add_builder(MAC_REL, config)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def v1_server(publisher):
    """A server on which the build of the golden page can be made."""
    server = BuildbucketServer(
        SteppedClock(V1_CREATED), publisher, life_cycle="manual", chance=ScriptedChance(31139, 0x51CFE7C6430DC41)
    )
    dimensions = json.loads(sample("v1-get-completed-success.json")["build"]["result_details_json"])["swarming"][
        "bot_dimensions"
    ]
    server.add_builder(MAC_REL, BuilderConfig(service_account=ACCOUNT, recipe="tint", bot_dimensions=dimensions))
    server.start()
    yield server
    server.stop()


def schedule(server):
    """Make the recorded v2 build and return its id."""
    prpc_json(call_prpc(server.url, "ScheduleBuild", sample("v2-schedule-request.json")))
    return 8687075417889513457


def start(server):
    """Make the recorded v2 build and start it at its recorded moment."""
    build_id = schedule(server)
    server.clock.move_to(V2_STARTED)
    server.start_build(build_id)
    return build_id


def get(server, body=None, method="GetBuild"):
    """Ask for the recorded v2 build."""
    return prpc_json(call_prpc(server.url, method, body or sample("v2-get-request.json")))


class TestV2:
    """Replies of today's API."""

    def test_schedule(self, v2_server):
        """ScheduleBuild answers the recorded bytes, but for spacing: guard line, default mask, id of the moment."""
        exchange = sample("v2-schedule.http.json")
        response = call_prpc(v2_server.url, "ScheduleBuild", exchange["request"]["body"])
        recorded = (SAMPLES / "v2-schedule-response.body.txt").read_text()
        assert exchange["response"]["body"] == recorded
        assert response.text.startswith(GUARD)
        assert response.text.endswith("}\n")
        assert prpc_json(response) == json.loads(recorded.removeprefix(GUARD))
        assert response.headers.items() >= exchange["response"]["headers"].items()

    def test_duplicate(self, v2_server):
        """A repeated request id returns the build in its present state."""
        start(v2_server)
        repeat = call_prpc(v2_server.url, "ScheduleBuild", sample("v2-schedule-request.json"))
        assert prpc_json(repeat) == sample("v2-schedule-response-duplicate.json")

    def test_scheduled_and_started(self, v2_server):
        """GetBuild shows a waiting and a running build, by id and by number."""
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
    def test_ended(self, v2_server, name, status, written):
        """GetBuild shows how a build ended; it may have been written later than it ended."""
        build_id = start(v2_server)
        v2_server.end_build(build_id, Outcome(status), at=V2_ENDED + written, reported_ago=written)
        expected = sample(f"v2-get-{name}.json")
        critical = expected.pop("critical", None)  # whether a builder is critical is its own setting
        assert critical in (None, "YES")
        assert get(v2_server) == expected

    def test_expired(self, v2_server):
        """A build that no bot took has no start, and both details are empty objects."""
        build_id = schedule(v2_server)
        expected = sample("v2-get-infra-failure-expired.json")
        outcome = Outcome("INFRA_FAILURE", timeout=True, resource_exhaustion=True)
        v2_server.end_build(build_id, outcome, at=1_773_777_911_702_118_000)
        assert get(v2_server) == expected

    def test_cancel(self, v2_server):
        """CancelBuild leaves the status; who canceled and why shows with allFields only."""
        start(v2_server)
        v2_server.clock.move_to(V2_CANCELED)
        reply = call_prpc(v2_server.url, "CancelBuild", sample("v2-cancel-request.json"), caller="dev@example.com")
        assert prpc_json(reply) == sample("v2-cancel-response.json")
        everything = get(v2_server, {"id": "8687075417889513457", "mask": {"allFields": True}})
        expected = sample("v2-get-canceling.json")
        shown = {name: everything[name] for name in expected if name != "input"}
        assert shown == {name: value for name, value in expected.items() if name != "input"}

    def test_canceled(self, v2_server):
        """A canceled build has ended like any other."""
        build_id = start(v2_server)
        v2_server.end_build(build_id, Outcome("CANCELED"), at=1_773_756_751_733_000_000)
        assert get(v2_server) == sample("v2-get-canceled.json")

    def test_all_fields(self, v2_server):
        """AllFields shows everything; the tags builder and gitiles_ref are hidden."""
        build_id = start(v2_server)
        expected = sample("v2-get-success-all-fields.json")
        properties = expected["output"]["properties"]
        outcome = Outcome("SUCCESS", output_properties=properties)
        v2_server.end_build(build_id, outcome, at=V2_ENDED + 523_456_367, reported_ago=523_456_367)
        shown = get(v2_server, {"id": build_id, "mask": {"allFields": True}})
        assert [step["name"] for step in shown.pop("steps")] == [step["name"] for step in expected.pop("steps")]
        assert shown == expected

    def test_mask(self, v2_server):
        """A mask picks fields and parts of properties."""
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

    def test_search(self, v2_server):
        """SearchBuilds finds a build by the invocation's tag; a full page carries a token."""
        start(v2_server)
        request = sample("v2-search-request.json")
        assert get(v2_server, request, "SearchBuilds") == sample("v2-search-response.json")
        request |= {"pageSize": 1, "mask": {"fields": "id,status,createTime"}}
        more = get(v2_server, request, "SearchBuilds")
        assert more == sample("v2-search-response-more.json")
        assert get(v2_server, request | {"pageToken": more["nextPageToken"]}, "SearchBuilds") == {}

    def test_batch(self, v2_server):
        """Batch answers in the order of requests, with errors in their places."""
        start(v2_server)
        v2_server.clock.move_to(V2_CANCELED)
        assert get(v2_server, sample("v2-batch-request.json"), "Batch") == sample("v2-batch-response.json")

    def test_server_info(self, v2_server):
        """The server tells which account publishes."""
        info = requests.get(f"{v2_server.url}/auth/api/v1/server/info", timeout=5).json()
        expected = sample("server-info.json")
        assert info.keys() == expected.keys()
        assert all(info[name] == expected[name] for name in ("app_id", "service_account_name"))


class TestV2Errors:
    """Errors of today's API, byte for byte."""

    @pytest.mark.parametrize(
        "name", ["invalid-argument", "not-found", "permission-denied", "unauthenticated", "unimplemented"]
    )
    def test_refused(self, v2_server, name):
        """A request that is really wrong gets the recorded answer."""
        if name == "permission-denied":
            v2_server.registry.close_bucket("tint/ci", visible=True)
        v2_server.strict_auth = name == "unauthenticated"
        headers = {"Authorization": "Bearer expired"} if name == "unauthenticated" else {}
        self.check(v2_server, f"v2-error-{name}.http.json", headers)

    @pytest.mark.parametrize(("name", "code"), [("internal", 13), ("unavailable", 14), ("deadline", 4)])
    def test_injected(self, v2_server, name, code):
        """Injected errors carry the fixed texts."""
        v2_server.faults.add(Fault("error", code=code, message="something private"))
        self.check(v2_server, f"v2-error-{name}.http.json", {})

    def test_front_end(self, v2_server):
        """A page of the front end has no code header."""
        v2_server.faults.add(Fault("html", status=502))
        response = self.check(v2_server, "v2-error-frontend-html-502.http.json", {}, {"X-Content-Type-Options"})
        assert "X-Prpc-Grpc-Code" not in response.headers

    def test_details(self):
        """Details travel as base64 of JSON in a header."""
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
    """Notifications of today's API."""

    @pytest.mark.parametrize("name", ["scheduled", "started", "success"])
    def test_data_and_attributes(self, v2_server, publisher, name):
        """Each change publishes the recorded message, large fields aside."""
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
        # Beyond the input stand output and steps, which were other ones.
        assert large[:587] == recorded[:587]
        assert large == recorded or name != "scheduled"
        assert shown == expected
        assert message.attributes == sample(f"v2-pubsub-{name}.message.json")["attributes"]
        assert message.data.startswith(b'{\n\t"buildPubsub": {\n\t\t"build"')

    def test_large_fields_dropped(self, v2_server):
        """Large fields beyond the limit are dropped, and that is said."""
        build_id = start(v2_server)
        build = v2_server.end_build(build_id, Outcome("FAILURE"), at=V2_ENDED)
        message = v2_message(build, build.spec.callback, "cr-buildbucket.appspot.com", limit=10)
        assert json.loads(message.data) == sample("v2-pubsub-failure-large-fields-dropped.data.json")
        recorded = sample("v2-pubsub-failure-large-fields-dropped.message.json")
        assert message.attributes == recorded["attributes"]

    def test_form_between_the_eras(self, v2_server, publisher):
        """The transitional form is a v1 build with the token as a plain string, and no token attribute."""
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


MOVING = {"status_changed_ts", "updated_ts", "utcnow_ts"}


def v1_build(build):
    """Return a v1 build without the server's moments (strings of digits, which is checked) and false values."""
    assert all(re.fullmatch(r"\d{16}", build[name]) for name in MOVING)
    return {name: value for name, value in build.items() if name not in MOVING and value is not False}


def put(server):
    """Send the recorded put."""
    response = requests.put(f"{server.url}{V1}/builds", json=sample("v1-put-request.json"), headers=CALLER, timeout=5)
    return response.json()


def v1_get(server):
    """Ask for the recorded v1 build."""
    return requests.get(f"{server.url}{V1}/builds/8854922957825743408", headers=CALLER, timeout=5).json()


class TestV1:
    """Replies of the API of 2021."""

    def test_put(self, v1_server):
        """A put answers the golden page's build, with false values present."""
        shown = put(v1_server)
        expected = sample("v1-put-response-as-on-wire.json")
        assert shown["build"].keys() == expected["build"].keys()
        assert v1_build(shown["build"]) == v1_build(expected["build"])
        assert v1_build(shown["build"]) == v1_build(sample("v1-put-response.json")["build"])

    def test_get_started(self, v1_server):
        """After the start the task id is there, and the start's time."""
        put(v1_server)
        v1_server.start_build(8854922957825743408, at=V1_STARTED)
        assert v1_build(v1_get(v1_server)["build"]) == v1_build(sample("v1-get-started.json")["build"])

    @pytest.mark.parametrize(
        ("name", "status", "is_started", "is_timeout"),
        [
            ("success", "SUCCESS", True, False),
            ("failure", "FAILURE", True, False),
            ("infra-failure", "INFRA_FAILURE", True, False),
            ("timeout", "INFRA_FAILURE", False, True),
            ("canceled", "CANCELED", False, False),
        ],
    )
    def test_get_completed(self, v1_server, name, status, is_started, is_timeout):
        """A completed build shows result, reason, output and the bot, as recorded."""
        put(v1_server)
        expected = sample(f"v1-get-completed-{name}.json")["build"]
        details = json.loads(expected["result_details_json"])
        if is_started:
            v1_server.start_build(8854922957825743408, at=V1_STARTED)
        outcome = Outcome(
            status,
            timeout=is_timeout,
            summary=details.get("ui", {}).get("info", ""),
            output_properties=details["properties"],
        )
        v1_server.end_build(8854922957825743408, outcome, at=V1_COMPLETED + 517_460_000, reported_ago=517_460_000)
        assert v1_build(v1_get(v1_server)["build"]) == v1_build(expected)
        assert v1_get(v1_server)["build"]["status_changed_ts"] == expected["status_changed_ts"]

    def test_cancel(self, v1_server):
        """A cancellation's reply is already completed."""
        put(v1_server)
        v1_server.start_build(8854922957825743408, at=V1_STARTED)
        v1_server.clock.move_to(V1_COMPLETED)
        url = f"{v1_server.url}{V1}/builds/8854922957825743408/cancel"
        shown = requests.post(url, json=sample("v1-cancel-request.json"), headers=CALLER, timeout=5).json()
        expected = v1_build(sample("v1-cancel-response.json")["build"])
        details = json.loads(expected.pop("result_details_json"))
        shown = v1_build(shown["build"])
        assert json.loads(shown.pop("result_details_json"))["swarming"] == details["swarming"]
        assert shown == expected

    def test_search(self, v1_server):
        """A search finds a build by its tag and tells where the next page begins."""
        put(v1_server)
        query = "bucket=luci.tint.ci&tag=scheduler_job_id:tint/mac-rel&max_builds=1"
        reply = requests.get(f"{v1_server.url}{V1}/search?{query}", headers=CALLER, timeout=5).json()
        assert reply.keys() == sample("v1-search-response.json").keys()
        assert [build["id"] for build in reply["builds"]] == ["8854922957825743408"]

    def test_errors(self, v1_server):
        """Errors of the application are HTTP 200, others 403 and 400 without a reason."""
        assert v1_get(v1_server) == sample("v1-get-error-build-not-found.json")
        request = sample("v1-put-request.json")
        bad_tag = "buildset:commit/gitiles/dawn.googlesource.com/tint.git/+/1d982367704d1ab504aedae06e02d5edb40c83aa"
        v1_server.registry.strict = True
        unknown = request["parameters_json"].replace('"mac-rel"', '"mac-rel-2"', 1)
        tags = [tag for tag in request["tags"] if not tag.startswith("builder:")]
        cases = [
            (request | {"tags": [bad_tag]}, "v1-put-error-invalid-input.json"),
            (request | {"parameters_json": unknown, "tags": tags}, "v1-put-error-builder-not-found.json"),
        ]
        for body, name in cases:
            response = requests.put(f"{v1_server.url}{V1}/builds", json=body, headers=CALLER, timeout=5)
            assert (response.status_code, response.json()) == (200, sample(name))
        v1_server.registry.close_bucket("tint/ci", visible=True)
        for name in ("v1-put-forbidden.http.json", "v1-put-bad-request.http.json"):
            exchange = sample(name)
            response = requests.put(
                f"{v1_server.url}{V1}/builds", json=exchange["request"]["body"], headers=CALLER, timeout=5
            )
            assert response.status_code == exchange["response"]["status"]
            assert response.headers["Content-Type"] == exchange["response"]["headers"]["Content-Type"]
            assert response.json() == json.loads(exchange["response"]["body"])

    def test_notifications(self, v1_server, publisher):
        """Start and completion are announced, the token in an attribute, the body on one line with sorted keys."""
        put(v1_server)
        assert publisher.messages == []
        v1_server.start_build(8854922957825743408, at=V1_STARTED)
        recorded = (SAMPLES / "v1-pubsub-started.data.json").read_text()
        started = publisher.messages[-1]
        shown, expected = started.json(), json.loads(recorded)
        assert started.data.decode() == json.dumps(shown, sort_keys=True)
        assert shown.keys() == expected.keys()
        assert (shown["hostname"], shown["user_data"]) == (expected["hostname"], "")
        assert v1_build(shown["build"]) == v1_build(expected["build"])
        assert started.attributes == sample("v1-pubsub-started.message.json")["attributes"]
        v1_server.end_build(8854922957825743408, Outcome("SUCCESS"))
        assert publisher.messages[-1].attributes == sample("v1-pubsub-completed.message.json")["attributes"]
        assert len(publisher.messages) == 2


def test_replay_of_recorded_answers(v1_server):
    """Answers put in beforehand are given in order and as they are; requests are still checked."""
    recorded = [sample("v1-put-response-as-on-wire.json"), sample("v1-get-started.json")]
    v1_server.script_response("v1.put", recorded[0])
    v1_server.script_response("v1.get", recorded[1])
    v1_server.script_response("v1.get", Canned("<html>", 502, {"Content-Type": "text/html"}))
    bad = requests.put(f"{v1_server.url}{V1}/builds", json={}, headers=CALLER, timeout=5)
    assert bad.status_code == 400
    assert put(v1_server) == recorded[0]
    assert v1_get(v1_server) == recorded[1]
    assert requests.get(f"{v1_server.url}{V1}/builds/1", timeout=5).status_code == 502
    assert v1_server.responses_left() == {}
    assert v1_get(v1_server) == sample("v1-get-error-build-not-found.json")


def test_replay_of_recorded_v2_answers(v2_server):
    """So it is with today's API, where made-up errors are possible, too."""
    v2_server.script_response("GetBuild", sample("v2-get-success.json"))
    v2_server.script_response("GetBuild", Canned("no such thing", code=5))
    assert call_prpc(v2_server.url, "GetBuild", {}).status_code == 400
    assert get(v2_server) == sample("v2-get-success.json")
    assert call_prpc(v2_server.url, "GetBuild", {"id": "1"}).text == "no such thing\n"
