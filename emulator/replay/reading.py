"""Strict reading of a JSON document. Errors name the place of a missing or unknown member or of a wrong type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.replay.errors import ScenarioError
from luci_scheduler.core.go_text import parse_duration
from luci_scheduler.core.instants import Instant, parse_rfc3339

__all__ = ["Node", "optional_text", "parse_json", "read_object_of_texts", "texts"]

_TYPES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def parse_json(text: str) -> Any:
    """Parse JSON; repeated members, NaN and infinities are refused.

    Raises:
        ScenarioError: the text is not strict JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"not JSON: {error}") from error


class Node:
    """A value of the document and its place (``deliveries[3].takes``); every method raises `ScenarioError`."""

    def __init__(self, value: Any, where: str) -> None:
        self.value = value
        self.where = where

    def error(self, text: str) -> ScenarioError:
        """Return the error to raise about this value."""
        return ScenarioError(f"{self.where or 'the scenario'}: {text}")

    def of_type(self, kind: type) -> Any:
        """Return the value if it is of this JSON type."""
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            shown = json.dumps(self.value)
            raise self.error(f"must be {_TYPES[kind]}, not {shown if len(shown) < 60 else shown[:57] + '...'}")  # noqa: PLR2004 - a line
        return self.value

    def members(self, required: Sequence[str] = (), optional: Sequence[str] = ()) -> dict[str, Node]:
        """Return the members of an object, which must have all of ``required`` and may have those in ``optional``."""
        value = self.of_type(dict)
        known = (*required, *optional)
        if unknown := [name for name in value if name not in known]:
            raise self.error(f"has no member {unknown[0]!r}; it may hold {', '.join(known)}")
        if missing := [name for name in required if name not in value]:
            raise self.error(f"lacks {missing[0]!r}")
        return {name: Node(item, f"{self.where}.{name}".lstrip(".")) for name, item in value.items()}

    def one_of(self, kinds: Sequence[str]) -> str:
        """Return which of several members an object has; it must have exactly one of them."""
        found = [kind for kind in kinds if kind in self.of_type(dict)]
        if len(found) != 1:
            raise self.error(f"must hold exactly one of {', '.join(kinds)}")
        return found[0]

    def named(self) -> dict[str, Node]:
        """Return the members of an object with any names."""
        return {name: Node(item, f"{self.where}.{name}") for name, item in self.of_type(dict).items()}

    def items(self) -> list[Node]:
        """Return the elements of a list."""
        return [Node(item, f"{self.where}[{index}]") for index, item in enumerate(self.of_type(list))]

    def text(self) -> str:
        """Return a text that is not empty."""
        value: str = self.of_type(str)
        if not value:
            raise self.error("must not be empty")
        return value

    def boolean(self) -> bool:
        """Return true or false."""
        return bool(self.of_type(bool))

    def true(self) -> None:
        """Check that the value is ``true``."""
        if not self.boolean():
            raise self.error("must be true")

    def integer(self, low: int, high: int) -> int:
        """Return a whole number within [low, high]."""
        value: int = self.of_type(int)
        if not low <= value <= high:
            raise self.error(f"must be from {low} to {high}, not {value}")
        return value

    def duration(self, *, negative: bool = False) -> int:
        """Return a duration as Go writes it, in nanoseconds."""
        try:
            value = parse_duration(self.text())
        except ValueError as error:
            raise self.error(f"must be a duration such as 1.104s: {error}") from error
        if value < 0 and not negative:
            raise self.error("must not be negative")
        return value

    def instant(self) -> Instant:
        """Return an instant in RFC 3339."""
        try:
            return parse_rfc3339(self.text())
        except ValueError as error:
            raise self.error(f"must be a time such as 2021-02-18T21:40:22.2975Z: {error}") from error


def optional_text(members: Mapping[str, Node], name: str) -> str:
    """Return a member's text, or an empty text if the object does not have the member."""
    return members[name].text() if name in members else ""


def texts(node: Node) -> list[str]:
    """Return a list of texts that are not empty."""
    return [item.text() for item in node.items()]


def read_object_of_texts(node: Node) -> dict[str, str]:
    """Return an object whose members are texts, such as HTTP headers."""
    return {name: str(item.of_type(str)) for name, item in node.named().items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the member {name!r} appears twice in one object")
        found[name] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
