"""Parses a config with protobuf's parser, under limits that bound the cost of a hostile file."""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import islice
from typing import Any

from google.protobuf import text_format

from luci_scheduler.config.places import Place, find_places, strange_escapes
from luci_scheduler.config.problems import Report
from luci_scheduler.config.schema import UNDEFINED_POLICY, project_config_class
from luci_scheduler.core.frozen import frozen

__all__ = ["MAX_BYTES", "MAX_DEFINITIONS", "MAX_MESSAGES", "Parsed", "parse"]

MAX_BYTES = 4_000_000
"""The largest size of a file. Real files have up to 100,000 bytes. The parser takes about 1.5 seconds for a million."""
MAX_DEFINITIONS = 5000
"""The maximum number of jobs and triggers of one file: a single commit writes all of them."""
MAX_MESSAGES = 8 * MAX_DEFINITIONS
"""The maximum number of messages in braces: definitions, their tasks and policies, and old access rules."""

_MAX_ESCAPES = 50  # the most warnings about escapes
_NUMBER = re.compile(r"\d{5,}")
_UNKNOWN = re.compile(
    r'(?P<kind>Message|Enum) type "(?P<type>[\w.]+)" has no (?:field|value) named "?(?P<name>\w+)"?\.\Z'
)
_LONGEST_NAME = 100  # the search for near names is quadratic
_POSITION = re.compile(r"\A\d+:\d+ : ")


@frozen
class Parsed:
    """A message, and the places of its fields."""

    message: Any
    places: Place


def parse(content: str | bytes, report: Report) -> Parsed | None:
    """Parse a file.

    If the file is not a text proto of the schema, return None; ``report`` then has one error with place and cause.
    """
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    text = _decoded(data, report)
    if text is None:
        return None
    if problem := _too_much(text):
        report.error(Place(), problem)
        return None
    try:
        message = text_format.Parse(text, project_config_class()(), allow_unknown_field=False)
    except text_format.ParseError as error:
        place = Place(error.GetLine() or text.count("\n") + 1, error.GetColumn() or 0)
        report.error(place, _reason(error, text))
        return None
    except (ValueError, TypeError, RecursionError) as error:  # for example an enum value out of range
        report.error(_place_of_number(error, data), f"not a valid config: {error}")
        return None
    for place, escape in islice(strange_escapes(text), _MAX_ESCAPES):
        report.warning(place, f"LUCI refuses files with the unknown escape {escape}; here it is read literally")
    return Parsed(message, find_places(text))


def _decoded(data: bytes, report: Report) -> str | None:
    """Return a file as text. If it is too large or not text, report that and return None."""
    if len(data) > MAX_BYTES:
        report.error(Place(), f"the file has {len(data)} bytes, at most {MAX_BYTES} are allowed; split the project")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        report.error(_place(data, error.start), f"not UTF-8: byte 0x{data[error.start]:02x}")
        return None
    if "\0" in text:
        report.error(_place(data, data.index(b"\0")), "not a text: byte 0x00")
        return None
    return text


_OPENING = re.compile(
    r"""\#[^\n]*
    |"(?:[^"\\\n]|\\.)*"?
    |'(?:[^'\\\n]|\\.)*'?
    |(?P<definition>\b(?:job|trigger)\s*:?\s*[{<])
    |(?P<message>[{<])""",
    re.DOTALL | re.VERBOSE,
)


def _too_much(text: str) -> str:
    """Return the error if a file has too many definitions or messages to parse quickly; otherwise an empty text."""
    definitions = messages = 0
    for found in _OPENING.finditer(text):
        definitions += found.lastgroup == "definition"
        messages += found.lastgroup is not None
    if definitions > MAX_DEFINITIONS:
        return f"the file has {definitions} jobs and triggers, at most {MAX_DEFINITIONS} are allowed"
    if messages > MAX_MESSAGES:
        return f"the file has {messages} messages in braces, at most {MAX_MESSAGES} are allowed"
    return ""


def _reason(error: text_format.ParseError, text: str) -> str:
    """Return the parser's message without the position and the quoted line."""
    message = _POSITION.sub("", str(error))
    remedy = _remedy(message)
    lines = text.split("\n")
    line = error.GetLine()
    if line and line <= len(lines):
        message = message.removeprefix(f"'{lines[line - 1]}': ")
    return f"{message.replace('scheduler.config.', '').removesuffix('.' if remedy else '')}{remedy}"


def _remedy(message: str) -> str:
    """Return the end of the parser's message about an unknown name: the names that may be meant; else an empty text."""
    found, pool = _UNKNOWN.search(message), project_config_class().DESCRIPTOR.file.pool
    if found is None or len(found["name"]) > _LONGEST_NAME:
        return ""
    if found["kind"] == "Enum":
        known = pool.FindEnumTypeByName(found["type"]).values_by_name
        return f"; the values are {', '.join(name for name in known if name != UNDEFINED_POLICY)}"
    near = get_close_matches(found["name"], pool.FindMessageTypeByName(found["type"]).fields_by_name, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _place_of_number(error: Exception, data: bytes) -> Place:
    """Find the number that a range error quotes: such errors have no position."""
    number = _NUMBER.search(str(error))
    start = data.find(number[0].encode()) if number else -1
    return _place(data, start) if start >= 0 else Place()


def _place(data: bytes, offset: int) -> Place:
    return Place(data.count(b"\n", 0, offset) + 1, offset - data.rfind(b"\n", 0, offset))
