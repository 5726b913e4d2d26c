"""Filters of metrics and alerts: restrictions of Google's services that the models of their languages do not have."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.terraform.life import Life

pytestmark = pytest.mark.timeout(1800)

_LONGEST = {"google_logging_metric": 20_000, "google_monitoring_alert_policy": 2048}
"""Characters of a filter that Cloud Logging and Cloud Monitoring accept."""


def _thresholds(life: Life) -> Iterator[str]:
    """Yield the filters over time series; a condition on an objective names no metric."""
    for policy in life.all("google_monitoring_alert_policy"):
        for condition in policy["conditions"]:
            for threshold in condition["condition_threshold"]:
                yield from filter(None, (threshold["filter"], threshold["denominator_filter"]))


def _queries(life: Life) -> Iterator[str]:
    for policy in life.all("google_monitoring_alert_policy"):
        for condition in policy["conditions"]:
            yield from (item["query"] for item in condition["condition_prometheus_query_language"])


def threshold_faults(text: str) -> list[str]:
    """Return the faults for which Cloud Monitoring refuses the filter of a threshold condition."""
    if text.startswith("select_slo_burn_rate("):
        return []
    counts = {name: len(re.findall(rf"\b{name}\s*=", text)) for name in ("metric.type", "resource.type")}
    faults = [f"{count} restrictions of {name}" for name, count in counts.items() if count != 1]
    faults += ["a value list of Cloud Logging"] if re.search(r"=\s*\(", text) else []
    faults += ["too long"] if len(text) > _LONGEST["google_monitoring_alert_policy"] else []
    return faults


def log_faults(text: str) -> list[str]:
    """Return the faults for which Cloud Logging refuses the filter of a metric."""
    faults = ["a function of Cloud Monitoring"] if "one_of(" in text else []
    return faults + (["too long"] if len(text) > _LONGEST["google_logging_metric"] else [])


def query_faults(text: str) -> list[str]:
    """Return the faults for which Cloud Monitoring refuses a query of log-based metrics, or finds no series for it."""
    selected = re.findall(r"increase\(([^\[]*)\[", text)
    plain = [item for item in selected if not re.fullmatch(r"logging_googleapis_com:user_\w+\{.*\}", item)]
    # A metric of lines may belong to several resources, so its name alone is ambiguous.
    ambiguous = [item for item in selected if 'monitored_resource="' not in item]
    return [f"no log-based metric: {item}" for item in plain] + [f"no resource: {item}" for item in ambiguous]


def test_each_filter_is_one_that_google_accepts(minimal: Life, everything: Life) -> None:
    """One metric and one resource for each threshold, and only operators of the language in question."""
    for life in (minimal, everything):
        metrics = life.all("google_logging_metric")
        assert {text: faults for text in _thresholds(life) if (faults := threshold_faults(text))} == {}
        assert {item["filter"]: faults for item in metrics if (faults := log_faults(item["filter"]))} == {}
        assert {text: faults for text in _queries(life) if (faults := query_faults(text))} == {}
        assert len(list(_thresholds(life))) > 10
        assert len(list(_queries(life))) >= 3


def test_plausible_mistakes_are_seen() -> None:
    """Each of them is a query that the models accept."""
    assert threshold_faults('metric.type="a"') == ["0 restrictions of resource.type"]
    assert threshold_faults('metric.type="a" AND resource.type="b" AND resource.type="c"') == [
        "2 restrictions of resource.type"
    ]
    listed = 'metric.type="a" AND resource.type="b" AND resource.labels.x=("c" OR "d")'
    assert threshold_faults(listed) == ["a value list of Cloud Logging"]
    assert log_faults('resource.labels.x=one_of("c","d")') == ["a function of Cloud Monitoring"]
    name = "logging_googleapis_com:user_luci_scheduler_sweeps"
    assert query_faults(f"sum(increase({name}[30m]))")
    assert query_faults('sum(increase(logging_googleapis_com:user_luci-scheduler_sweeps{monitored_resource="a"}[30m]))')
    assert query_faults(f'sum(increase({name}{{monitored_resource="a"}}[30m]))') == []
