"""JSON in Go's format."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luci_scheduler.core import go_json

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=150)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@repeatable
@given(values)
def test_every_layout_reads_back_as_the_same_value(value: Any) -> None:
    """The output is JSON and means the input, with all numbers as doubles."""
    assert json.loads(go_json.compact(value), parse_int=float) == value
    assert json.loads(go_json.indented(value), parse_int=float) == value
    wrapped = go_json.message({"properties": go_json.struct({"value": value}), "list": [value]})
    assert json.loads(wrapped, parse_int=float) == {"properties": {"value": value}, "list": [value]}


@repeatable
@given(st.dictionaries(text, st.integers(0, 9), max_size=8))
def test_compact_sorts_keys_by_their_bytes(value: dict[str, int]) -> None:
    """The order is that of UTF-8, which differs from UTF-16's, and there are no spaces."""
    printed = go_json.compact(value)
    assert list(json.loads(printed)) == sorted(value, key=lambda key: key.encode())


def test_compact_keeps_the_order_of_lists() -> None:
    """Lists are not sorted, but objects in them are."""
    assert go_json.compact([3, {"b": (1,), "a": []}, {}]) == '[3,{"a":[],"b":[1]},{}]'


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (0.0, "0"),
        (1.5, "1.5"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (12345678901234567890.0, "12345678901234567000"),
        (0.000001, "0.000001"),
        (1.2345678901234568e-05, "0.000012345678901234568"),
        (1e-07, "1e-7"),
        (-2.5e-09, "-2.5e-9"),
        (5e-324, "5e-324"),
        (9007199254740993, "9007199254740992"),
        (1 << 80, "1.2089258196146292e+24"),
        (-9007199254740992, "-9007199254740992"),
        (True, "true"),
    ],
)
def test_numbers_have_the_fewest_digits_of_their_double(number: float, printed: str) -> None:
    """Whole numbers have no point. Tiny and huge ones have an exponent without leading zeros. Integers are doubles."""
    assert go_json.compact({"n": number}) == f'{{"n":{printed}}}'
    assert go_json.indented([number]) == f"[\n  {printed}\n]"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    """A number that JSON does not have is an error, not an unreadable text."""
    with pytest.raises(ValueError, match=r"no place in JSON|out of the range"):
        go_json.compact(number)


def test_other_types_are_refused() -> None:
    """Only JSON values are printed."""
    with pytest.raises(TypeError, match="not a JSON value: bytes"):
        go_json.compact({"a": b"bytes"})


@pytest.mark.parametrize(
    ("given_text", "printed"),
    [
        ("<a> & b", r"\u003ca\u003e \u0026 b"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\b\f\n\r\t", r"\u0008\u000c\n\r\t"),
        ('"\\b', r"\"\\b"),
        ("\x00\x1f\x7f", "\\u0000\\u001f\x7f"),
        ("é\U0001f600", "é\U0001f600"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_texts_are_escaped_as_in_go(given_text: str, printed: str) -> None:
    """Markup and line separators are escaped, halves of surrogate pairs replaced; also in keys."""
    assert go_json.compact(given_text) == f'"{printed}"'
    assert go_json.compact({given_text: 1}) == f'{{"{printed}":1}}'


def test_indented_layout() -> None:
    """Two spaces per level, the given order of keys, empty objects and lists on one line."""
    value = {"b": {"z": 1, "a": [1, "x"]}, "a": {}, "c": []}
    assert go_json.indented(value) == (
        '{\n  "b": {\n    "z": 1,\n    "a": [\n      1,\n      "x"\n    ]\n  },\n  "a": {},\n  "c": []\n}'
    )
    assert go_json.indented({}) == "{}"


def test_message_prints_a_set_but_empty_message_on_three_lines() -> None:
    """An empty message is an opening brace, an empty line, a closing brace."""
    assert go_json.message({"timeout": {}}) == '{\n  "timeout": {\n\n  }\n}'
    assert go_json.message({}) == "{\n\n}"
    assert go_json.message({"a": {"b": {}}}) == '{\n  "a": {\n    "b": {\n\n    }\n  }\n}'


PROPERTIES = {"o": {}, "n": 3, "$recipe_engine/scheduler": {"triggers": [{"id": "a"}]}}


def test_struct_layout_in_a_message() -> None:
    """Free-form values have deeper members, separate closing brackets and sorted keys."""
    assert go_json.message({"properties": go_json.struct(PROPERTIES), "after": 1}) == (
        "{\n"
        '  "properties": {\n'
        '      "$recipe_engine/scheduler": {\n'
        '            "triggers": [\n'
        "                  {\n"
        '                        "id": "a"\n'
        "                      }\n"
        "                ]\n"
        "          },\n"
        '      "n": 3,\n'
        '      "o": {\n'
        "          }\n"
        "    },\n"
        '  "after": 1\n'
        "}"
    )


def test_struct_layout_counts_from_the_enclosing_message() -> None:
    """One level deeper, the whole free-form value moves by two columns."""
    assert go_json.message({"input": {"properties": go_json.struct({"a": [], "b": {"c": 1}})}}) == (
        "{\n"
        '  "input": {\n'
        '    "properties": {\n'
        '        "a": [\n'
        "            ],\n"
        '        "b": {\n'
        '              "c": 1\n'
        "            }\n"
        "      }\n"
        "  }\n"
        "}"
    )


def test_an_empty_struct_takes_two_lines() -> None:
    """Unlike an empty message, an empty free-form value has no empty line."""
    assert go_json.message({"properties": go_json.struct({})}) == '{\n  "properties": {\n    }\n}'
