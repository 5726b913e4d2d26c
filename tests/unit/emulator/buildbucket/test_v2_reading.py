"""The v2 API of Buildbucket: tags, searches, masks, keys and permissions."""

import pytest

from emulator.buildbucket import BuilderConfig, BuilderId, Outcome
from emulator.buildbucket.testing import call_prpc, prpc_json
from emulator.building.wire_time import format_timestamp
from luci_scheduler.core.instants import MINUTE
from tests.unit.emulator.buildbucket.support import BUILDER, COMMIT, START, get, schedule, tag


def test_tags_are_merged_and_sorted(server):
    """Tags are merged and sorted, derived tags are added, three keys are hidden, and a search finds all."""
    tags = [tag("z", "1"), tag("a", ""), tag("z", "1"), tag("z", "0")]
    build = schedule(server, tags=tags, gitilesCommit=COMMIT, mask={"fields": "id,tags"})
    buildset = f"commit/gitiles/h.googlesource.com/r/+/{'a' * 40}"
    assert build["tags"] == [{"key": "a", "value": ""}, tag("buildset", buildset), tag("z", "0"), tag("z", "1")]
    for key, value in (("builder", "x"), ("gitiles_ref", "refs/heads/main"), ("buildset", buildset)):
        assert [found["id"] for found in search(server, tags=[tag(key, value)])] == [build["id"]]
    assert search(server, tags=[tag("z", "0"), tag("z", "2")]) == []


def search(server, size=0, **predicate):
    """Search and return the builds."""
    request = {"predicate": predicate, "pageSize": size}
    return prpc_json(call_prpc(server.url, "SearchBuilds", request)).get("builds", [])


class TestSearch:
    """SearchBuilds."""

    def test_builds_are_found_newest_first(self, server):
        """Builds are found by builder, status, creator, time and ID, newest first."""
        old = schedule(server, "a@example.com")
        server.clock.advance(MINUTE)
        new = schedule(server)
        server.end_build(int(old["id"]), Outcome("FAILURE"))
        both = [new["id"], old["id"]]

        def ids(**predicate):
            return [build["id"] for build in search(server, **predicate)]

        assert ids() == ids(builder={"project": "p"}) == ids(builder=BUILDER) == both
        assert ids(builder={**BUILDER, "builder": "y"}) == []
        assert ids(status="ENDED_MASK") == ids(status="FAILURE") == ids(status=20) == [old["id"]]
        assert ids(createdBy="user:a@example.com") == ids(createdBy="a@example.com") == [old["id"]]
        middle = format_timestamp(START + MINUTE)
        assert ids(createTime={"startTime": middle}) == [new["id"]]
        assert ids(createTime={"endTime": middle}) == [old["id"]]
        assert ids(build={"startBuildId": new["id"], "endBuildId": new["id"]}) == [new["id"]]

    def test_a_full_last_page_has_a_token(self, server):
        """A full last page has a token, and the following page is empty."""
        made = [schedule(server)["id"] for _ in range(4)]
        seen, token, sizes = [], "", []
        while True:
            page = prpc_json(call_prpc(server.url, "SearchBuilds", {"pageSize": 2, "pageToken": token}))
            seen += [build["id"] for build in page.get("builds", [])]
            sizes.append(len(page.get("builds", [])))
            token = page.get("nextPageToken", "")
            if not token:
                break
            assert token == f"id>{seen[-1]}"
        assert (sorted(seen), sizes) == (sorted(made), [2, 2, 0])

    @pytest.mark.parametrize(
        ("request_fields", "reason"),
        [
            ({"pageSize": -1}, "page_size cannot be negative"),
            ({"pageToken": "x"}, "invalid page_token"),
            (
                {"predicate": {"builder": {"project": "p", "builder": "x"}}},
                "builder: bucket is required when builder is specified",
            ),
        ],
    )
    def test_malformed_searches_are_refused(self, server, request_fields, reason):
        """Malformed searches are code 3."""
        assert call_prpc(server.url, "SearchBuilds", request_fields).text == f"bad request: {reason}\n"

    def test_experimental_builds_match_only_on_request(self, server):
        """Experimental builds match only on request."""
        build = schedule(server, experiments={"luci.non_production": True})
        assert search(server) == []
        assert [found["id"] for found in search(server, includeExperimental=True)] == [build["id"]]
        assert len(search(server, experiments=["+luci.non_production"])) == 1

    def test_old_fields(self, server):
        """The paths of the older parameter begin with builds.*."""
        schedule(server)
        reply = prpc_json(call_prpc(server.url, "SearchBuilds", {"fields": "builds.*.status,next_page_token"}))
        assert reply == {"builds": [{"status": "SCHEDULED"}]}


class TestMasks:
    """The fields of replies."""

    def test_replies_have_default_fields(self, server):
        """By default tags, output, properties and other fields are left out; an empty input stays."""
        build = get(server, schedule(server, tags=[tag("a", "b")], properties={"x": 1}))
        assert build.keys() == {"id", "builder", "createdBy", "createTime", "updateTime", "status", "input"}
        assert build["input"] == {}

    def test_struct_masks(self, server):
        """Paths with wildcards select parts of properties; numbers as names must be quoted."""
        properties = {"a": {"x": 1, "y": 2}, "b": {"x": 3}, "7": "seven", "l": [{"x": 1, "z": 2}]}
        build = schedule(server, properties=properties)

        def picked(*paths):
            mask = {"inputProperties": [{"path": list(path)} for path in paths]}
            return get(server, build, mask=mask)["input"]["properties"]

        assert picked(["a"]) == {"a": {"x": 1, "y": 2}}
        assert picked(["*", "x"])["b"] == {"x": 3}
        assert picked(['"7"'], ["l", "*", "z"]) == {"7": "seven", "l": [{"z": 2}]}
        refused = call_prpc(server.url, "GetBuild", {"id": build["id"], "mask": {"inputProperties": [{"path": ["7"]}]}})
        assert refused.text.startswith("bad request: invalid mask: ")

    @pytest.mark.parametrize(
        ("fields", "is_fine"),
        [
            ({"fields": "id,steps.*.name"}, True),
            ({"fields": "*"}, True),
            ({"mask": {"fields": "steps.*.name"}}, False),
            ({"mask": {"fields": "id"}, "fields": "id"}, False),
            ({"mask": {"fields": "input.gitiles_commit"}}, True),
        ],
    )
    def test_only_the_older_parameter_has_the_extended_syntax(self, server, fields, is_fine):
        """Only the older parameter has the extended syntax, and the two parameters exclude each other."""
        build = schedule(server)
        server.start_build(int(build["id"]))
        response = call_prpc(server.url, "GetBuild", {"id": build["id"], **fields})
        assert response.status_code == (200 if is_fine else 400)
        if fields.get("fields") == "id,steps.*.name" and is_fine:
            assert prpc_json(response) == {"id": build["id"], "steps": [{"name": "setup_build"}]}


class TestKeysAndPermissions:
    """Keys of builds, and access."""

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ({}, "one of id or (builder and build_number) is required"),
            ({"builder": BUILDER}, "one of id or (builder and build_number) is required"),
            (
                {"id": "1", "buildNumber": 7, "builder": BUILDER},
                "id is mutually exclusive with (builder and build_number)",
            ),
        ],
    )
    def test_a_build_has_two_keys(self, server, key, reason):
        """The key of a build is its ID, or its builder and number."""
        for method in ("GetBuild", "GetBuildStatus"):
            assert call_prpc(server.url, method, key).text == f"bad request: {reason}\n"

    def test_status_by_number(self, server):
        """GetBuildStatus returns the keys of the request."""
        server.add_builder(BuilderId("p", "b", "x"), BuilderConfig(next_number=7))
        schedule(server)
        reply = prpc_json(call_prpc(server.url, "GetBuildStatus", {"builder": BUILDER, "buildNumber": 7}))
        assert reply == {"builder": BUILDER, "number": 7, "status": "SCHEDULED"}

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({}, "id is required"),
            ({"id": "1"}, "summary_markdown is required"),
            ({"id": "1", "summaryMarkdown": "x" * 4001}, "summary_markdown: too big to accept (4001 > 4000 bytes)"),
        ],
    )
    def test_cancel_refused(self, server, fields, reason):
        """A cancellation needs an id and a summary of at most 4000 bytes."""
        assert call_prpc(server.url, "CancelBuild", fields).text == f"bad request: {reason}\n"

    def test_closed_bucket(self, server):
        """Builds of a hidden bucket are not found; builds of a visible one may be read but not canceled."""
        build = schedule(server)
        cancel = {"id": build["id"], "summaryMarkdown": "x"}
        server.registry.close_bucket("p/b", allowed=frozenset({"user:a@b.c"}))
        for method, body in (
            ("GetBuild", {"id": build["id"]}),
            ("CancelBuild", cancel),
            ("ScheduleBuild", {"builder": BUILDER}),
        ):
            assert call_prpc(server.url, method, body).headers["X-Prpc-Grpc-Code"] == "5"
            assert call_prpc(server.url, method, body, caller="a@b.c").status_code == 200
        assert search(server) == []
        server.registry.close_bucket("p/b", visible=True)
        assert get(server, build)["id"] == build["id"]
        denied = call_prpc(server.url, "CancelBuild", cancel)
        assert denied.text == '"project:tint" does not have permission "buildbucket.builds.cancel" in bucket "p/b"\n'

    def test_batch_limits(self, server):
        """A batch has limits and a fixed set of kinds; an empty one is valid."""
        writes = [{"cancelBuild": {}}] * 201
        text = "bad request: the maximum allowed write request count in Batch is 200.\n"
        assert call_prpc(server.url, "Batch", {"requests": writes}).text == text
        assert call_prpc(server.url, "Batch", {"requests": [{"nope": {}}]}).status_code == 400
        mixed = [{"scheduleBuild": {"builder": BUILDER, "dryRun": dry}} for dry in (True, False)]
        assert call_prpc(server.url, "Batch", {"requests": mixed}).status_code == 400
        assert prpc_json(call_prpc(server.url, "Batch", {})) == {}

    def test_a_template_provides_the_request(self, server):
        """A template provides builder, properties and tags; the request's fields take precedence."""
        first = schedule(server, properties={"a": 1}, tags=[tag("t", "1")])
        request = {"templateBuildId": first["id"], "properties": {"b": 2}, "mask": {"allFields": True}}
        second = prpc_json(call_prpc(server.url, "ScheduleBuild", request))
        assert (second["builder"], second["input"]["properties"], second["tags"]) == (
            BUILDER,
            {"b": 2},
            [tag("t", "1")],
        )
        assert call_prpc(server.url, "ScheduleBuild", {"templateBuildId": "5"}).status_code == 404
