"""The models of Cloud Logging's queries, of PromQL, and of alert conditions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.terraform.cloud_monitoring import Monitoring, Points
from tests.terraform.log_query import parse_query
from tests.terraform.promql import parse_promql
from tests.terraform.tool import Resource

_ENTRY = {
    "logName": "projects/p/logs/run.googleapis.com%2Frequests",
    "severity": "ERROR",
    "resource": {"type": "cloud_run_revision", "labels": {"service_name": "a"}},
    "httpRequest": {"status": 403},
    "jsonPayload": {"message": "x", "@type": "t", "ms": 120_001, "ok": False},
}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ('resource.type="cloud_run_revision"', True),
        ('resource.labels.service_name=("b" OR "a")', True),
        ('resource.labels.service_name=one_of("b","c")', False),
        ('resource.type="x" OR (jsonPayload.message="x" AND severity>=WARNING)', True),
        ("severity>=CRITICAL", False),
        ('NOT jsonPayload.message="y"', True),
        ('jsonPayload.message!="y"', True),
        ('jsonPayload.missing!="y"', False),
        ('NOT jsonPayload.missing="y"', True),
        ('jsonPayload."@type"="t"', True),
        ("jsonPayload.ms>120000", True),
        ("jsonPayload.ms<=120000", False),
        ('jsonPayload.ms="120001"', False),
        ("jsonPayload.ok=false", True),
        ('log_id("run.googleapis.com/requests") AND httpRequest.status=(401 OR 403)', True),
        ('log_id("run.googleapis.com/stdout")', False),
        ('jsonPayload.message="x" jsonPayload.ms<5', False),
        ('(jsonPayload.message="y" OR jsonPayload.message="x") AND httpRequest.status=403', True),
    ],
)
def test_a_query(query: str, matches: bool) -> None:
    """As Google documents the language: a missing field fails each comparison."""
    assert parse_query(query)(_ENTRY) is matches


@pytest.mark.parametrize(
    "query",
    ["", 'a="b" AND c="d" OR e="f"', 'jsonPayload.a=~"x"', 'a="b" )', '"text"', 'a=("b" AND "c")', 'a!=("b" OR "c")'],
)
def test_other_queries_are_refused(query: str) -> None:
    """The model never guesses."""
    with pytest.raises((ValueError, IndexError)):
        parse_query(query)


_COUNTS = {"bad": 4.0, "good": 6.0}


def _increase(name: str, labels: Any, seconds: int) -> float | None:
    assert labels == {"monitored_resource": "r"}
    assert seconds in (1800, 21600)
    return _COUNTS.get(name)


def _sum(name: str, window: str = "30m") -> str:
    return f'sum(increase({name}{{monitored_resource="r"}}[{window}]))'


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (_sum("bad"), 4.0),
        (_sum("none", "6h"), None),
        (f"{_sum('none')} or vector(0)", 0.0),
        (f"({_sum('none')} or vector(0)) < 1", 0.0),
        (f"{_sum('bad')} < 1", None),
        (f"{_sum('none')} < 1", None),
        (f"{_sum('bad')} / ({_sum('bad')} + {_sum('good')}) > 0.3", 0.4),
        (f"{_sum('bad')} / {_sum('none')}", None),
        (f"{_sum('bad')} >= 3 and {_sum('good')} > 9", None),
        (f"{_sum('bad')} >= 3 and {_sum('good')} > 5", 4.0),
        (f"{_sum('bad')} >= 3 unless {_sum('good')} > 0", None),
        (f"{_sum('bad')} >= 3 unless {_sum('none')} > 0", 4.0),
    ],
)
def test_a_promql_query(query: str, value: float | None) -> None:
    """An empty vector takes part in no arithmetic, and a comparison keeps the left value."""
    assert parse_promql(query)(_increase) == value


@pytest.mark.parametrize("query", ["rate(x[5m])", "sum(x)", "1 +", "1 2", "sum by (a) (increase(x[5m]))", "x ~ 1"])
def test_other_promql_queries_are_refused(query: str) -> None:
    """The model never guesses."""
    with pytest.raises((ValueError, IndexError)):
        parse_promql(query)


def _threshold(**values: Any) -> dict[str, Any]:
    aggregation = {
        "alignment_period": "300s",
        "per_series_aligner": values.pop("aligner", "ALIGN_DELTA"),
        "cross_series_reducer": values.pop("reducer", "REDUCE_SUM"),
        "group_by_fields": values.pop("by", None),
    }
    return {
        "filter": 'metric.type="m" AND resource.type="r"',
        "denominator_filter": None,
        "denominator_aggregations": [],
        "comparison": "COMPARISON_GT",
        "duration": "0s",
        "aggregations": [aggregation],
        **values,
    }


def _fired(points: Points, *conditions: dict[str, Any], combiner: str = "OR", until: float = 3600) -> list[float]:
    named = [
        {"display_name": str(number), "condition_threshold": [condition], "condition_prometheus_query_language": []}
        for number, condition in enumerate(conditions)
    ]
    policy = {"display_name": "x: a", "combiner": combiner, "conditions": named}
    metric = {"name": "access_denied", "filter": 'a="b" AND c="d"', "value_extractor": None, "label_extractors": None}
    resources = [
        Resource("p", "google_monitoring_alert_policy", policy),
        Resource("m", "google_logging_metric", metric),
    ]
    return [firing.at for firing in Monitoring(resources).firings(points, 0, until)]


def _points(*times: float, value: float = 1.0, **labels: str) -> Points:
    points = Points()
    for at in times:
        points.add(at, "m", "r", value, metric_labels=labels)
    return points


def test_a_threshold_is_about_a_period() -> None:
    """More than two points in five minutes exceed a threshold of two."""
    assert _fired(_points(60, 120, 180), _threshold(threshold_value=2)) == [180]
    assert _fired(_points(60, 400, 700), _threshold(threshold_value=2)) == []
    assert _fired(_points(), _threshold(threshold_value=-1)) == []


def test_a_duration_must_pass_without_a_break() -> None:
    """The condition fires after fifteen minutes in each of which the period has a point."""
    lasting = _threshold(threshold_value=0, duration="900s")
    assert _fired(_points(*range(60, 1800, 240)), lasting) == [960]
    assert _fired(_points(60, 120, 600, 900, 1500, 1560), lasting) == []


def test_groups_are_compared_one_by_one() -> None:
    """Two projects with one line each do not make two lines of one project."""
    points = Points()
    for at, project in ((60, "a"), (120, "b")):
        points.add(at, "m", "r", metric_labels={"project": project})
    assert _fired(points, _threshold(threshold_value=1)) == [120]
    assert _fired(points, _threshold(threshold_value=1, by=["metric.label.project"])) == []


def test_aligners() -> None:
    """A maximum, a percentile and a ratio of rates."""
    points = _points(*range(10, 210, 10), value=1)
    points.add(210, "m", "r", 100)
    assert _fired(points, _threshold(threshold_value=99, aligner="ALIGN_MAX", reducer="REDUCE_MAX")) == [240]
    percentile = _threshold(threshold_value=99, aligner="ALIGN_PERCENTILE_95", reducer="REDUCE_MAX")
    assert _fired(points, percentile, until=300) == []
    points.add(220, "m", "r", 100)
    assert _fired(points, percentile, until=300) == [240]


def test_a_ratio() -> None:
    """One failure among nineteen answers is more than 5 %; one among twenty is not."""
    for answers, fires in ((18, True), (19, False)):
        points = Points()
        for number in range(answers):
            points.add(60 + number, "m", "r", metric_labels={"class": "2xx"})
        points.add(100, "m", "r", metric_labels={"class": "5xx"})
        ratio = _threshold(threshold_value=0.05, aligner="ALIGN_RATE")
        ratio["denominator_filter"], ratio["denominator_aggregations"] = ratio["filter"], ratio["aggregations"]
        ratio["filter"] += ' AND metric.labels.class="5xx"'
        assert bool(_fired(points, ratio, until=300)) is fires


def test_combiners() -> None:
    """AND needs both conditions at the same time, OR one of them."""
    low, high = _threshold(threshold_value=0), _threshold(threshold_value=1)
    assert _fired(_points(60), low, high, combiner="AND") == []
    assert _fired(_points(60, 120), low, high, combiner="AND") == [120]
    assert _fired(_points(60), low, high) == [60]
