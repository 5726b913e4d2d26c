"""Masks: the fields of a build that a reply contains."""

from typing import Any

import pytest

from emulator.buildbucket.masks import DEFAULT_FIELDS, BuildMask, MaskError

BUILD: dict[str, Any] = {
    "id": "1",
    "status": "SUCCESS",
    "builder": {"project": "p", "bucket": "ci", "builder": "linux"},
    "input": {
        "properties": {"a": {"b": 1, "c": 2}, "list": [{"x": 1, "y": 2}, {"x": 3}], "10": "ten", "*": "star"},
        "gitilesCommit": {"host": "h", "id": "abc"},
        "experimental": True,
    },
    "output": {"properties": {"out": 1}},
    "tags": [{"key": "a", "value": "b"}],
    "steps": [{"name": "one", "status": "SUCCESS"}, {"name": "two", "status": "FAILURE"}],
    "infra": {"buildbucket": {"hostname": "h", "requestedProperties": {"a": 1}}},
}


def masked(**mask: Any) -> dict[str, Any]:
    """Return the build under a mask."""
    return BuildMask.parse(mask, []).apply(BUILD)


def old_fields(*fields: str, prefix: str = "") -> dict[str, Any]:
    """Return the build under the older parameter."""
    return BuildMask.parse(None, list(fields), prefix=prefix).apply(BUILD)


@pytest.mark.parametrize("mask", [None, {}, {"fields": []}])
def test_without_a_mask_a_reply_has_the_default_fields(mask: dict[str, Any] | None) -> None:
    assert BuildMask.parse(mask, []).apply(BUILD) == {
        "id": "1",
        "status": "SUCCESS",
        "builder": BUILD["builder"],
        "input": {"gitilesCommit": BUILD["input"]["gitilesCommit"], "experimental": True},
    }
    assert "tags" not in DEFAULT_FIELDS


def test_paths_select_fields_and_parts_of_fields() -> None:
    assert masked(fields=["id", "builder.project", "builder.bucket"]) == {
        "id": "1",
        "builder": {"project": "p", "bucket": "ci"},
    }


@pytest.mark.parametrize("fields", [["builder", "builder.project"], ["builder.project", "builder"]])
def test_a_whole_field_includes_its_parts(fields: list[str]) -> None:
    assert masked(fields=fields) == {"builder": BUILD["builder"]}


def test_absent_fields_are_left_out() -> None:
    assert masked(fields=["number", "output.gitilesCommit"]) == {"output": {}}


def test_all_fields() -> None:
    assert masked(allFields=True) == BUILD


@pytest.mark.parametrize("other", [{"fields": ["id"]}, {"inputProperties": [{"path": ["a"]}]}])
def test_all_fields_exclude_other_members(other: dict[str, Any]) -> None:
    with pytest.raises(MaskError, match=r"mask\.AllFields is mutually exclusive"):
        masked(allFields=True, **other)


def test_mask_and_fields_exclude_each_other() -> None:
    with pytest.raises(MaskError, match="can't be used together"):
        BuildMask.parse({}, ["id"])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", 'invalid path "nothing": field "nothing" does not exist in message Build'),
        ("builder.nothing", 'invalid path "builder.nothing": field "nothing" does not exist in message BuilderID'),
        ("id.x", 'invalid path "id.x": field "x" does not exist in message int64'),
        ("*", 'invalid path "*": field "*" does not exist in message Build'),
        ("tags.key", 'field mask path "tags.key": a repeated field is only allowed in the last position'),
        ("steps.*.name", 'field mask path "steps.*.name": a repeated field is only allowed in the last position'),
        ("", 'invalid path "": field "" does not exist in message Build'),
    ],
)
def test_a_bad_path(path: str, reason: str) -> None:
    with pytest.raises(MaskError) as caught:
        masked(fields=[path])
    assert str(caught.value) == reason


class TestOldFields:
    """The older parameter, which knows wildcards."""

    def test_a_star_selects_all(self) -> None:
        assert old_fields("*") == BUILD

    def test_a_star_matches_the_items_of_a_list(self) -> None:
        assert old_fields("id", "steps.*.name") == {"id": "1", "steps": [{"name": "one"}, {"name": "two"}]}

    def test_a_list_needs_a_star(self) -> None:
        with pytest.raises(MaskError, match=r"expected \* after a repeated field"):
            old_fields("steps.name")

    def test_paths_of_a_list_of_builds_have_a_prefix(self) -> None:
        """Other paths do not concern builds."""
        assert old_fields("builds.*.id", "nextPageToken", prefix="builds.*.") == {"id": "1"}


class TestSteps:
    """The status of steps."""

    def test_steps_are_selected_by_status(self) -> None:
        assert masked(fields=["steps"], stepStatus=["FAILURE"]) == {"steps": [BUILD["steps"][1]]}

    def test_a_status_does_not_add_steps(self) -> None:
        assert masked(fields=["id"], stepStatus=["FAILURE"]) == {"id": "1"}

    def test_a_status_works_with_all_fields(self) -> None:
        assert masked(allFields=True, stepStatus=["SUCCESS"])["steps"] == [BUILD["steps"][0]]


class TestStructs:
    """Masks of properties."""

    def properties(self, *paths: list[str]) -> Any:
        """Return the input's properties under masks."""
        return masked(fields=["id"], inputProperties=[{"path": path} for path in paths])["input"]["properties"]

    @pytest.mark.parametrize(
        ("paths", "expected"),
        [
            ([["a"]], {"a": {"b": 1, "c": 2}}),
            ([["a", "b"]], {"a": {"b": 1}}),
            ([["a", "b"], ["a", "c"]], {"a": {"b": 1, "c": 2}}),
            ([["a", "b"], ["a"]], {"a": {"b": 1, "c": 2}}),
            ([["list", "*", "x"]], {"list": [{"x": 1}, {"x": 3}]}),
            ([["list", "x"]], {"list": []}),
            ([["a", "b", "deeper"]], {"a": {"b": None}}),
            ([['"10"']], {"10": "ten"}),
            ([['"*"']], {"*": "star"}),
            ([["nothing"]], {}),
        ],
    )
    def test_a_path(self, paths: list[list[str]], expected: Any) -> None:
        assert self.properties(*paths) == expected

    def test_a_star_matches_any_name(self) -> None:
        assert self.properties(["*", "b"])["a"] == {"b": 1}

    @pytest.mark.parametrize("path", [["10"], ["-1"], ["a*"]])
    def test_numbers_and_stars_in_names_are_quoted(self, path: list[str]) -> None:
        with pytest.raises(MaskError, match="must be quoted"):
            self.properties(path)

    def test_a_mask_needs_a_path(self) -> None:
        with pytest.raises(MaskError, match="a struct mask needs a path"):
            self.properties([])

    def test_output_and_requested_properties(self) -> None:
        mask = {"outputProperties": [{"path": ["out"]}], "requestedProperties": [{"path": ["none"]}]}
        reply = masked(fields=["id"], **mask)
        assert reply == {
            "id": "1",
            "output": {"properties": {"out": 1}},
            "infra": {"buildbucket": {"requestedProperties": {}}},
        }


def test_a_mask_does_not_change_the_build() -> None:
    reply = masked(fields=["input"], inputProperties=[{"path": ["a", "b"]}])
    assert reply["input"]["properties"] == {"a": {"b": 1}}
    assert BUILD["input"]["properties"]["a"] == {"b": 1, "c": 2}
