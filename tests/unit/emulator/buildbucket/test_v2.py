"""The v2 API of Buildbucket: errors, deduplication, IDs, tags, masks, searches and permissions."""

import base64

import pytest

from emulator.buildbucket import BuilderConfig, BuilderId
from emulator.buildbucket.identifiers import build_id_at, created_at
from emulator.buildbucket.testing import ScriptedEntropy, call_prpc, prpc_json
from luci_scheduler.core.instants import MINUTE
from tests.unit.emulator.buildbucket.support import BUILDER, COMMIT, START, schedule, tag

TOPIC = "projects/my-project/topics/builds"


def encoded(size):
    """Return base64 of this many bytes."""
    return base64.b64encode(b"x" * size).decode()


GITILES_REGEX = r"^commit/gitiles/([^/]+)/(.+?)/\+/([a-f0-9]{40})$"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"builder": None}, "builder or template_build_id is required"),
        ({"builder": {**BUILDER, "project": "P"}}, r'builder: project must match "^[a-z0-9\\-_]+$"'),
        ({"builder": {**BUILDER, "bucket": ""}}, "builder: bucket is required"),
        ({"builder": {**BUILDER, "bucket": "B"}}, r'builder: bucket must match "^[a-z0-9\\-_.]{1,100}$"'),
        (
            {"builder": {**BUILDER, "bucket": "luci.p.ci"}},
            'builder: invalid use of v1 bucket in v2 API (hint: try "ci")',
        ),
        ({"builder": {**BUILDER, "builder": ""}}, "builder: builder is required"),
        ({"builder": {**BUILDER, "builder": "a/b"}}, r'builder: builder must match "^[a-zA-Z0-9\\-_.\\(\\) ]{1,128}$"'),
        ({"properties": {"repository": 1}}, 'properties: "repository" must not be specified'),
        ({"properties": {"buildername": None}}, 'properties: "buildername" must not be specified'),
        (
            {"properties": {"$recipe_engine/runtime": {"is_luci": True}}},
            'properties: "$recipe_engine/runtime.is_luci" must not be specified',
        ),
        ({"gitilesCommit": {**COMMIT, "host": ""}}, "gitiles_commit: host is required"),
        ({"gitilesCommit": {**COMMIT, "project": ""}}, "gitiles_commit: project is required"),
        ({"gitilesCommit": {**COMMIT, "ref": ""}}, "gitiles_commit: ref is required"),
        ({"gitilesCommit": {**COMMIT, "ref": "main"}}, "gitiles_commit: ref must match refs/.*"),
        ({"gitilesCommit": {**COMMIT, "id": "A" * 40}}, 'gitiles_commit: id must match "^[a-f0-9]{40}$"'),
        ({"gitilesCommit": {**COMMIT, "ref": "", "position": 3}}, "gitiles_commit: position requires ref"),
        ({"tags": [tag("a:b", "c")]}, 'tags: tag key "a:b" cannot have a colon'),
        ({"tags": [tag("", "c")]}, "tags: the key cannot be empty"),
        ({"tags": [tag("k" * 70, "c")]}, "tags: the key should be no longer than 64 (got 70)"),
        ({"tags": [tag("k", "v" * 300)]}, "tags: the value should be no longer than 256 (got 300)"),
        ({"tags": [tag("k", " v")]}, "tags: the value should have no leading or trailing spaces"),
        ({"tags": [tag("build_address", "v")]}, 'tags: tag "build_address" is reserved'),
        ({"tags": [tag("builder", "a"), tag("builder", "b")]}, 'tags: tag "builder:b" conflicts with tag "builder:a"'),
        ({"tags": [tag("buildset", "commit/gitiles/h/r/+/main")]}, f'tags: does not match regex "{GITILES_REGEX}"'),
        (
            {"tags": [tag("buildset", f"commit/gitiles/h/r.git/+/{'a' * 40}")]},
            'tags: gitiles project must not end with ".git"',
        ),
        (
            {"tags": [tag("buildset", "patch/gerrit/h/x/1")]},
            r'tags: does not match regex "^patch/gerrit/([^/]+)/(\d+)/(\d+)$"',
        ),
        ({"priority": 256}, "priority must be in [0, 255]"),
        ({"notify": {}}, "notify: pubsub_topic must be specified"),
        ({"notify": {"pubsubTopic": TOPIC, "userData": encoded(4097)}}, "notify: user_data cannot exceed 4096 bytes"),
        (
            {"notify": {"pubsubTopic": "projects/my-project/topics/missing"}},
            (
                "notify: cr-buildbucket@appspot.gserviceaccount.com account doesn't have the 'pubsub.topics.publish' "
                "or 'pubsub.topics.get' permission for projects/my-project/topics/missing"
            ),
        ),
        ({"requestId": "a/b"}, "request_id cannot contain '/'"),
        ({"requestId": "__bb__:x"}, "request_id cannot start with '__bb__:'"),
        (
            {"mask": {"allFields": True, "fields": "id"}},
            "invalid mask: mask.AllFields is mutually exclusive with other mask fields",
        ),
        (
            {"mask": {"fields": "nope"}},
            'invalid mask: invalid path "nope": field "nope" does not exist in message Build',
        ),
        ({"canOutliveParent": "YES"}, "can_outlive_parent is specified without a parent build"),
    ],
)
def test_errors_of_schedule_build(server, publisher, fields, reason):
    """Each error of a request is code 3 with the service's text, and creates no build."""
    publisher.missing.add("projects/my-project/topics/missing")
    request = {name: value for name, value in {"builder": BUILDER, **fields}.items() if value is not None}
    response = call_prpc(server.url, "ScheduleBuild", request)
    assert (response.status_code, response.headers["X-Prpc-Grpc-Code"]) == (400, "3")
    assert response.text == f"bad request: {reason}\n"
    assert list(server.builds.newest_first()) == []


@pytest.mark.parametrize(
    "topic",
    ["builds", "projects/P/topics/builds", "projects/my-project/topics/goog-x", "projects/my-project/topics/ab"],
)
def test_bad_topics(server, topic):
    """The name of a topic must follow the rules of Pub/Sub."""
    response = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "notify": {"pubsubTopic": topic}})
    assert response.text.startswith(f"bad request: notify: invalid pubsub_topic {topic}: ")


def test_a_usable_topic_is_remembered(server, publisher):
    """A usable topic is checked once in ten hours, an unusable one every time."""
    publisher.missing.add(TOPIC)
    request = {"builder": BUILDER, "notify": {"pubsubTopic": TOPIC}}
    assert call_prpc(server.url, "ScheduleBuild", request).status_code == 400
    publisher.missing.clear()
    assert call_prpc(server.url, "ScheduleBuild", request).status_code == 200
    publisher.missing.add(TOPIC)
    assert call_prpc(server.url, "ScheduleBuild", request).status_code == 200
    server.clock.advance(601 * MINUTE)
    assert call_prpc(server.url, "ScheduleBuild", request).status_code == 400


def test_the_builders_properties_are_added(server):
    """The revision is allowed, numbers become doubles, and the builder's own properties are added."""
    server.add_builder(BuilderId("p", "b", "x"), BuilderConfig({"recipe": "r", "open": 1}, frozenset({"open"})))
    properties = {"revision": "abc", "one": 1.0, "big": 2**60 + 1, "deep": {"list": [1.5, None, True]}}
    build = schedule(server, properties=properties | {"open": 2}, mask={"fields": "input.properties,id"})
    assert build["input"]["properties"] == {
        "recipe": "r", "open": 2, "revision": "abc", "one": 1, "big": 2**60, "deep": {"list": [1.5, None, True]},
    }  # fmt: skip
    refused = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "properties": {"recipe": "other"}})
    assert (
        refused.text == 'generating build from request: builder "p/b/x": property "recipe": invalid property override\n'
    )
    assert (
        call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "properties": {"recipe": "r"}}).status_code == 200
    )


def test_unknown_builder(server):
    """In strict mode only registered builders and their buckets exist."""
    server.registry.strict = True
    server.add_builder(BuilderId("p", "b", "other"))
    response = call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER})
    assert (response.status_code, response.text) == (404, 'builder not found: "x"\n')
    elsewhere = call_prpc(server.url, "ScheduleBuild", {"builder": {**BUILDER, "bucket": "none"}})
    assert elsewhere.text.startswith('requested resource not found or "project:tint"')


class TestRequestId:
    """Deduplication."""

    def test_a_repeated_request_returns_the_build(self, server, publisher):
        """A repetition returns the build under the new mask, ignores the rest and announces nothing."""
        first = schedule(server, requestId="r", notify={"pubsubTopic": TOPIC})
        server.start_build(int(first["id"]))
        published = len(publisher.messages)
        again = schedule(
            server, requestId="r", builder={**BUILDER, "builder": "y"}, mask={"fields": "id,status,builder"}
        )
        assert again == {"id": first["id"], "status": "STARTED", "builder": BUILDER}
        assert len(publisher.messages) == published == 2

    def test_per_caller(self, server):
        """Two callers may use the same ID."""
        first, second = schedule(server, requestId="r"), schedule(server, "a@example.com", requestId="r")
        assert first["id"] != second["id"]
        assert second["createdBy"] == "user:a@example.com"
        assert schedule(server, "nobody", requestId="q")["createdBy"] == "user:nobody"

    def test_a_request_id_is_forgotten_after_a_minute(self, server):
        """After a minute the ID is forgotten; with None it never is."""
        first = schedule(server, requestId="r")
        server.clock.advance(MINUTE - 1)
        assert schedule(server, requestId="r")["id"] == first["id"]
        server.clock.advance(1)
        second = schedule(server, requestId="r")
        assert second["id"] != first["id"]
        server.request_id_memory = None
        server.clock.advance(1000 * MINUTE)
        assert schedule(server, requestId="r")["id"] == second["id"]

    def test_checked_first(self, server):
        """A malformed or forbidden repetition fails.

        A failed request leaves no record; a dry run neither reads nor writes.
        """
        assert (
            call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "requestId": "r", "priority": 999}).status_code
            == 400
        )
        assert "id" not in schedule(server, requestId="r", dryRun=True)
        first = schedule(server, requestId="r")
        assert "id" not in schedule(server, requestId="r", dryRun=True)
        assert (
            call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "requestId": "r", "priority": 999}).status_code
            == 400
        )
        server.registry.close_bucket("p/b", visible=True)
        assert call_prpc(server.url, "ScheduleBuild", {"builder": BUILDER, "requestId": "r"}).status_code == 403
        server.registry.open_bucket("p/b")
        assert schedule(server, requestId="r")["id"] == first["id"]


def test_ids_decrease_over_time(server):
    """An ID contains its time to the millisecond. Later builds have smaller IDs; those of a batch descend by 16."""
    first = int(schedule(server)["id"])
    server.clock.advance(10**6)
    second = int(schedule(server)["id"])
    assert second < first
    assert created_at(first) == START // 10**6 * 10**6
    assert (first & 15, build_id_at(START, ScriptedEntropy(), "v1") & 15) == (1, 0)
    batch = {
        "requests": [
            {"scheduleBuild": {"builder": BUILDER}},
            {"scheduleBuild": {}},
            {"scheduleBuild": {"builder": BUILDER}},
        ]
    }
    replies = prpc_json(call_prpc(server.url, "Batch", batch))["responses"]
    assert int(replies[0]["scheduleBuild"]["id"]) - int(replies[2]["scheduleBuild"]["id"]) == 16
    assert replies[1]["error"] == {"code": 3, "message": "bad request: builder or template_build_id is required"}
