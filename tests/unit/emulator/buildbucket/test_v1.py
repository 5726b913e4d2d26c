"""The v1 API of Buildbucket: errors, replies, deduplication, searches."""

import json

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, BuilderConfig, BuilderId, Outcome
from emulator.buildbucket.partial import PartialError, select_fields
from emulator.buildbucket.testing import MemoryPublisher, call_prpc, prpc_json
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import MINUTE

START = 1_613_684_423_573_704_999
SHA = "1d982367704d1ab504aedae06e02d5edb40c83aa"
TOPIC = "projects/luci-scheduler/topics/builds"


@pytest.fixture
def server():
    """A server whose builds change only on request."""
    server = BuildbucketServer(SteppedClock(START), MemoryPublisher(), life_cycle="manual")
    server.start()
    yield server
    server.stop()


def call(server, method, path, body=None, caller="project:tint", **query):
    """Call a method of v1 and return the response."""
    url = f"{server.url}/_ah/api/buildbucket/v1/{path}"
    headers = {"Authorization": f"Bearer fake:{caller}"}
    return requests.request(method, url, json=body, params=query, headers=headers, timeout=60)


def request_body(properties=None, **fields):
    """Return the body of a put."""
    parameters = {"builder_name": "mac-rel", "properties": properties or {}}
    return {"bucket": "luci.tint.ci", "parameters_json": json.dumps(parameters), **fields}


def put(server, caller="project:tint", **fields):
    """Create a build and return it."""
    reply = call(server, "PUT", "builds", request_body(**fields), caller).json()
    return reply["build"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tags": ["nocolon"]}, 'Invalid tag "nocolon": does not contain ":"'),
        ({"tags": [":x"]}, 'Invalid tag ":x": starts with ":"'),
        ({"tags": ["builder:other"]}, 'Invalid tag "builder:other": conflicts with builder_name parameter "mac-rel"'),
        ({"tags": ["build_address:x"]}, 'Tag "build_address" is reserved'),
        ({"tags": ["buildset:" + "x" * 1020]}, f'Invalid tag "buildset:{"x" * 1020}": buildset tag is too long'),
        (
            {"tags": [f"buildset:commit/gitiles/h/{name}/+/{SHA}" for name in "ab"]},
            "More than one commit/gitiles buildset",
        ),
        ({"client_operation_id": "a/b"}, "client_operation_id cannot contain /"),
        ({"parameters_json": "[]"}, "parameters_json is not a JSON object"),
        ({"parameters_json": "{}"}, "parameters_json.builder_name is required"),
        ({"parameters_json": '{"builder_name": "x", "properties": []}'}, None),
        ({"parameters_json": '{"builder_name": "x", "properties": 5}'}, '"properties" parameter is not a JSON object'),
    ],
)
def test_invalid_input(server, fields, message):
    """Invalid values are refused with HTTP 200 and a reason."""
    response = call(server, "PUT", "builds", {**request_body(), **fields})
    assert response.status_code == 200
    if message is None:
        assert "build" in response.json()
    else:
        assert response.json() == {"error": {"reason": "INVALID_INPUT", "message": message}}


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": None},
        {"bucket": 5},
        {"tags": "a:b"},
        {"tags": [1]},
        {"canary_preference": "MAYBE"},
        {"pubsub_callback": {}},
    ],
)
def test_bad_requests(server, fields):
    """An undecodable body is HTTP 400, without a reason."""
    response = call(server, "PUT", "builds", {**request_body(), **fields})
    assert response.status_code == 400
    assert response.json()["error"].keys() == {"message"}


def test_ids_must_be_numbers(server):
    """A malformed ID is HTTP 400, an unknown ID HTTP 200."""
    assert call(server, "GET", "builds/abc").status_code == 400
    assert call(server, "GET", "builds/1").json()["error"]["reason"] == "BUILD_NOT_FOUND"
    assert call(server, "POST", "builds/1/cancel", {}).json()["error"]["reason"] == "BUILD_NOT_FOUND"


def test_v1_lacks_the_limits_of_v2(server):
    """v1 accepts reserved properties and long tags."""
    properties = {"branch": "refs/heads/main", "repository": "https://h/r", "revision": SHA, "buildername": "x"}
    build = put(server, properties=properties, tags=["key" * 30 + ":" + "v" * 300])
    assert json.loads(build["parameters_json"])["properties"] == properties
    assert "key" * 30 + ":" + "v" * 300 in build["tags"]


def test_parameters_are_returned_rewritten(server):
    """Keys are sorted, and numbers are floats with few exceptions.

    Other parameters stay; the builder's own properties are absent.
    """
    server.add_builder(BuilderId("tint", "ci", "mac-rel"), BuilderConfig({"recipe": "tint"}))
    text = '{"properties":{"z":1,"a":{"issue":2,"t":true}},"builder_name":"mac-rel","changes":[{"id":3}]}'
    build = call(server, "PUT", "builds", {"bucket": "tint/ci", "parameters_json": text}).json()["build"]
    assert build["parameters_json"] == (
        '{"builder_name": "mac-rel", "changes": [{"id": 3.0}], "properties": {"a": {"issue": 2, "t": true}, "z": 1.0}}'
    )
    assert build["bucket"] == "luci.tint.ci"
    shown = prpc_json(call_prpc(server.url, "GetBuild", {"id": build["id"], "mask": {"fields": "input.properties"}}))
    assert shown["input"]["properties"] == {"a": {"issue": 2, "t": True}, "recipe": "tint", "z": 1}


def test_commit_from_tags(server):
    """A gitiles buildset becomes the commit, with the default ref if no tag names one."""
    build = put(server, tags=[f"buildset:commit/gitiles/dawn.googlesource.com/tint/+/{SHA}"])
    assert "gitiles_ref:refs/heads/master" in build["tags"]
    commit = prpc_json(call_prpc(server.url, "GetBuild", {"id": build["id"]}))["input"]["gitilesCommit"]
    assert commit == {"host": "dawn.googlesource.com", "project": "tint", "id": SHA, "ref": "refs/heads/master"}


def test_times_are_microseconds_in_strings(server):
    """Times are truncated to microseconds; each response has the clock's time."""
    build = put(server)
    assert build["created_ts"] == "1613684423573704"
    server.clock.advance(MINUTE)
    assert call(server, "GET", f"builds/{build['id']}").json()["build"]["utcnow_ts"] == "1613684483573704"


def test_tags_grow(server):
    """Tags are never removed. The bot adds tags, and a build number adds the build address."""
    server.add_builder(BuilderId("tint", "ci", "mac-rel"), BuilderConfig(next_number=9))
    build = put(server, tags=["a:b"])
    server.start_build(int(build["id"]))
    started = call(server, "GET", f"builds/{build['id']}").json()["build"]["tags"]
    server.end_build(int(build["id"]), Outcome("SUCCESS"))
    ended = call(server, "GET", f"builds/{build['id']}").json()["build"]["tags"]
    assert build["tags"] == sorted(build["tags"])
    assert {"a:b", "builder:mac-rel", "swarming_task_id:", "build_address:luci.tint.ci/mac-rel/9"} <= set(build["tags"])
    assert set(build["tags"]) - set(started) == {"swarming_task_id:"}
    assert set(ended) - set(started) == {"swarming_tag:os:Linux"}


class TestOperationId:
    """Deduplication."""

    def test_a_minute(self, server):
        """A repetition within sixty seconds returns the current build; afterwards it creates a new one."""
        first = put(server, client_operation_id="op")
        server.start_build(int(first["id"]))
        server.clock.advance(MINUTE - 1)
        again = put(server, client_operation_id="op", tags=["other:tag"])
        assert (again["id"], again["status"], "other:tag" in again["tags"]) == (first["id"], "STARTED", False)
        server.clock.advance(1)
        assert put(server, client_operation_id="op")["id"] != first["id"]

    def test_per_caller_and_best_effort(self, server):
        """IDs of different callers are independent; the cache may forget at any time."""
        first = put(server, client_operation_id="op")
        assert put(server, "a@b.c", client_operation_id="op")["id"] != first["id"]
        server.builds.forget_keys()
        assert put(server, client_operation_id="op")["id"] != first["id"]

    def test_validation_goes_first(self, server):
        """A malformed repetition fails."""
        put(server, client_operation_id="op")
        reply = call(server, "PUT", "builds", request_body(client_operation_id="op", tags=["bad"])).json()
        assert reply["error"]["reason"] == "INVALID_INPUT"


def test_callers_without_permission_are_refused(server):
    """A caller who may not read gets 403 or not-found, a caller who may not write gets 403, with the texts of v1."""
    build = put(server)
    server.registry.close_bucket("tint/ci", visible=True)
    cancel = call(server, "POST", f"builds/{build['id']}/cancel", {})
    text = f"User project:tint cannot cancel build {build['id']}"
    assert (cancel.status_code, cancel.json()) == (403, {"error": {"message": text}})
    server.registry.close_bucket("tint/ci")
    hidden = call(server, "PUT", "builds", request_body())
    text = "User project:tint cannot access bucket 'luci.tint.ci'"
    assert (hidden.status_code, hidden.json()) == (403, {"error": {"message": text}})
    assert call(server, "GET", f"builds/{build['id']}").json()["error"]["reason"] == "BUILD_NOT_FOUND"
    assert call(server, "GET", "search", bucket="luci.tint.ci").status_code == 403
    assert call(server, "GET", "buckets/luci.tint.ci").status_code == 403
    assert call(server, "PUT", "builds", request_body(bucket="nonsense")).status_code == 403


def test_batches_respond_item_by_item(server):
    """Batches respond item by item."""
    body = {"builds": [request_body(client_operation_id="a"), request_body(client_operation_id="b", tags=["bad"])]}
    results = call(server, "PUT", "builds/batch", body).json()["results"]
    assert [result["client_operation_id"] for result in results] == ["a", "b"]
    assert results[1]["error"]["reason"] == "INVALID_INPUT"
    build_id = results[0]["build"]["id"]
    results = call(server, "POST", "builds/cancel", {"build_ids": [build_id, "1"]}).json()["results"]
    assert (results[0]["build_id"], results[0]["build"]["result"]) == (build_id, "CANCELED")
    assert results[1]["error"]["reason"] == "BUILD_NOT_FOUND"
    assert call(server, "PUT", "builds/batch", {}).status_code == 400
    assert call(server, "PUT", "builds/batch", {"builds": [5]}).status_code == 400


def test_a_retry_creates_a_similar_build(server):
    """A retry creates a new build like the old one."""
    old = put(server, tags=["a:b"], properties={"x": 1})
    new = call(server, "PUT", f"builds/{old['id']}/retry", {"client_operation_id": "again"}).json()["build"]
    assert new["id"] != old["id"]
    assert new["parameters_json"] == old["parameters_json"]
    assert "a:b" in new["tags"]


class TestSearch:
    """Searches."""

    def test_builds_are_found_by_their_members(self, server):
        """Builds are found by tag, status, result, creator and time."""
        old = put(server, "a@b.c", tags=["n:1", "x:y"])
        server.clock.advance(MINUTE)
        new = put(server, tags=["n:2", "x:y"])
        server.end_build(int(old["id"]), Outcome("FAILURE"))

        def ids(**query):
            return [build["id"] for build in call(server, "GET", "search", **query).json().get("builds", [])]

        assert ids() == ids(bucket="luci.tint.ci") == ids(tag="x:y") == [new["id"], old["id"]]
        assert ids(tag=["x:y", "n:1"]) == ids(status="COMPLETED") == ids(created_by="user:a@b.c") == [old["id"]]
        assert ids(result="FAILURE", failure_reason="BUILD_FAILURE") == [old["id"]]
        assert ids(status="INCOMPLETE") == ids(status="SCHEDULED") == [new["id"]]
        assert ids(creation_ts_low=int(old["created_ts"]) + 1) == [new["id"]]
        assert ids(creation_ts_high=int(new["created_ts"])) == [old["id"]]
        assert ids(tag="n:3") == ids(bucket="luci.tint.try") == []

    def test_experimental_builds_match_only_on_request(self, server):
        """Experimental builds match only on request."""
        build = put(server, experimental=True)
        assert call(server, "GET", "search").json() == {}
        found = call(server, "GET", "search", include_experimental="true").json()["builds"]
        assert [item["id"] for item in found] == [build["id"]]

    def test_the_cursor_leads_through_all_builds(self, server):
        """The cursor leads through all builds; the last page has none."""
        made = {put(server)["id"] for _ in range(3)}
        first = call(server, "GET", "search", max_builds=2).json()
        second = call(server, "GET", "search", max_builds=2, start_cursor=first["next_cursor"]).json()
        assert {build["id"] for page in (first, second) for build in page["builds"]} == made
        assert "next_cursor" not in second
        assert call(server, "GET", "search", start_cursor="%%%").json()["error"]["reason"] == "INVALID_INPUT"
        assert call(server, "GET", "search", max_builds="x").status_code == 400


def test_partial_replies(server):
    """Each method can leave out fields."""
    build = put(server)
    reply = call(server, "GET", f"builds/{build['id']}", fields="build(id,status),error").json()
    assert reply == {"build": {"id": build["id"], "status": "SCHEDULED"}}
    assert call(server, "GET", f"builds/{build['id']}", fields="build(").status_code == 400


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("a", {"a": [{"b": 1, "c": 2}]}),
        ("a/b,d", {"a": [{"b": 1}], "d": 3}),
        ("*/c", {"a": [{"c": 2}], "d": 3}),
        ("e", {}),
    ],
)
def test_a_selector_applies_to_each_item(selector, expected):
    """A selector applies to each item of a list; * matches any name."""
    assert select_fields({"a": [{"b": 1, "c": 2}], "d": 3}, selector) == expected


@pytest.mark.parametrize("selector", ["", "a,", "a)", "(a"])
def test_bad_selectors(selector):
    """A selector with a syntax error is refused."""
    with pytest.raises(PartialError):
        select_fields({}, selector)


def test_other_replies(server):
    """Replies have no guard line and do not allow other origins. Wrong methods and paths are the front end's errors."""
    response = call(server, "GET", "buckets/luci.tint.ci")
    assert response.json() == {"name": "luci.tint.ci", "project_id": "tint"}
    assert not [name for name in response.headers if name.startswith("Access-Control-")]
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert call(server, "DELETE", "builds").status_code == 405
    assert call(server, "GET", "nowhere").status_code == 404
