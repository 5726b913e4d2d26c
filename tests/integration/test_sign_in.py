"""Every front end of the console and every lock of the other functions, against every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests

from emulator.banner import addresses
from emulator.front_end.front_end import service_name
from emulator.front_end.modes import Stripping
from emulator.settings import DEVELOPER, OUTSIDER
from luci_scheduler.core.instants import MINUTE, SECOND
from tests.sign_in import CALLERS, FRONT_ENDS, Site, call, site_behind, who
from tests.waiting import until

CONSOLE = """
caller                         | iap       | load_balancer | bypass  | proxy     | public    | none
anonymous                      | iap 401   | iap 401       | run 404 | run 403   | anonymous | anonymous
person, gcloud proxy           | iap 401   | iap 401       | run 404 | developer | 401       | 401
person, gcloud token           | iap 401   | iap 401       | run 404 | developer | 401       | 401
person outside, gcloud token   | iap 401   | iap 401       | run 404 | run 403   | 401       | 401
person, IAP session            | developer | developer     | run 404 | run 403   | anonymous | anonymous
person outside, IAP session    | iap 403   | iap 403       | run 404 | run 403   | anonymous | anonymous
person, token of an IAP client | developer | developer     | run 404 | run 401   | 401       | 401
robot, this address            | iap 401   | iap 401       | run 404 | robot     | robot     | robot
robot, another address         | iap 401   | iap 401       | run 404 | run 401   | 401       | 401
robot, expired                 | iap 401   | iap 401       | run 404 | run 401   | 401       | 401
forged stripped token          | iap 401   | iap 401       | run 404 | run 401   | 401       | 401
forged stripped, other header  | iap 401   | iap 401       | run 404 | run 401   | 401       | 401
forged beside a good token     | iap 401   | iap 401       | run 404 | 401       | 401       | 401
forged IAP assertion           | iap 401   | iap 401       | run 404 | run 403   | anonymous | anonymous
forged assertion, IAP session  | guest     | guest         | run 404 | run 403   | anonymous | anonymous
assertion for another site     | iap 401   | iap 401       | run 404 | run 403   | anonymous | anonymous
Cloud Tasks                    | iap 401   | iap 401       | run 404 | run 403   | tasks     | tasks
Cloud Scheduler                | iap 401   | iap 401       | run 404 | run 403   | cron      | cron
Pub/Sub                        | iap 401   | iap 401       | run 404 | run 403   | push      | push
"""
"""The caller's identity, or who refuses with which status code; without a name, the console itself. ``bypass``: the
service's own address beside the load balancer."""

MACHINES = """
caller                           | function | internal | internet | opened   | unlocked | none
anonymous                        | task     | run 403  | run 404  | 401      | 401      | 401
anonymous                        | push     | run 403  | run 404  | 401      | 401      | 401
person, gcloud proxy             | task     | run 403  | run 404  | 401      | 401      | 401
person, gcloud proxy             | push     | run 403  | run 404  | 401      | 401      | 401
person, gcloud token             | task     | run 403  | run 404  | 401      | 401      | 401
person, gcloud token             | push     | run 403  | run 404  | 401      | 401      | 401
robot, this address              | task     | run 403  | run 404  | 401      | 401      | 401
robot, this address              | push     | run 403  | run 404  | 401      | 401      | 401
robot, another address           | task     | run 401  | run 404  | 401      | 401      | 401
robot, another address           | push     | run 401  | run 404  | 401      | 401      | 401
robot, expired                   | task     | run 401  | run 404  | 401      | 401      | 401
robot, expired                   | push     | run 401  | run 404  | 401      | 401      | 401
forged stripped token            | task     | run 401  | run 404  | 401      | 401      | 401
forged stripped token            | push     | run 401  | run 404  | 401      | 401      | 401
forged stripped, other header    | task     | run 401  | run 404  | 401      | 401      | 401
forged stripped, other header    | push     | run 401  | run 404  | 401      | 401      | 401
forged IAP assertion             | task     | run 403  | run 404  | 401      | 401      | 401
forged IAP assertion             | push     | run 403  | run 404  | 401      | 401      | 401
Cloud Tasks                      | task     | accepted | run 404  | accepted | accepted | accepted
Cloud Tasks                      | push     | run 403  | run 404  | 401      | 401      | 401
Cloud Scheduler                  | task     | accepted | run 404  | accepted | accepted | accepted
Cloud Scheduler                  | push     | run 403  | run 404  | 401      | 401      | 401
Pub/Sub                          | task     | run 403  | run 404  | 401      | 401      | 401
Pub/Sub                          | push     | accepted | run 404  | accepted | accepted | accepted
right account, gcloud's audience | task     | 401      | run 404  | 401      | 401      | 401
right account, gcloud's audience | push     | 401      | run 404  | 401      | 401      | 401
"""
"""The same for the other functions: ``internal`` is the network of Google's services, where the callers stand unless
the column says ``internet``."""

FUNCTIONS = {"task": ["on_task"], "push": ["on_gitiles_commit", "on_build_completion"]}
STRIPPING: dict[str, Sequence[Stripping]] = {"proxy": ("always", "documented", "never")}
SITES = [(name, stripping) for name in FRONT_ENDS for stripping in STRIPPING.get(name, ("always", "never"))]
"""The results do not depend on which tokens the platform strips."""

Cell = tuple[str, str, str]
"""Column, caller and endpoint."""


def _rows(table: str) -> list[dict[str, str]]:
    names, *rows = ([part.strip() for part in line.split("|")] for line in table.strip().splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows]


def _console_cells() -> Iterator[tuple[str, Cell, str]]:
    """Yield the front end on which each cell is tried, the cell, and the expected result."""
    for row in _rows(CONSOLE):
        caller = row.pop("caller")
        for column, expected in row.items():
            for endpoint in ("page", "api"):
                yield "load_balancer" if column == "bypass" else column, (column, caller, endpoint), expected


def _machine_cells() -> Iterator[tuple[str, Cell, str]]:
    for row in _rows(MACHINES):
        caller, kind = row.pop("caller"), row.pop("function")
        for column, expected in row.items():
            for function in FUNCTIONS[kind]:
                name = "proxy" if column in ("internal", "internet") else column
                yield name, (column, caller, function), expected


def _expected() -> dict[str, dict[Cell, str]]:
    """Return the cells of each front end."""
    cells: dict[str, dict[Cell, str]] = {name: {} for name in FRONT_ENDS}
    for name, cell, expected in (*_console_cells(), *_machine_cells()):
        cells[name][cell] = f"function {expected}" if expected.isdecimal() else expected.replace("run ", "cloud run ")
    return cells


EXPECTED = _expected()


def _found(site: Site, cell: Cell) -> str:
    column, caller, endpoint = cell
    headers = CALLERS[caller](site, "console" if endpoint in ("page", "api") else endpoint)
    place = {"bypass": "internet", "internet": "internet", "direct": "direct"}.get(column, "")
    return who(call(site, endpoint, headers, place), endpoint)


@pytest.mark.parametrize(("name", "stripping"), SITES)
def test_the_right_identity_or_the_right_refusal(name: str, stripping: Stripping, tmp_path: Path) -> None:
    """Each cell of the tables is as it says."""
    with site_behind(name, stripping, tmp_path) as site:
        assert {cell: _found(site, cell) for cell in EXPECTED[name]} == EXPECTED[name]


def test_the_tables_have_each_caller_and_each_endpoint() -> None:
    """A forgotten row or column would be an untested door."""
    cells = [cell for expected in EXPECTED.values() for cell in expected]
    assert {caller for _, caller, _ in cells} == set(CALLERS)
    assert {endpoint for _, _, endpoint in cells} == {"page", "api", "on_task", *FUNCTIONS["push"]}
    assert all(EXPECTED.values())
    assert len(cells) > 400


@pytest.mark.parametrize("setting", ["SCHEDULER_TRUST_FRONT_END", "SCHEDULER_LOCAL_SERVICE"])
def test_the_platforms_word_counts_only_with_both_settings(setting: str, tmp_path: Path) -> None:
    """Without the setting, or outside Cloud Run, the functions refuse tokens that the platform has verified."""
    with site_behind("proxy", "documented", tmp_path, {setting: ""}) as site:
        assert _found(site, ("internal", "person, gcloud proxy", "page")) == "function 401"
        assert _found(site, ("internal", "person, gcloud token", "api")) == "function 401"
        assert _found(site, ("internal", "robot, this address", "api")) == "robot"
        assert _found(site, ("internal", "Cloud Tasks", "on_task")) == "accepted"


@pytest.mark.parametrize("stripping", ["always", "never"])
def test_an_invoker_by_mistake_starts_nothing(stripping: Stripping, tmp_path: Path) -> None:
    """Cloud Run lets an account in that got the invoker role; the functions accept only their own callers."""
    with site_behind("proxy", stripping, tmp_path) as site:
        assert site.front_end is not None
        services = site.front_end.services
        for function in ("on_task", *FUNCTIONS["push"]):
            services.change(service_name(function), invokers=frozenset({"allAuthenticatedUsers"}))
            for caller in ("robot, this address", "person, gcloud token"):
                assert _found(site, ("internal", caller, function)) == "function 401"
        assert _found(site, ("internal", "Cloud Tasks", "on_gitiles_commit")) == "function 401"
        assert _found(site, ("internal", "Pub/Sub", "on_task")) == "function 401"
        assert _found(site, ("internal", "Pub/Sub", "on_gitiles_commit")) == "accepted"


def test_the_platforms_word_ends_when_the_service_is_opened(tmp_path: Path) -> None:
    """A forged token passes an opened service unchanged; a minute later at most, the functions refuse it."""
    with site_behind("proxy", "always", tmp_path) as site:
        assert site.front_end is not None
        forged = {function: CALLERS["forged stripped token"](site, function) for function in ("console", "on_task")}
        before = {name: _found(site, ("internal", "person, gcloud proxy", name)) for name in ("page", "api")}
        assert before == {"page": "developer", "api": "developer"}
        assert _found(site, ("internal", "Cloud Tasks", "on_task")) == "accepted"
        for function in site.cloud.functions:
            site.front_end.services.open(service_name(function))
        site.clock.advance(61 * SECOND)
        for endpoint, function in (("page", "console"), ("api", "console"), ("on_task", "on_task")):
            assert who(call(site, endpoint, forged[function]), endpoint) == "function 401"
        # Whole tokens need no word of the platform: an open service passes them as they are.
        assert _found(site, ("internal", "Cloud Tasks", "on_task")) == "accepted"


@pytest.mark.parametrize("stripping", ["always", "never"])
def test_without_the_policy_stripped_tokens_wait(stripping: Stripping, tmp_path: Path) -> None:
    """The last answer counts for ten minutes. After that the sender must come again, unless its token is whole."""
    with site_behind("proxy", stripping, tmp_path) as site:
        assert site.front_end is not None
        cells = [("internal", "person, gcloud proxy", "page"), ("internal", "Cloud Tasks", "on_task")]
        good = ["developer", "accepted"]
        assert [_found(site, cell) for cell in cells] == good
        site.front_end.apis.failing = 503
        site.clock.advance(9 * MINUTE)
        assert [_found(site, cell) for cell in cells] == good
        site.clock.advance(2 * MINUTE)
        waiting = ["function 500", "function 500"] if stripping == "always" else good
        assert [_found(site, cell) for cell in cells] == waiting
        site.front_end.apis.failing = 0
        site.clock.advance(MINUTE)
        assert [_found(site, cell) for cell in cells] == good


def test_a_refused_schedule_has_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A schedule that never reaches its function does not run, and the doctor must say so."""
    with site_behind("proxy", "documented", tmp_path, sweep_seconds=0.05) as site:
        assert site.front_end is not None
        schedule = site.cloud.schedules["sweep"]
        until(lambda: schedule.last is not None, "a sweep runs")
        site.front_end.services.change(service_name("on_task"), invokers=frozenset())
        until(lambda: "the sweep was answered 403" in caplog.text, "a sweep is refused")
        last = schedule.last
        caplog.clear()
        until(lambda: "the sweep was answered 403" in caplog.text, "the next sweep is refused")
        assert schedule.last == last


def test_the_console_itself_verifies_assertions(tmp_path: Path) -> None:
    """A request that reaches the function past IAP gains nothing by the headers that IAP sets."""
    with site_behind("iap", "always", tmp_path) as site:
        assert site.front_end is not None
        for endpoint in ("page", "api"):
            for caller in ("forged IAP assertion", "assertion for another site"):
                assert _found(site, ("direct", caller, endpoint)) == "function 401"
            unsigned = {"x-goog-authenticated-user-email": f"accounts.google.com:{DEVELOPER}"}
            assert who(call(site, endpoint, unsigned, "direct"), endpoint) == "anonymous"
            now, audience = site.clock.now(), site.front_end.iap_audience
            good = {"x-goog-iap-jwt-assertion": site.front_end.authority.assertion(DEVELOPER, audience, now)}
            assert who(call(site, endpoint, good, "direct"), endpoint) == "developer"


def test_a_browser_signs_in(tmp_path: Path) -> None:
    """From the first page to the sign-in page and back; the account decides about the page."""
    with site_behind("iap", "documented", tmp_path) as site, requests.Session() as browser:
        browser.trust_env = False
        browser.headers["Accept"] = "text/html"
        page = browser.get(f"{site.url('console')}/?a=b", timeout=60)
        assert DEVELOPER in page.text
        form = {"account": DEVELOPER, "next": "/?a=b"}
        answer = browser.post(page.url.partition("?")[0], form, timeout=60)
        assert answer.url.endswith("/?a=b")
        assert who(answer, "page") == "developer"
        assert "LOCAL_IAP" in next(iter(browser.cookies.keys()))
        assert site.url("console") in addresses(site.cloud)
        assert site.uri("on_task") in addresses(site.cloud)
        browser.post(page.url.partition("?")[0], {**form, "account": OUTSIDER}, timeout=60)
        assert browser.get(site.url("console"), timeout=60).status_code == 403
