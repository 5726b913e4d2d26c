"""A model of Cloud Monitoring: log entries become points of metrics, and alert policies are evaluated on points.

The metrics, the objective and the policies are Terraform's resources, as they were applied. A condition is evaluated
each minute over the period that ends then, and holds once it has been true for its whole duration. Periods without
data are never above a threshold.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.terraform.log_query import Query, parse_query
from tests.terraform.promql import parse_promql
from tests.terraform.tool import Resource

__all__ = ["Firing", "Monitoring", "Points"]

_USER = "logging.googleapis.com/user/"
_BURN = re.compile(r'select_slo_burn_rate\("(?P<name>[^"]+)", "(?P<seconds>\d+)s"\)')
_PERCENTILE = re.compile(r"ALIGN_PERCENTILE_(\d+)")
_COMBINERS: Mapping[str, Callable[[Iterable[bool]], bool]] = {"OR": any, "AND": all}


@dataclass
class _Series:
    """One time series. Several points of one minute are kept apart."""

    labels: Mapping[str, Any]
    """``metric`` and ``resource``, as filters name them."""
    name: str
    """The metric's name in PromQL."""
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _totals: list[float] = field(default_factory=lambda: [0.0])

    def add(self, at: float, value: float) -> None:
        assert not self.times or self.times[-1] <= at, "points come in the order of their times"
        self.times.append(at)
        self.values.append(value)
        self._totals.append(self._totals[-1] + value)

    def sum(self, since: float, until: float) -> float | None:
        """Return the sum of the points after ``since`` and up to ``until``; None without any."""
        first, last = bisect_right(self.times, since), bisect_right(self.times, until)
        return None if first == last else self._totals[last] - self._totals[first]

    def window(self, since: float, until: float) -> Sequence[float]:
        return self.values[bisect_right(self.times, since) : bisect_right(self.times, until)]


class Points:
    """Recorded points, to be added in the order of their times, which are seconds."""

    def __init__(self) -> None:
        self._series: dict[Any, _Series] = {}

    def add(
        self,
        at: float,
        metric: str,
        resource: str,
        value: float = 1.0,
        *,
        metric_labels: Mapping[str, str] | None = None,
        resource_labels: Mapping[str, str] | None = None,
    ) -> None:
        """Record a point: an increase, a measurement, or one value of a distribution."""
        labels = {
            "metric": {"type": metric, "labels": dict(metric_labels or {})},
            "resource": {"type": resource, "labels": dict(resource_labels or {})},
        }
        key = (metric, resource, *sorted((metric_labels or {}).items()), *sorted((resource_labels or {}).items()))
        if key not in self._series:
            self._series[key] = _Series(labels, _promql_name(metric))
        self._series[key].add(at, value)

    def matching(self, query: Query) -> list[_Series]:
        """Return the series whose labels match."""
        return [series for series in self._series.values() if query(series.labels)]

    def named(self, promql_name: str, labels: Mapping[str, str]) -> list[_Series]:
        """Return the series of a metric, by its name in PromQL and its resource's labels."""
        return [
            series
            for series in self._series.values()
            if series.name == promql_name
            and labels.items()
            <= {"monitored_resource": series.labels["resource"]["type"], **series.labels["resource"]["labels"]}.items()
        ]


def _promql_name(metric: str) -> str:
    """Return a metric's name in PromQL: the first slash becomes a colon, any other special character an underscore."""
    domain, _, path = metric.partition("/")
    return ":".join(re.sub(r"\W", "_", part) for part in (domain, path))


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert begins to fire, or another of its conditions does."""

    alert: str
    at: float
    conditions: frozenset[str]
    """The conditions that hold."""


@dataclass(frozen=True, slots=True)
class _LogMetric:
    type: str
    query: Query
    value: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Condition:
    name: str
    seconds: float
    is_true: Callable[[float], bool]


class Monitoring:
    """The metrics and alerts of an applied configuration."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._resources = resources
        self._metrics = [_log_metric(values) for values in self._all("google_logging_metric")]
        filters = [self._metric_filter(name) for name in ("/access_denied", "/errors")]
        self.services = sorted({name for text in filters for name in re.findall(r'"([^"]+)"', _second_term(text))})
        """Names of the Cloud Run services whose lines are counted. Lines of the webhook count in `errors` alone."""

    def _all(self, type_: str) -> Iterator[Mapping[str, Any]]:
        return (found.values for found in self._resources if found.type == type_)

    def _metric_filter(self, end: str) -> str:
        """Return the filter of the metric whose name has this end; empty without such a metric."""
        return "".join(str(item["filter"]) for item in self._all("google_logging_metric") if item["name"].endswith(end))

    def filter_of(self, alert: str, text: str = "") -> str:
        """Return the only filter of an alert's thresholds that contains a text."""
        (found,) = [
            str(threshold["filter"])
            for policy in self._all("google_monitoring_alert_policy")
            for condition in policy["conditions"]
            for threshold in condition["condition_threshold"]
            if _alert(policy) == alert and text in threshold["filter"]
        ]
        return found

    @property
    def conditions(self) -> set[tuple[str, str]]:
        """Alert and name of each condition."""
        return {
            (_alert(policy), condition["display_name"])
            for policy in self._all("google_monitoring_alert_policy")
            for condition in policy["conditions"]
        }

    def service(self, function: str) -> str:
        """Return the name of a function's service."""
        (name,) = [name for name in self.services if name.endswith(function.replace("_", "-"))]
        return name

    def count(self, points: Points, at: float, entry: Mapping[str, Any]) -> None:
        """Add the points of the log-based metrics that an entry matches."""
        for metric in self._metrics:
            if metric.query(entry):
                points.add(
                    at,
                    metric.type,
                    entry["resource"]["type"],
                    float(_extract(entry, metric.value)) if metric.value else 1.0,
                    metric_labels={name: str(_extract(entry, path) or "") for name, path in metric.labels.items()},
                    resource_labels=entry["resource"]["labels"],
                )

    def total(self, points: Points, metric: str) -> float:
        """Return the sum of all points of a log-based metric, by the last part of its name."""
        series = [one for one in points.matching(lambda _: True) if one.labels["metric"]["type"].endswith(f"/{metric}")]
        return sum(sum(one.values) for one in series)

    def firings(self, points: Points, since: float, until: float, step: float = 60.0) -> list[Firing]:
        """Evaluate all alerts from ``since`` to ``until``; return when each condition begins to fire."""
        return [
            firing
            for policy in self._all("google_monitoring_alert_policy")
            for firing in self._policy_firings(policy, points, (since, until), step)
        ]

    def _policy_firings(
        self, policy: Mapping[str, Any], points: Points, times: tuple[float, float], step: float
    ) -> Iterator[Firing]:
        conditions = [self._condition(condition, points) for condition in policy["conditions"]]
        begun: dict[str, float] = {}
        known: frozenset[str] = frozenset()
        now = times[0]
        while now <= times[1]:
            for condition in conditions:
                if condition.is_true(now):
                    begun.setdefault(condition.name, now)
                else:
                    begun.pop(condition.name, None)
            held = [c.name in begun and now - begun[c.name] >= c.seconds for c in conditions]
            names = frozenset(c.name for c, holds in zip(conditions, held, strict=True) if holds)
            if not _COMBINERS[policy["combiner"]](held):
                names = frozenset()
            if names - known:
                yield Firing(_alert(policy), now, names)
            known, now = names, now + step

    def _condition(self, condition: Mapping[str, Any], points: Points) -> _Condition:
        name = condition["display_name"]
        for threshold in condition["condition_threshold"]:
            return _Condition(name, _seconds(threshold["duration"]), self._threshold(threshold, points))
        (promql,) = condition["condition_prometheus_query_language"]
        plan = parse_promql(promql["query"])

        def has_result(now: float) -> bool:
            return (
                plan(lambda metric, labels, seconds: _sum(points.named(metric, labels), now - seconds, now)) is not None
            )

        return _Condition(name, _seconds(promql["duration"]), has_result)

    def _threshold(self, threshold: Mapping[str, Any], points: Points) -> Callable[[float], bool]:
        assert threshold["comparison"] == "COMPARISON_GT"
        above = float(threshold["threshold_value"])
        if burn := _BURN.fullmatch(threshold["filter"]):
            rate = self._burn_rate(burn["name"], float(burn["seconds"]), points)
            return lambda now: (rate(now) or 0.0) > above
        values = _aligned(threshold["filter"], threshold["aggregations"], points)
        if not threshold["denominator_filter"]:
            return lambda now: any(value > above for value in values(now))
        below = _aligned(threshold["denominator_filter"], threshold["denominator_aggregations"], points)

        def is_above(now: float) -> bool:
            totals = below(now)
            return bool(totals and totals[0]) and any(value / totals[0] > above for value in values(now))

        return is_above

    def _burn_rate(self, name: str, seconds: float, points: Points) -> Callable[[float], float | None]:
        """Return the share of bad events, in units of the share that the objective allows."""
        (slo,) = [
            slo
            for slo in self._all("google_monitoring_slo")
            if name == f"projects/{slo['project']}/services/{slo['service']}/serviceLevelObjectives/{slo['slo_id']}"
        ]
        (ratio,) = slo["request_based_sli"][0]["good_total_ratio"]
        good, bad = (points.matching(parse_query(ratio[f"{kind}_service_filter"])) for kind in ("good", "bad"))

        def rate(now: float) -> float | None:
            bads, goods = (_sum(series, now - seconds, now) or 0.0 for series in (bad, good))
            return bads / (bads + goods) / (1 - slo["goal"]) if bads + goods else None

        return rate


def _second_term(text: str) -> str:
    return "".join(text.split(" AND ")[1:2])


def _log_metric(values: Mapping[str, Any]) -> _LogMetric:
    return _LogMetric(
        _USER + values["name"],
        parse_query(values["filter"]),
        _extracted(values["value_extractor"]) if values["value_extractor"] else (),
        {name: _extracted(text) for name, text in (values["label_extractors"] or {}).items()},
    )


def _extracted(text: str) -> tuple[str, ...]:
    found = re.fullmatch(r"EXTRACT\(([\w.]+)\)", text)
    assert found, text
    return tuple(found[1].split("."))


def _extract(entry: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = entry
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _alert(policy: Mapping[str, Any]) -> str:
    return str(policy["display_name"]).rpartition(": ")[2]


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _sum(series: Iterable[_Series], since: float, until: float) -> float | None:
    found = [value for one in series if (value := one.sum(since, until)) is not None]
    return sum(found) if found else None


def _aligned(
    text: str, aggregations: Sequence[Mapping[str, Any]], points: Points
) -> Callable[[float], Sequence[float]]:
    """Return the function that computes the values of each group at an instant."""
    (aggregation,) = aggregations
    period, aligner = _seconds(aggregation["alignment_period"]), aggregation["per_series_aligner"]
    groups: dict[Any, list[_Series]] = defaultdict(list)
    for series in points.matching(parse_query(text)):
        path_of = [tuple(by.replace("label.", "labels.").split(".")) for by in aggregation["group_by_fields"] or ()]
        groups[tuple(_extract(series.labels, path) for path in path_of)].append(series)
    reduce = {"REDUCE_SUM": sum, "REDUCE_MAX": max}[aggregation["cross_series_reducer"]]

    def values(now: float) -> list[float]:
        found = []
        for group in groups.values():
            aligned = [value for one in group if (value := _align(one, aligner, now - period, now)) is not None]
            if aligned:
                found.append(float(reduce(aligned)))
        return found

    return values


def _align(series: _Series, aligner: str, since: float, until: float) -> float | None:
    if aligner == "ALIGN_DELTA":
        return series.sum(since, until)
    if aligner == "ALIGN_RATE":
        total = series.sum(since, until)
        return None if total is None else total / (until - since)
    window = sorted(series.window(since, until))
    if not window:
        return None
    if aligner == "ALIGN_MAX":
        return window[-1]
    percentile = _PERCENTILE.fullmatch(aligner)
    assert percentile, aligner
    return window[math.ceil(len(window) * int(percentile[1]) / 100) - 1]
