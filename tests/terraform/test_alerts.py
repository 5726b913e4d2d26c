"""Each alert fires on its cause, and none fires without one. Metrics, objective and policies are those of Terraform."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.simulation.project import START, make_script
from tests.simulation.scheduler import play
from tests.terraform.causes import CAUSES, HARMLESS
from tests.terraform.cloud_monitoring import Monitoring, Points
from tests.terraform.life import Life
from tests.terraform.site import as_entry, running
from tests.terraform.tool import REPOSITORY, ROOT

pytestmark = pytest.mark.timeout(1800)

_SECOND = 10**9
_DAY = 86_400
_MOST_CONDITIONS = 6
"""Conditions of one policy that Cloud Monitoring accepts."""


@pytest.fixture(name="monitoring", scope="module")
def _monitoring(everything: Life) -> Monitoring:
    return Monitoring(everything.resources)


def test_each_condition_has_a_cause(monitoring: Monitoring) -> None:
    """A new condition needs a planted cause here."""
    assert {(cause.alert, cause.condition) for cause in CAUSES.values()} == monitoring.conditions


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_raises_its_alert(monitoring: Monitoring, name: str) -> None:
    """The cause makes the condition true for long enough, and raises no unrelated alert."""
    cause = CAUSES[name]
    with running(monitoring, cause.world()) as site:
        cause.plant(site)
    firings = monitoring.firings(site.points, site.since, site.now)
    assert cause.condition in {held for firing in firings if firing.alert == cause.alert for held in firing.conditions}
    assert {firing.alert for firing in firings} <= {cause.alert, *cause.also}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_incident_raises_no_alert(monitoring: Monitoring, name: str) -> None:
    """It stays below a threshold, ends soon, or concerns another system."""
    happen, world = HARMLESS[name]
    with running(monitoring, world()) as site:
        happen(site)
    assert monitoring.firings(site.points, site.since, site.now) == []


@pytest.mark.parametrize("alert", ["no-sweep", "builds-do-not-start", "no-builds"])
def test_an_alert_about_absence_needs_no_first_point(everything: Life, alert: str) -> None:
    """A metric-absence condition would never report a service that has not worked yet."""
    (policy,) = [item for item in _policies(everything) if item["display_name"].endswith(f": {alert}")]
    (condition,) = policy["conditions"]
    assert condition["condition_prometheus_query_language"]
    for item in _policies(everything):
        assert all(not condition["condition_absent"] for condition in item["conditions"])


@pytest.mark.parametrize(
    "days",
    [pytest.param(1, id="day"), pytest.param(30, marks=[pytest.mark.month, pytest.mark.timeout(3600)], id="month")],
)
def test_healthy_days_raise_no_alert(monitoring: Monitoring, days: int) -> None:
    """Twenty jobs poll, run by schedules and by commits, are paused, and get new configs, in virtual time."""
    points, since = Points(), START / _SECOND
    service = monitoring.service("on_task")

    def record(at: int, line: Mapping[str, Any]) -> None:
        monitoring.count(points, at / _SECOND, as_entry(line, service))

    play(make_script(2, days, jobs=20), 2, record=record)
    assert monitoring.total(points, "launches") > 100 * days
    assert monitoring.total(points, "sweeps") > 1400 * days
    assert monitoring.firings(points, since + 900, since + days * _DAY) == []


def test_policies_fit_the_service(everything: Life) -> None:
    """Cloud Monitoring limits the conditions of a policy, and the size of its documentation."""
    for policy in _policies(everything):
        (documentation,) = policy["documentation"]
        assert len(policy["conditions"]) <= _MOST_CONDITIONS
        assert len(documentation["content"]) <= 8192
        assert len(documentation["content"].encode()) <= 10_240


def test_a_notification_carries_the_runbook(minimal: Life, everything: Life) -> None:
    """It has the page's text with the installation's names. Links are https addresses, or plain text."""
    for life in (minimal, everything):
        has_links = life is everything
        for policy in _policies(life):
            (documentation,) = policy["documentation"]
            text = documentation["content"]
            page = (REPOSITORY / f"docs/operations/{_page(policy)}.md").read_text(encoding="utf-8")
            assert text.splitlines()[0] == page.splitlines()[0]
            assert len(text) > 500
            assert not re.search(r"\b(PROJECT|REGION|QUEUE|DATABASE)\b", text), policy["display_name"]
            links = re.findall(r"\]\(([^)]*)\)", text)
            assert all(link.startswith("https://example.com/docs/operations/") for link in links)
            assert bool(documentation["links"]) is has_links
    texts = "".join(policy["documentation"][0]["content"] for policy in _policies(everything))
    assert "staging-eu-luci-scheduler-sweep" in texts
    assert not re.search(r"(?<!staging-eu-)\bluci-scheduler-(sweep|sync|on-)", texts)


def test_notifications_reach_all_channels(everything: Life) -> None:
    """Each alert notifies the e-mails and the existing channels."""
    for policy in _policies(everything):
        assert "projects/other/notificationChannels/123" in policy["notification_channels"]
        assert len(policy["notification_channels"]) == 2


def test_metrics_are_older_than_the_alerts_on_them(everything: Life) -> None:
    """Google knows a new metric after ten minutes at most. Queries in PromQL need not wait."""
    (wait,) = [found for found in everything.resources if found.address.endswith("time_sleep.metrics_known")]
    assert wait.values["create_duration"] == "600s"
    for policy in _policies(everything):
        for condition in policy["conditions"]:
            assert all(query["disable_metric_validation"] for query in condition["condition_prometheus_query_language"])


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of a table of the reference page."""
    page = (REPOSITORY / "docs/reference/observability.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_the_reference_lists_each_metric(everything: Life) -> None:
    """With the events that it counts, and the alerts that use it."""
    listed = {row[0].strip("`"): row for row in _rows("Metrics")}
    metrics = {metric["name"].rpartition("/")[2]: metric for metric in everything.all("google_logging_metric")}
    assert listed.keys() == metrics.keys()
    slo = json.dumps(everything.all("google_monitoring_slo"))
    for name, metric in metrics.items():
        # The objective's alerts name the objective, which names its metrics.
        used = {
            _alert(policy)
            for policy in _policies(everything)
            if f'{metric["name"]}\\"' in (text := json.dumps(policy))
            or _promql(metric["name"]) in text
            or (f'{metric["name"]}\\"' in slo and "select_slo_burn_rate" in text)
        }
        assert {alert for alert in listed[name][2].split(", ") if alert} == used, name
        if "jsonPayload.message=(" in metric["filter"]:
            events = metric["filter"].partition("jsonPayload.message=(")[2].partition(")")[0]
            assert set(re.findall(r"`(\w+)`", listed[name][1])) >= set(re.findall(r'"(\w+)"', events)), name


def test_the_reference_and_the_runbooks_list_each_alert(monitoring: Monitoring, everything: Life) -> None:
    """The reference has each condition, and the first page of the runbooks has each alert with its severity."""
    assert {(alert, condition) for alert, condition, _ in _rows("Alerts")} == monitoring.conditions
    page = (REPOSITORY / "docs/operations/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)\.md\) \| (\w+) \|", page, re.MULTILINE)
    expected = {(_alert(item), _page(item), item["severity"].lower()) for item in _policies(everything)}
    assert set(listed) == expected


def _promql(metric: str) -> str:
    return "user_" + re.sub(r"\W", "_", metric) + "{"


def _alert(policy: Mapping[str, Any]) -> str:
    return str(policy["display_name"]).rpartition(": ")[2]


def _policies(life: Life) -> list[dict[str, Any]]:
    return life.all("google_monitoring_alert_policy")


def _page(policy: Mapping[str, Any]) -> str:
    """Return the name of an alert's page."""
    alert = _alert(policy)
    source = (REPOSITORY / ROOT / "modules/monitoring/alerts.tf").read_text(encoding="utf-8")
    found = re.search(rf'^    {alert} = {{\n(?:      \w+ += .*\n)*?      runbook  = "([\w-]+)"', source, re.MULTILINE)
    return found[1] if found else alert
