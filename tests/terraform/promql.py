"""PromQL in the subset that the alerts use, on recorded points.

``sum(increase(metric{label="value"}[30m]))``, ``vector(0)``, numbers, comparisons, ``/`` and ``+``, and the set
operators ``and``, ``or`` and ``unless``. Every operand is a number, or a vector with at most one element without
labels, because each query sums over all labels. Anything else is refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

__all__ = ["Increase", "Plan", "parse_promql"]

Increase = Callable[[str, Mapping[str, str], int], float | None]
"""Metric name, labels and seconds → the sum of the increases in that time; None if no series has a point in it."""

Plan = Callable[[Increase], float | None]
"""The value of a query; None if its result is empty."""

_TOKEN = re.compile(r'\s*([A-Za-z_:][\w:]*|\d+(?:\.\d+)?[smhd]?|>=|<=|==|[<>=/+(){}\[\],]|"[^"]*")')
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
}


def parse_promql(text: str) -> Plan:
    """Return the evaluation of a query.

    Raises:
        ValueError: the text is outside the subset.
    """
    tokens, place = [], 0
    while place < len(text.rstrip()):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"not understood: {text[place:]!r}")
        tokens.append(found[1])
        place = found.end()
    parser = _Parser(tokens)
    plan = parser.alternatives()
    if parser.left:
        raise ValueError(f"left over in {text!r}: {parser.left}")
    return plan


class _Parser:
    """Recursive descent by precedence, lowest first: or; and, unless; comparisons; +; /."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

    def alternatives(self) -> Plan:
        plan = self._joined()
        while self._skip("or"):
            plan = _or(plan, self._joined())
        return plan

    def _joined(self) -> Plan:
        plan = self._compared()
        while self.left and self.left[0] in ("and", "unless"):
            wanted = self.left.pop(0) == "and"
            plan = _if(plan, self._compared(), wanted)
        return plan

    def _compared(self) -> Plan:
        plan = self._added()
        if self.left and self.left[0] in _COMPARE:
            return _filter(plan, _COMPARE[self.left.pop(0)], self._added())
        return plan

    def _added(self) -> Plan:
        plan = self._divided()
        while self._skip("+"):
            plan = _both(plan, self._divided(), operator.add)
        return plan

    def _divided(self) -> Plan:
        plan = self._operand()
        while self._skip("/"):
            plan = _both(plan, self._operand(), operator.truediv)
        return plan

    def _operand(self) -> Plan:
        token = self.left.pop(0)
        if token == "(":
            plan = self.alternatives()
            self._expect(")")
            return plan
        if token == "vector":
            self._expect("(")
            number = float(self.left.pop(0))
            self._expect(")")
            return lambda _: number
        if token == "sum":
            return self._sum()
        number = float(token)
        return lambda _: number

    def _sum(self) -> Plan:
        for token in ("(", "increase", "("):
            self._expect(token)
        name, labels = self.left.pop(0), self._labels()
        self._expect("[")
        duration = self.left.pop(0)
        for token in ("]", ")", ")"):
            self._expect(token)
        seconds = int(duration[:-1]) * _SECONDS[duration[-1]]
        return lambda increase: increase(name, labels, seconds)

    def _labels(self) -> Mapping[str, str]:
        labels: dict[str, str] = {}
        if self._skip("{"):
            while not self._skip("}"):
                name = self.left.pop(0)
                self._expect("=")
                labels[name] = self.left.pop(0).strip('"')
                self._skip(",")
        return labels

    def _skip(self, token: str) -> bool:
        if self.left and self.left[0] == token:
            self.left.pop(0)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise ValueError(f"{token!r} is missing before {self.left}")


def _or(first: Plan, second: Plan) -> Plan:
    def plan(increase: Increase) -> float | None:
        found = first(increase)
        return second(increase) if found is None else found

    return plan


def _if(value: Plan, condition: Plan, wanted: bool) -> Plan:
    return lambda increase: value(increase) if (condition(increase) is not None) is wanted else None


def _filter(value: Plan, compare: Callable[[float, float], bool], limit: Plan) -> Plan:
    def plan(increase: Increase) -> float | None:
        found, bound = value(increase), limit(increase)
        return found if found is not None and bound is not None and compare(found, bound) else None

    return plan


def _both(first: Plan, second: Plan, combine: Callable[[float, float], float]) -> Plan:
    def plan(increase: Increase) -> float | None:
        left, right = first(increase), second(increase)
        return None if left is None or right is None else combine(left, right)

    return plan
