"""The Buildbucket server reproduces the recorded payloads of the v1 API."""

import json
import re

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, BuilderConfig, CannedResponse, Outcome
from emulator.buildbucket.testing import ScriptedEntropy
from emulator.clock import SteppedClock
from tests.unit.emulator.buildbucket.support import ACCOUNT, MAC_REL, SAMPLES, sample

V1 = "/_ah/api/buildbucket/v1"
CALLER = {"Authorization": "Bearer fake:project:tint"}
V1_CREATED = 1_613_684_423_573_704_000
V1_STARTED = 1_613_684_433_958_609_000
V1_COMPLETED = 1_613_686_140_997_433_000


@pytest.fixture
def v1_server(publisher):
    """A server that can create the build of the golden page."""
    server = BuildbucketServer(
        SteppedClock(V1_CREATED), publisher, life_cycle="manual", entropy=ScriptedEntropy(31139, 0x51CFE7C6430DC41)
    )
    dimensions = json.loads(sample("v1-get-completed-success.json")["build"]["result_details_json"])["swarming"][
        "bot_dimensions"
    ]
    server.add_builder(MAC_REL, BuilderConfig(service_account=ACCOUNT, recipe="tint", bot_dimensions=dimensions))
    server.start()
    yield server
    server.stop()


MOVING = {"status_changed_ts", "updated_ts", "utcnow_ts"}


def v1_build(build):
    """Return a v1 build without false values and without the server's times, which must be strings of digits."""
    assert all(re.fullmatch(r"\d{16}", build[name]) for name in MOVING)
    return {name: value for name, value in build.items() if name not in MOVING and value is not False}


def put(server):
    """Send the recorded put."""
    response = requests.put(f"{server.url}{V1}/builds", json=sample("v1-put-request.json"), headers=CALLER, timeout=60)
    return response.json()


def v1_get(server):
    """Get the recorded v1 build."""
    return requests.get(f"{server.url}{V1}/builds/8854922957825743408", headers=CALLER, timeout=60).json()


class TestV1:
    """Replies of the v1 API."""

    def test_a_put_returns_the_recorded_build(self, v1_server):
        """A put returns the golden page's build, including false values."""
        shown = put(v1_server)
        expected = sample("v1-put-response-as-on-wire.json")
        assert shown["build"].keys() == expected["build"].keys()
        assert v1_build(shown["build"]) == v1_build(expected["build"])
        assert v1_build(shown["build"]) == v1_build(sample("v1-put-response.json")["build"])

    def test_get_started(self, v1_server):
        """After the start the build has its task ID and its start time."""
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
        """A completed build shows result, reason, output and bot, as recorded."""
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

    def test_the_reply_to_a_cancellation_is_completed(self, v1_server):
        """The reply to a cancellation is already completed."""
        put(v1_server)
        v1_server.start_build(8854922957825743408, at=V1_STARTED)
        v1_server.clock.move_to(V1_COMPLETED)
        url = f"{v1_server.url}{V1}/builds/8854922957825743408/cancel"
        shown = requests.post(url, json=sample("v1-cancel-request.json"), headers=CALLER, timeout=60).json()
        expected = v1_build(sample("v1-cancel-response.json")["build"])
        details = json.loads(expected.pop("result_details_json"))
        shown = v1_build(shown["build"])
        assert json.loads(shown.pop("result_details_json"))["swarming"] == details["swarming"]
        assert shown == expected

    def test_a_search_finds_a_build_by_its_tag(self, v1_server):
        """A search finds a build by its tag, and returns the next page's cursor."""
        put(v1_server)
        query = "bucket=luci.tint.ci&tag=scheduler_job_id:tint/mac-rel&max_builds=1"
        reply = requests.get(f"{v1_server.url}{V1}/search?{query}", headers=CALLER, timeout=60).json()
        assert reply.keys() == sample("v1-search-response.json").keys()
        assert [build["id"] for build in reply["builds"]] == ["8854922957825743408"]

    def test_each_error_has_its_status(self, v1_server):
        """Application errors are HTTP 200; others are 403 and 400 without a reason."""
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
            response = requests.put(f"{v1_server.url}{V1}/builds", json=body, headers=CALLER, timeout=60)
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

    def test_start_and_completion_are_announced(self, v1_server, publisher):
        """Start and completion are announced, with the token in an attribute and one line of sorted JSON."""
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
    """Prepared responses are returned unchanged and in order; requests are still checked."""
    recorded = [sample("v1-put-response-as-on-wire.json"), sample("v1-get-started.json")]
    v1_server.script_response("v1.put", recorded[0])
    v1_server.script_response("v1.get", recorded[1])
    v1_server.script_response("v1.get", CannedResponse("<html>", 502, {"Content-Type": "text/html"}))
    bad = requests.put(f"{v1_server.url}{V1}/builds", json={}, headers=CALLER, timeout=60)
    assert bad.status_code == 400
    assert put(v1_server) == recorded[0]
    assert v1_get(v1_server) == recorded[1]
    assert requests.get(f"{v1_server.url}{V1}/builds/1", timeout=60).status_code == 502
    assert v1_server.responses_left() == {}
    assert v1_get(v1_server) == sample("v1-get-error-build-not-found.json")
