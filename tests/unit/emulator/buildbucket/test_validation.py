"""Checks of requests, with the texts of the real service."""

from typing import Any

import pytest

from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.validation import (
    InvalidError,
    builder_from_json,
    check_buildset,
    check_callback,
    check_commit,
    check_properties,
    check_request_id,
    check_schedule,
    check_tags,
    gitiles_buildsets,
    topic_fault,
)

BUILDER = {"project": "p", "bucket": "ci", "builder": "Linux (dbg)"}
COMMIT = {"host": "h", "project": "r", "id": "a" * 40, "ref": "refs/heads/main"}
TOPIC = "projects/my-project/topics/my-topic"


def reason(check: Any, *arguments: Any) -> str:
    """Return the error of a check."""
    with pytest.raises(InvalidError) as caught:
        check(*arguments)
    return str(caught.value)


def accepts(check: Any, *arguments: Any) -> bool:
    """Whether a check finds no error."""
    try:
        check(*arguments)
    except InvalidError:
        return False
    return True


def test_a_builder() -> None:
    assert builder_from_json(BUILDER) == BuilderId("p", "ci", "Linux (dbg)")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"project": "P"}, r'builder: project must match "^[a-z0-9\\-_]+$"'),
        ({"project": ""}, r'builder: project must match "^[a-z0-9\\-_]+$"'),
        ({"bucket": ""}, "builder: bucket is required"),
        ({"bucket": "luci.p.ci"}, 'builder: invalid use of v1 bucket in v2 API (hint: try "ci")'),
        ({"bucket": "luci.p.ci.x"}, 'builder: invalid use of v1 bucket in v2 API (hint: try "ci.x")'),
        ({"bucket": "CI"}, r'builder: bucket must match "^[a-z0-9\\-_.]{1,100}$"'),
        ({"bucket": "a" * 101}, r'builder: bucket must match "^[a-z0-9\\-_.]{1,100}$"'),
        ({"builder": ""}, "builder: builder is required"),
        ({"builder": "a/b"}, r'builder: builder must match "^[a-zA-Z0-9\\-_.\\(\\) ]{1,128}$"'),
    ],
)
def test_a_bad_builder(fields: dict[str, str], expected: str) -> None:
    assert reason(builder_from_json, {**BUILDER, **fields}) == expected


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [("a/b", "request_id cannot contain '/'"), ("__bb__:x", "request_id cannot start with '__bb__:'")],
)
def test_a_bad_request_id(request_id: str, expected: str) -> None:
    assert reason(check_request_id, request_id) == expected
    check_request_id("fine:__bb__:")


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"buildbucket": 1}, "buildbucket"),
        ({"$recipe_engine/buildbucket": None}, "$recipe_engine/buildbucket"),
        ({"$recipe_engine/runtime": {"is_luci": True}}, "$recipe_engine/runtime.is_luci"),
        ({"$recipe_engine/runtime": {"is_experimental": 0}}, "$recipe_engine/runtime.is_experimental"),
        ({"branch": ""}, "branch"),
        ({"buildername": "b"}, "buildername"),
        ({"repository": "r"}, "repository"),
    ],
)
def test_a_reserved_property(properties: dict[str, Any], name: str) -> None:
    assert reason(check_properties, properties) == f'properties: "{name}" must not be specified'


def test_other_properties() -> None:
    assert accepts(check_properties, {"$recipe_engine/runtime": {"other": 1}, "branches": 1})
    assert accepts(check_properties, {"$recipe_engine/runtime": "no object"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": ""}, "host is required"),
        ({"project": ""}, "project is required"),
        ({"project": "/r"}, 'project must not start with "/"'),
        ({"project": "r.git"}, 'project must not end with ".git"'),
        ({"id": "A" * 40}, 'id must match "^[a-f0-9]{40}$"'),
        ({"id": "a" * 39}, 'id must match "^[a-f0-9]{40}$"'),
        ({"ref": ""}, "ref is required"),
        ({"ref": "", "position": 5}, "position requires ref"),
        ({"ref": "main"}, "ref must match refs/.*"),
    ],
)
def test_a_bad_commit(fields: dict[str, Any], expected: str) -> None:
    assert reason(check_commit, {**COMMIT, **fields}) == f"gitiles_commit: {expected}"


def test_a_commit_needs_no_id() -> None:
    assert accepts(check_commit, {**COMMIT, "id": ""})


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (("", "v"), "the key cannot be empty"),
        (("a:b", "v"), 'tag key "a:b" cannot have a colon'),
        (("k" * 65, "v"), "the key should be no longer than 64 (got 65)"),
        (("k", "v" * 257), "the value should be no longer than 256 (got 257)"),
        (("k", "ü" * 129), "the value should be no longer than 256 (got 258)"),
        (("k", " v"), "the value should have no leading or trailing spaces"),
        (("build_address", "x"), 'tag "build_address" is reserved'),
        (("buildset", "commit/gitiles/x"), None),
    ],
)
def test_a_bad_tag(tag: tuple[str, str], expected: str | None) -> None:
    text = reason(check_tags, [tag])
    assert text == f"tags: {expected}" if expected else text.startswith("tags: does not match regex")


def test_tags_name_one_builder() -> None:
    check_tags([("builder", "a"), ("builder", "a"), ("k", "v" * 256), ("k" * 64, "")])
    assert reason(check_tags, [("builder", "a"), ("builder", "b")]) == (
        'tags: tag "builder:b" conflicts with tag "builder:a"'
    )


@pytest.mark.parametrize(
    ("buildset", "expected"),
    [
        (f"commit/gitiles/h/r/sub/+/{'a' * 40}", ""),
        ("patch/gerrit/h/1/2", ""),
        ("anything", ""),
        (f"commit/gitiles/h/a/r/+/{'a' * 40}", 'gitiles project must not start with "a/"'),
        (f"commit/gitiles/h/r.git/+/{'a' * 40}", 'gitiles project must not end with ".git"'),
        ("patch/gerrit/h/1", r'does not match regex "^patch/gerrit/([^/]+)/(\d+)/(\d+)$"'),
        ("x" * 1016, "buildset tag is too long"),
        ("x" * 1015, ""),
    ],
)
def test_a_buildset(buildset: str, expected: str) -> None:
    assert check_buildset(buildset) == expected


def test_commits_in_tags() -> None:
    tags = [("buildset", f"commit/gitiles/h/r/+/{'a' * 40}"), ("buildset", "patch/gerrit/h/1/2"), ("other", "x")]
    assert gitiles_buildsets(tags) == [("h", "r", "a" * 40)]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (TOPIC, ""),
        ("projects/google.com:p/topics/my-topic", ""),
        ("topics/t", 'topic must match "projects/<project>/topics/<topic>"'),
        ("projects/P/topics/my-topic", 'pubsub project id "P" does not match '),
        ("projects/my-project/topics/goog-x", 'pubsub topic id "goog-x" does not match '),
        ("projects/my-project/topics/ab", 'pubsub topic id "ab" does not match '),
        ("projects/my-project/topics/1topic", 'pubsub topic id "1topic" does not match '),
    ],
)
def test_a_topic(topic: str, expected: str) -> None:
    fault = topic_fault(topic)
    assert fault.startswith(expected)
    assert bool(fault) == bool(expected)


@pytest.mark.parametrize(
    ("topic", "size", "expected"),
    [
        ("", 0, "notify: pubsub_topic must be specified"),
        (TOPIC, 4097, "notify: user_data cannot exceed 4096 bytes"),
        ("x", 0, 'notify: invalid pubsub_topic x: topic must match "projects/<project>/topics/<topic>"'),
    ],
)
def test_a_bad_callback(topic: str, size: int, expected: str) -> None:
    assert reason(check_callback, topic, b"x" * size) == expected
    check_callback(TOPIC, b"x" * 4096)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"builder": None}, "builder or template_build_id is required"),
        ({"priority": 256}, "priority must be in [0, 255]"),
        ({"priority": -1}, "priority must be in [0, 255]"),
        ({"schedulingTimeout": -1}, "scheduling_timeout: cannot be negative"),
        ({"executionTimeout": -1}, "execution_timeout: cannot be negative"),
        ({"gracePeriod": -1}, "grace_period: cannot be negative"),
        ({"canOutliveParent": True}, "can_outlive_parent is specified without a parent build"),
        ({"gerritChanges": [{"host": "h"}]}, "gerrit_changes[0]: change must be specified"),
        ({"tags": [{"value": "v"}]}, "tags: the key cannot be empty"),
        ({"gitilesCommit": {}}, "gitiles_commit: host is required"),
        ({"notify": {}}, "notify: pubsub_topic must be specified"),
        ({"properties": {"branch": 1}}, 'properties: "branch" must not be specified'),
    ],
)
def test_a_bad_request(fields: dict[str, Any], expected: str) -> None:
    request = {name: value for name, value in {"builder": BUILDER, **fields}.items() if value is not None}
    assert reason(check_schedule, request) == expected


def test_the_first_error_is_reported() -> None:
    """The order is that of the service: builder, properties, commit, tags, priority."""
    request = {
        "builder": {**BUILDER, "project": "P"},
        "properties": {"branch": 1},
        "gitilesCommit": {},
        "priority": 999,
    }
    found = []
    for repaired in ("builder", "properties", "gitilesCommit", "priority"):
        found.append(reason(check_schedule, request).partition(" ")[0])
        request[repaired] = {"builder": BUILDER, "properties": {}, "gitilesCommit": COMMIT, "priority": 0}[repaired]
    check_schedule(request)
    assert found == ["builder:", "properties:", "gitiles_commit:", "priority"]
