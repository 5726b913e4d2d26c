"""The query languages of Cloud Logging and of Cloud Monitoring's filters, in the subset that infra/terraform uses.

Comparisons (``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``), ``AND``, ``OR``, ``NOT``, parentheses, value lists such as
``x=("a" OR "b")`` and ``x=one_of("a","b")``, and ``log_id("name")``. Anything else is refused. As in Cloud Logging, a
comparison with a missing field is false for every operator, and severities are compared by their order.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

__all__ = ["Query", "parse_query"]

Query = Callable[[Mapping[str, Any]], bool]
"""Whether an entry, or the description of a time series, matches."""

_TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<op><=|>=|!=|[=<>(),])|(?P<word>[\w.@"-]+))')
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")


def parse_query(text: str) -> Query:
    """Return the predicate of a query.

    Raises:
        ValueError: the text is outside the subset.
    """
    parser = _Parser(list(_tokens(text)))
    query = parser.terms()
    if parser.left:
        raise ValueError(f"left over in {text!r}: {parser.left}")
    return query


def _tokens(text: str) -> Iterator[str]:
    # A quoted part of a field's name, such as jsonPayload."@type", belongs to the field.
    text, place = text.strip(), 0
    while place < len(text):
        found = re.compile(r'\s*(\w+(?:\.(?:\w+|"[^"]*"))+)').match(text, place) or _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"not understood: {text[place:]!r}")
        yield found[0].strip()
        place = found.end()


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

    def terms(self) -> Query:
        """Read terms that are all joined by AND, or all by OR. Without an operator, they are joined by AND."""
        parts, operators = [self._one()], set()
        while self.left and self.left[0] != ")":
            operators.add("OR" if self._skip("OR") else "AND")
            self._skip("AND")
            parts.append(self._one())
        if len(operators) > 1:
            # In Cloud Logging OR binds before AND, other than in most languages.
            raise ValueError("AND and OR are mixed: use parentheses")
        combine = any if "OR" in operators else all
        return lambda entry: combine(part(entry) for part in parts)

    def _one(self) -> Query:
        if self._skip("NOT"):
            negated = self._one()
            return lambda entry: not negated(entry)
        if self._skip("("):
            inner = self.terms()
            self._expect(")")
            return inner
        if self._skip("log_id"):
            self._expect("(")
            name = quote(_value(self.left.pop(0)), safe="")
            self._expect(")")
            return lambda entry: str(entry.get("logName", "")).endswith(f"/logs/{name}")
        return self._comparison()

    def _comparison(self) -> Query:
        path, sign = _path(self.left.pop(0)), self.left.pop(0)
        if sign not in _COMPARE:
            raise ValueError(f"no operator: {sign!r}")
        values = self._values()
        if len(values) > 1 and sign != "=":
            raise ValueError("a list of values needs '='")

        def matches(entry: Mapping[str, Any]) -> bool:
            found = _find(entry, path)
            return any(_compare(path, sign, found, value) for value in values)

        return matches

    def _values(self) -> list[Any]:
        separator = "," if self._skip("one_of") else "OR"
        if not self._skip("("):
            return [_value(self.left.pop(0))]
        values = [_value(self.left.pop(0))]
        while self._skip(separator):
            values.append(_value(self.left.pop(0)))
        self._expect(")")
        return values

    def _skip(self, token: str) -> bool:
        if self.left and self.left[0] == token:
            self.left.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise ValueError(f"{token!r} is missing before {self.left}")


def _path(text: str) -> tuple[str, ...]:
    parts = [part.strip('"') for part in re.findall(r'"[^"]*"|\w+', text)]
    if not re.match(r"[a-zA-Z]", text):
        raise ValueError(f"no field: {text!r}")
    # Cloud Monitoring accepts both spellings of labels.
    return tuple("labels" if part == "label" else part for part in parts)


def _value(token: str) -> Any:
    if token.startswith('"'):
        return token[1:-1].replace('\\"', '"')
    if token in ("true", "false"):
        return token == "true"
    return float(token) if re.fullmatch(r"-?\d+(\.\d+)?", token) else token


def _find(entry: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = entry
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _compare(path: tuple[str, ...], sign: str, found: Any, value: Any) -> bool:
    if found is None:
        return False
    if path == ("severity",):
        return _COMPARE[sign](_SEVERITIES.index(found), _SEVERITIES.index(value))
    if isinstance(value, float) != (isinstance(found, int | float) and not isinstance(found, bool)):
        return False
    return _COMPARE[sign](found, value)
