"""JSON of protocol buffers, decoded by the schema."""

from typing import Any

import pytest

from emulator.buildbucket.protojson import DecodeError, camel_case, decode_message, normalize_struct
from luci_scheduler.core.instants import SECOND


def schedule(**fields: Any) -> dict[str, Any]:
    """Decode a ScheduleBuildRequest."""
    return decode_message("ScheduleBuildRequest", fields)


@pytest.mark.parametrize(
    ("name", "json_name"), [("build_number", "buildNumber"), ("id", "id"), ("a_1b", "a1b"), ("aB", "aB")]
)
def test_the_json_name_of_a_field(name: str, json_name: str) -> None:
    assert camel_case(name) == json_name


def test_both_names_are_accepted_and_unknown_ones_are_dropped() -> None:
    assert schedule(request_id="r", dryRun=True, nonsense=1, not_a_field={}) == {"requestId": "r", "dryRun": True}


def test_a_field_under_both_names_is_refused() -> None:
    with pytest.raises(DecodeError, match='duplicate field "requestId"'):
        decode_message("ScheduleBuildRequest", {"request_id": "a", "requestId": "b"})


@pytest.mark.parametrize("value", [None, "", False, 0, [], "0"])
def test_nulls_and_defaults_are_left_out(value: Any) -> None:
    names = {str: "requestId", bool: "dryRun", int: "priority", list: "tags", type(None): "builder"}
    name = "priority" if value == "0" else names[type(value)]
    assert schedule(**{name: value}) == {}


def test_an_empty_message_is_kept() -> None:
    assert schedule(builder={}, properties={}) == {"builder": {}, "properties": {}}


@pytest.mark.parametrize(
    ("value", "number"),
    [("9223372036854775807", 2**63 - 1), (5, 5), (5.0, 5), ("-7", -7), (1e3, 1000)],
)
def test_an_int64(value: Any, number: int) -> None:
    assert decode_message("GetBuildRequest", {"id": value}) == {"id": number}


@pytest.mark.parametrize(
    "value", ["", "01", "1.0", "x", " 1", True, 1.5, "9223372036854775808", [], {}, "+1", float("inf")]
)
def test_no_int64(value: Any) -> None:
    with pytest.raises(DecodeError, match="invalid value for int64 field id: "):
        decode_message("GetBuildRequest", {"id": value})


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_an_int32_has_its_range(value: int) -> None:
    with pytest.raises(DecodeError, match=f"invalid value for int32 field priority: {value}"):
        schedule(priority=value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dryRun": "true"}, 'invalid value for bool field dryRun: "true"'),
        ({"requestId": 1}, "invalid value for string field requestId: 1"),
        ({"tags": {}}, "unexpected token {} for repeated field tags"),
        ({"tags": ["x"]}, 'unexpected token "x" for message buildbucket.v2.StringPair'),
        ({"builder": []}, "unexpected token [] for message buildbucket.v2.BuilderID"),
        ({"builder": True}, "unexpected token true for message buildbucket.v2.BuilderID"),
        ({"experiments": []}, "unexpected token [] for map field experiments"),
        ({"properties": 5}, "unexpected token 5 for google.protobuf.Struct field properties"),
        ({"schedulingTimeout": "1"}, "invalid google.protobuf.Duration value '1' for field schedulingTimeout"),
        ({"notify": {"userData": "?"}}, 'invalid value for bytes type: "?" for field userData'),
    ],
)
def test_a_value_of_the_wrong_type(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        schedule(**fields)
    assert str(caught.value) == reason


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(DecodeError) as caught:
        schedule(dryRun="x" * 100)
    assert str(caught.value) == f'invalid value for bool field dryRun: "{"x" * 40}"'


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("-_-_", b"\xfb\xff\xbf"),
        ("+/+/", b"\xfb\xff\xbf"),
        ("YWJj", b"abc"),
        ("YWI=", b"ab"),
        ("YWI", b"ab"),
        ("YQ==", b"a"),
        ("YQ", b"a"),
    ],
)
def test_bytes_in_both_alphabets_with_or_without_padding(text: str, data: bytes) -> None:
    assert schedule(notify={"userData": text})["notify"]["userData"] == data


def test_times_and_durations_are_nanoseconds() -> None:
    predicate = {"createTime": {"startTime": "1970-01-01T00:00:01.5Z"}}
    decoded = decode_message("SearchBuildsRequest", {"predicate": predicate})
    assert decoded["predicate"]["createTime"]["startTime"] == 3 * SECOND // 2
    assert schedule(gracePeriod="30s")["gracePeriod"] == 30 * SECOND


def test_a_field_mask_is_a_list_of_json_paths() -> None:
    decoded = decode_message("GetBuildRequest", {"fields": "id,create_time,input.gitiles_commit"})
    assert decoded["fields"] == ["id", "createTime", "input.gitilesCommit"]
    assert decode_message("GetBuildRequest", {"fields": ""}) == {}


@pytest.mark.parametrize(("value", "status"), [("SUCCESS", "SUCCESS"), (12, "SUCCESS"), (68, "CANCELED"), (99, 99)])
def test_an_enum_by_name_or_number(value: Any, status: Any) -> None:
    assert decode_message("SearchBuildsRequest", {"predicate": {"status": value}})["predicate"]["status"] == status


def test_a_map_keeps_its_keys() -> None:
    assert schedule(experiments={"luci.use_x": True, "other_one": False})["experiments"] == {
        "luci.use_x": True,
        "other_one": False,
    }


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        (1, 1), (1.0, 1), (1.5, 1.5), (True, True), (None, None), ("1", "1"), (2**53 + 1, 2**53), (1e21, 1e21),
        ({"a": [1.0, {"b": 2.0}]}, {"a": [1, {"b": 2}]}),
    ],
)  # fmt: skip
def test_numbers_of_a_struct_are_doubles(value: Any, normal: Any) -> None:
    assert normalize_struct(value) == normal
    assert type(normalize_struct(value)) is type(normal)
