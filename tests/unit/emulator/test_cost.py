"""The cost page agrees with the prices, the operation counts and the lines that the functions really write."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import flask
import pytest
import structlog

from emulator.cost import (
    CONDITIONS,
    FLEETS,
    LINE_BYTES,
    LOG_ENTRY_BYTES,
    METRICS,
    OPTIONS,
    PATHS,
    REQUEST_LOG_BYTES,
    SCHEDULE_LOG_BYTES,
    SIZES,
    WEBHOOK,
    WEBHOOK_CONDITIONS,
    WEBHOOK_INSTANCES,
    attack,
    build,
    fleet,
    idle,
    job,
    operations,
    polling,
    run,
    tables,
)
from emulator.memory.gitiles import MemoryGitiles
from emulator.prices import FREE_IN_ACCOUNT, FREE_IN_PROJECT, PRICES, Prices, cost, times, total, without_free
from luci_scheduler import entry
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import QueueTask
from tests.unit.engine.world import REPO, World, config

SMALL = SIZES[0]
FREE = replace(PRICES, cpu_second=0.0, gib_second=0.0, log_gib=0.0, sent_gib=0.0)


def test_the_page_has_the_tables() -> None:
    """``python -m emulator.cost`` prints the tables of docs/cost.md."""
    page = Path("docs/cost.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- tables -->\n")[2].partition("\n<!-- end of tables -->")[0]
    assert shown == tables().strip()


@pytest.mark.parametrize("name", [field.name for field in fields(Prices)])
def test_every_price_is_used(name: str) -> None:
    """A thousandfold price changes a table."""
    dearer = replace(PRICES, **{name: 1_000 * getattr(PRICES, name)})
    assert tables(dearer) != tables()


def test_every_free_tier_is_that_of_a_price() -> None:
    """Each names a price, and no price has both kinds of free tiers."""
    assert FREE_IN_PROJECT.keys() | FREE_IN_ACCOUNT.keys() <= {field.name for field in fields(Prices)}
    assert not FREE_IN_PROJECT.keys() & FREE_IN_ACCOUNT.keys()


def test_a_free_tier_is_subtracted_once() -> None:
    """Usage below a tier costs nothing, and the tier never becomes a credit."""
    assert without_free({"log_gib": 60, "request": 5}, FREE_IN_PROJECT) == {"log_gib": 10, "request": 5}
    assert without_free({"log_gib": 60, "request": 5}, FREE_IN_PROJECT, FREE_IN_ACCOUNT) == {
        "log_gib": 10,
        "request": 0,
    }


def test_a_status_check_is_counted() -> None:
    """Counted by hand: one read, one write, a task created and delivered, a request, a line, and half a second."""
    by_hand = 0.03e-5 + 0.09e-5 + 2 * 0.4e-6 + 0.4e-6
    assert cost(run(PATHS["check"], SMALL), FREE) == pytest.approx(by_hand)
    busy = 0.5 * (SIZES[1].cpu * 0.000024 + 0.5 * 0.0000025)
    logs = (REQUEST_LOG_BYTES + LOG_ENTRY_BYTES + LINE_BYTES) / 2**30 * 0.5
    sent = 4000 / 2**30 * 0.12
    assert cost(run(PATHS["check"], SIZES[1])) == pytest.approx(by_hand + busy + logs + sent)


def test_the_price_of_the_golden_build() -> None:
    """Operations, calls and time of a build of half an hour with 28 checks, as deployed: 160 millionths of a dollar."""
    assert cost(operations(build(28, SMALL))) <= 160e-6


def test_the_small_size_is_that_of_the_deployment() -> None:
    """The functions that run builds have the size of the tables' first column by default."""
    text = Path("infra/terraform/variables.tf").read_text(encoding="utf-8")
    sizes = re.findall(r'cpu += optional\(string, "([0-9.]+)"\)\n +memory += optional\(string, "([0-9]+)Mi"\)', text)
    for cpu, memory in sizes[:4]:
        assert (float(cpu), int(memory) / 1024) == (pytest.approx(SMALL.cpu, abs=0.001), SMALL.gib)
    assert len(sizes) == 5, "four of them, and the console"


def test_a_build_grows_with_its_checks_only() -> None:
    """The cost of a step does not depend on the age of the build."""
    step = cost(run(PATHS["check"], SMALL))
    assert cost(build(28, SMALL)) - cost(build(5, SMALL)) == pytest.approx(23 * step)


def test_a_job_of_cloud_build_costs_its_machine() -> None:
    """Five minutes of the default machine are three cents. The scheduler's part is below a hundredth of that."""
    assert 0.03 < cost(job(SMALL)) < 0.03 * 1.01
    assert cost(without_free(times(500, job(SMALL)), FREE_IN_PROJECT, FREE_IN_ACCOUNT)) < 0.01


def test_idle_costs_at_most_a_dollar() -> None:
    """So it is without optional alerts, although other projects use up the free tiers of the billing account."""
    usage = total(idle(SMALL).values())
    assert cost(without_free(usage, FREE_IN_PROJECT)) <= 1
    assert cost(without_free(usage, FREE_IN_PROJECT, FREE_IN_ACCOUNT)) < 0.1
    assert cost(polling(30, SMALL)) < 0.05


def test_a_fleet_pays_for_its_builds_polls_and_the_idle_installation() -> None:
    """Twice the builds cost twice the difference to idle."""
    work = replace(FLEETS[0], pollers=0)
    nothing, once, twice = (cost(fleet(replace(work, builds=n), SMALL)) for n in (0, 1_000, 2_000))
    assert nothing == pytest.approx(cost(total(idle(SMALL).values())))
    assert twice - once == pytest.approx(once - nothing)
    assert once - nothing > 30_000 * cost(build(work.checks, SMALL))


def test_the_secret_versions_follow_the_sum() -> None:
    """The number in the text of the row is the counted number."""
    (row,) = [cause for cause in idle(SMALL) if "secret versions" in cause]
    assert idle(SMALL)[row] == {"secret_version_month": int(row.split()[0])}


def test_the_front_end_of_the_default_costs_nothing() -> None:
    """Only the load balancer has a price."""
    amounts = {name: cost(usage) for name, usage in OPTIONS.items() if "front_end" in name}
    assert {name: amount for name, amount in amounts.items() if "load_balancer" not in name and amount} == {}
    assert [amount > 18 for name, amount in amounts.items() if "load_balancer" in name] == [True]


def test_every_condition_and_metric_is_counted() -> None:
    """Terraform makes no more conditions of alerts and no more metrics than the page counts."""
    monitoring = Path("infra/terraform/modules/monitoring")
    conditions = re.findall(r'^ +"[^"]+" *= \{', (monitoring / "alerts.tf").read_text(encoding="utf-8"), re.MULTILINE)
    metrics = re.findall(r"^    [a-z_]+ *= \{", (monitoring / "metrics.tf").read_text(encoding="utf-8"), re.MULTILINE)
    assert 10 <= len(conditions) <= CONDITIONS + WEBHOOK_CONDITIONS
    assert 10 <= len(metrics) <= METRICS


def test_an_attack_on_the_webhook_is_bounded_by_its_instances() -> None:
    """The size and the number of instances are Terraform's, and so is the share of the entries that are kept."""
    text = Path("infra/terraform/modules/github_webhook/main.tf").read_text(encoding="utf-8")
    assert re.findall(r"max_instances = (\d+)$", text, re.MULTILINE) == [str(WEBHOOK_INSTANCES)]
    ((cpu, mebibytes),) = re.findall(r'cpu = "(\d+)", memory = "(\d+)Mi"', text)
    assert (int(cpu), int(mebibytes) / 1024) == (WEBHOOK.cpu, WEBHOOK.gib)
    assert "sample(insertId, 0.99)" in text
    usage = attack()
    assert cost({name: usage[name] for name in ("cpu_second", "gib_second")}) == pytest.approx(4.26, abs=0.01)
    assert cost(usage) < 40


def test_usages_add_up() -> None:
    """Sums and multiples keep fractions."""
    assert total([{"request": 1}, times(2, {"request": 0.25, "log_gib": 1})]) == {"request": 1.5, "log_gib": 2}


# The log: real lines of each path, and entries as Cloud Run and Cloud Scheduler write them.

_TRACEPARENT = {"traceparent": f"00-{'1' * 32}-b7ad6b7169203331-01"}
_SERVICE = "luci-scheduler-on-build-completion"
_RESOURCE = {
    "type": "cloud_run_revision",
    "labels": {
        "configuration_name": _SERVICE,
        "location": "us-central1",
        "project_id": "my-project-12345",
        "revision_name": f"{_SERVICE}-00042-abc",
        "service_name": _SERVICE,
    },
}
_COMMON = {
    "insertId": "65a1b2c3000e4f5a6b7c8d9e",
    "receiveTimestamp": "2026-11-29T00:17:22.906200123Z",
    "severity": "INFO",
    "timestamp": "2026-11-29T00:17:22.906200Z",
}
_INSTANCE = {"labels": {"instanceId": "0" * 180, "execution_id": "a" * 12}, "resource": _RESOURCE}
_TRACE = {"spanId": "b7ad6b7169203331", "trace": f"projects/my-project-12345/traces/{'1' * 32}"}


class _Log:
    """The deliveries of a world, and the lines that they write."""

    def __init__(self, output: io.StringIO) -> None:
        self._output = output
        self._server = flask.Flask("site")

    def message(self, world: World, function: Any, data: Any, number: str) -> list[str]:
        """Deliver a message and return its lines."""
        world.clock.advance(SECOND)
        message = {
            "data": base64.b64encode(json.dumps(data).encode()).decode(),
            "attributes": {"version": "v2"},
            "messageId": number * 17,
            "publishTime": format_rfc3339(world.clock.now()),
        }
        event = type("Event", (dict,), {"data": {"message": message}})({"id": number * 17, "time": ""})
        with self._server.test_request_context(headers=_TRACEPARENT):
            assert function(world.app, event)[1] == 200
        return self._taken()

    def task(self, world: World, task: QueueTask) -> list[str]:
        """Deliver a task and return its lines."""
        headers = {"X-CloudTasks-TaskName": "5" * 19, **_TRACEPARENT}
        with self._server.test_request_context(
            f"/{task.kind}", method="POST", json=dict(task.payload), headers=headers
        ):
            assert entry.task(world.app, flask.request)[1] == 200  # type: ignore[index]
        return self._taken()

    def _taken(self) -> list[str]:
        lines = self._output.getvalue().splitlines()
        self._output.seek(0)
        self._output.truncate()
        return lines


@pytest.fixture(name="log")
def _log() -> Iterator[_Log]:
    output = io.StringIO()
    configure_logging("my-project-12345", output)
    try:
        yield _Log(output)
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def _lines_of_a_build(log: _Log) -> dict[str, list[str]]:
    world = World()
    log.task(world, QueueTask("sync", {}, world.clock.now()))

    def notify(number: str) -> list[str]:
        number_of_build, token = next(iter(world.buildbucket.tokens.items()))
        data = {"buildPubsub": {"build": {"id": number_of_build}}, "userData": token}
        return log.message(world, entry.notification, data, number)

    def timer() -> list[str]:
        world.clock.advance(61 * SECOND)
        (task,) = world.queue.take_due(world.clock.now())
        return log.task(world, task)

    commit = {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}
    lines = {"commit": log.message(world, entry.commit, commit, "1"), "notification": notify("2"), "check": timer()}
    world.finish()
    return {**lines, "completion": notify("3"), "orphan": timer()}


def _lines_of_an_unchanged_poll(log: _Log) -> list[str]:
    git = MemoryGitiles()
    git.push("refs/heads/main")
    world = World(config().replace('schedule: "triggered" gitiles', 'schedule: "with 30s interval" gitiles'), git)
    for _ in range(3):  # the first poll finds the branch, and its triggers are dispatched
        world.tick(30)
    world.finish()
    world.notify("end")
    world.tick(30)
    (due,) = (task for task in world.queue.tasks if task.kind == "cron")
    world.clock.move_to(Instant(due.eta))
    log.task(world, QueueTask("sync", {}, world.clock.now()))  # takes the lines so far
    (poll,) = (task for task in world.queue.take_due(world.clock.now()) if task.kind == "cron")
    return log.task(world, poll)


def test_each_path_writes_its_lines(log: _Log) -> None:
    """No path counts fewer lines than the functions write, and no line exceeds the counted bytes by a tenth."""
    world = World()
    written = {
        **_lines_of_a_build(log),
        "poll": _lines_of_an_unchanged_poll(log),
        "sync": log.task(world, QueueTask("sync", {}, world.clock.now()))[1:],  # the first line is of World's own sync
        "sweep": log.task(world, QueueTask("sweep", {}, world.clock.now())),
    }
    assert written.keys() == PATHS.keys()
    assert [name for name, lines in written.items() if len(lines) > PATHS[name].lines] == []
    assert sum(path.lines for path in PATHS.values()) - sum(map(len, written.values())) == 0
    sizes = [len(line.encode()) for lines in written.values() for line in lines]
    assert max(sizes) <= 1.1 * LINE_BYTES
    assert sum(sizes) / len(sizes) >= 0.8 * LINE_BYTES


def _size(entry_of_log: dict[str, Any]) -> int:
    return len(json.dumps(entry_of_log))


def test_entries_have_the_counted_sizes() -> None:
    """The entries have the members that Cloud Logging's reference gives them; the counted sizes are a little larger."""
    line = {
        **_COMMON,
        **_INSTANCE,
        **_TRACE,
        "jsonPayload": {},
        "logName": "projects/p/logs/run.googleapis.com%2Fstdout",
    }
    request = {
        **_COMMON,
        **_INSTANCE,
        **_TRACE,
        "httpRequest": {
            "latency": "0.012345678s",
            "protocol": "HTTP/1.1",
            "remoteIp": "2600:1900:2000:1b:400::1f",
            "requestMethod": "POST",
            "requestSize": "2345",
            "requestUrl": f"https://{_SERVICE}-123456789012.us-central1.run.app/projects/my-project-12345/topics/"
            "scheduler.buildbucket.cr-buildbucket~appspot.gserviceaccount.com",
            "responseSize": "345",
            "serverIp": "2001:4860:4802:32::35",
            "status": 200,
            "userAgent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
        },
        "logName": "projects/my-project-12345/logs/run.googleapis.com%2Frequests",
    }
    attempt = {
        **_COMMON,
        "jsonPayload": {
            "@type": "type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished",
            "jobName": "projects/my-project-12345/locations/us-central1/jobs/luci-scheduler-sweep",
            "status": "OK",
            "targetType": "HTTP",
            "url": "https://luci-scheduler-on-task-123456789012.us-central1.run.app/sweep",
        },
        "logName": "projects/my-project-12345/logs/cloudscheduler.googleapis.com%2Fexecutions",
        "resource": {
            "labels": {"job_id": "luci-scheduler-sweep", "location": "us-central1", "project_id": "my-project-12345"},
            "type": "cloud_scheduler_job",
        },
    }
    for counted, size in (
        (LOG_ENTRY_BYTES, _size(line)),
        (REQUEST_LOG_BYTES, _size(request)),
        (SCHEDULE_LOG_BYTES, 2 * _size(attempt)),
    ):
        assert 0.8 * counted <= size <= counted


def test_the_page_names_the_assumptions() -> None:
    """The numbers of bytes in the notes are the counted ones."""
    page = Path("docs/cost.md").read_text(encoding="utf-8")
    for number in (LINE_BYTES, LOG_ENTRY_BYTES, REQUEST_LOG_BYTES, SCHEDULE_LOG_BYTES):
        assert re.search(rf"\b{number:,}\b", page), number
