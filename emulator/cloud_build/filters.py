"""The filter of a list of builds, in the form that clients of the API are known to use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from emulator.cloud_build.builds import Build
from emulator.cloud_build.errors import CallError, invalid

__all__ = ["Condition", "parse_filter"]

Condition: TypeAlias = Callable[[Build], bool]
"""Returns whether a build matches."""

_TOKEN = re.compile(r'\s*(?:(\()|(\))|(AND|OR|NOT)\b|([a-z_][a-z0-9_.]*)\s*(!=|=)\s*"((?:[^"\\]|\\.)*)")')
_FIELDS: Mapping[str, Callable[[Build], Any]] = {
    "tags": lambda build: list(build.tags),
    "status": lambda build: [build.status],
    "build_id": lambda build: [build.id],
    "id": lambda build: [build.id],
    "trigger_id": lambda build: [build.body.get("buildTriggerId", "")],
    "build_trigger_id": lambda build: [build.body.get("buildTriggerId", "")],
    "project_id": lambda build: [build.place.project],
}


def parse_filter(text: str) -> Condition:
    """Return the condition of a filter: ``field="value"`` with AND, OR, NOT and parentheses.

    The fields are those of `_FIELDS`. Names in camel case, other operators and unknown fields are refused, as by the
    service.

    Raises:
        CallError: INVALID_ARGUMENT.
    """
    if not text.strip():
        return lambda _: True
    parser = _Parser(text)
    try:
        condition = parser.alternatives()
    except RecursionError as error:
        raise parser.refused() from error
    if parser.left:
        raise parser.refused()
    return condition


class _Parser:
    """A recursive descent over the tokens of a filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.left = text.strip()

    def refused(self) -> CallError:
        return invalid(f"invalid list filter: {self._text}")

    def alternatives(self) -> Condition:
        first = self._all()
        if self._word("OR"):
            second = self.alternatives()
            return lambda build: first(build) or second(build)
        return first

    def _all(self) -> Condition:
        first = self._one()
        if self._word("AND"):
            second = self._all()
            return lambda build: first(build) and second(build)
        return first

    def _one(self) -> Condition:
        found = self._take()
        if found[1]:
            inner = self.alternatives()
            if not self._take()[2]:
                raise self.refused()
            return inner
        if found[3] == "NOT":
            negated = self._one()
            return lambda build: not negated(build)
        if not found[4]:
            raise self.refused()
        return self._comparison(found[4], found[5], re.sub(r"\\(.)", r"\1", found[6]))

    def _comparison(self, name: str, operator: str, value: str) -> Condition:
        if name not in _FIELDS:
            raise self.refused()
        read = _FIELDS[name]
        if operator == "=":
            return lambda build: value in read(build)
        return lambda build: value not in read(build)

    def _word(self, word: str) -> bool:
        found = _TOKEN.match(self.left)
        if found is None or found[3] != word:
            return False
        self.left = self.left[found.end() :].strip()
        return True

    def _take(self) -> re.Match[str]:
        found = _TOKEN.match(self.left)
        if found is None:
            raise self.refused()
        self.left = self.left[found.end() :].strip()
        return found
