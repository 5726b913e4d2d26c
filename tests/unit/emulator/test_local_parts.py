"""The parts of a local cloud: options, settings, ports, timers, the guard of its servers, and its host."""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from werkzeug.test import Client
from werkzeug.wrappers import Response

from emulator.arguments import PORT, speed, whole_number
from emulator.clock import RealClock, SteppedClock
from emulator.cloud_scheduler import CloudScheduler
from emulator.errors import LocalCloudError, one_line
from emulator.interceptors import NoInterceptors
from emulator.loopback import OwnSiteOnly
from emulator.memory_host import InProcessFunction, MemoryHost
from emulator.options import Options
from emulator.processes import Output
from emulator.run_task import run_task
from emulator.settings import Addresses, function_environment, queue_path
from emulator.start import start_local_cloud
from emulator.tcp_ports import HOST, free_port, is_free, is_open, require_free
from luci_scheduler import process
from luci_scheduler.adapters.gitiles import host_urls
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.link_map import LinkMap
from luci_scheduler.settings_reader import read_settings
from tests.waiting import until


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("65535", 65535)])
def test_ports_that_are_accepted(text: str, value: int) -> None:
    """Zero picks a free port."""
    assert PORT(text) == value


@pytest.mark.parametrize("text", ["", "-1", "65536", "8.0", "x", "٣"])
def test_ports_that_are_refused(text: str) -> None:
    """The message names the limits."""
    with pytest.raises(argparse.ArgumentTypeError, match="whole number, from 0 to 65535"):
        PORT(text)


def test_numbers_without_an_upper_limit() -> None:
    """Only the lower limit is named."""
    assert whole_number(2)("7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match=r"at least 2$"):
        whole_number(2)("1")


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "fast"])
def test_speeds_that_are_refused(text: str) -> None:
    """A clock runs forward at a finite speed."""
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        speed(text)
    assert speed("0.5") == 0.5


def test_errors_are_one_short_line() -> None:
    """White space is folded, and a long text is cut."""
    assert one_line(" a\n  b\tc ") == "a b c"
    assert one_line("x" * 500) == "x" * 397 + "..."
    assert str(LocalCloudError("no\nJava")) == "no Java"


def test_options_are_frozen_and_have_a_fresh_project() -> None:
    """A start never changes the options of its caller."""
    first, second = Options(), Options()
    assert first.project != second.project
    with pytest.raises(AttributeError):
        first.project = "x"  # type: ignore[misc]
    assert not first.config_rules.lenient_triggers
    assert Options(settings={"SCHEDULER_LENIENT_TRIGGERS": "true"}).config_rules.lenient_triggers


def test_only_memory_runs_faster() -> None:
    """Nothing starts with such options."""
    with pytest.raises(LocalCloudError, match="use --store memory"), start_local_cloud(Options(speed=2)):
        pass


def test_without_interceptors_the_parts_reach_each_other_directly() -> None:
    """Addresses are handed out unchanged."""
    direct = NoInterceptors()
    assert direct.http("console", "http://h:1") == "http://h:1"
    assert direct.grpc("firestore", "h:1") == "h:1"


def _addresses(**changes: Any) -> Addresses:
    values = {
        "project": "local-1",
        "firestore": "127.0.0.1:1",
        "pubsub": "",
        "cloud_tasks": "127.0.0.1:2",
        "certs": "http://127.0.0.1:3/certs",
        "buildbucket": "http://127.0.0.1:4",
        "gitiles": "http://127.0.0.1:5",
        "on_task": "http://127.0.0.1:6",
    }
    return Addresses(**{**values, **changes})


def _environment(folder: Path, **extra: str) -> dict[str, str]:
    return function_environment(
        _addresses(), protocol="v1", config_folder=folder, check_interval_seconds=7, extra=extra
    )


def _scheduler_settings(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("SCHEDULER_")}


def test_the_functions_read_their_environment(tmp_path: Path) -> None:
    """The settings have the addresses, and the developer may do everything."""
    environment = _environment(tmp_path)
    settings = read_settings(_scheduler_settings(environment))
    assert (settings.project, settings.task_url, settings.check_interval_seconds) == (
        "local-1",
        "http://127.0.0.1:6",
        7,
    )
    assert settings.queue_path == queue_path("local-1")
    assert [server.protocol.value for server in settings.buildbucket_servers] == ["v1"]
    assert settings.local
    assert json.loads(settings.access)["admins"] == [f"user:{settings.local_user}"]
    assert "PUBSUB_EMULATOR_HOST" not in environment  # an empty variable would switch the clients to the emulator


def test_more_settings_replace_the_defaults(tmp_path: Path) -> None:
    """The functions refuse a bad one before anything starts."""
    assert _environment(tmp_path, SCHEDULER_CONCURRENCY="3")["SCHEDULER_CONCURRENCY"] == "3"
    with pytest.raises(LocalCloudError, match=r"the functions would not run: .*SCHEDULER_CONCURRENCY"):
        _environment(tmp_path, SCHEDULER_CONCURRENCY="many")


def test_all_gitiles_hosts_and_links_lead_to_the_local_servers(tmp_path: Path) -> None:
    """Also hosts that no config names yet, and the builds of both protocols."""
    settings = read_settings(_scheduler_settings(_environment(tmp_path)))
    assert host_urls(settings.gitiles_urls or {})("new.googlesource.com") == "http://127.0.0.1:5/h/new.googlesource.com"
    links = LinkMap.of(settings.links or {})
    shown = {
        "https://cr-buildbucket.appspot.com/build/7": "http://127.0.0.1:4/build/7",
        "https://ci.chromium.org/b/7": "http://127.0.0.1:4/build/7",
        "https://a-b.googlesource.com/x/+/12": "http://127.0.0.1:5/a-b.googlesource.com/x/+/12",
        "https://example.com/build/7": "https://example.com/build/7",
    }
    assert {url: links.shown(url) for url in shown} == shown


def test_a_port_in_use_is_named() -> None:
    """A free port is not open, and no port is handed out twice."""
    port = free_port()
    assert is_free(port)
    assert not is_open(port)
    assert require_free(port, "x") == port
    assert require_free(0, "x") not in (0, port)
    with socket.create_server((HOST, port)):
        assert is_open(port)
        assert not is_free(port)
        with pytest.raises(LocalCloudError, match=f"port {port} for Gitiles is in use"):
            require_free(port, "Gitiles")


def test_the_schedule_continues_after_a_failure() -> None:
    """The queue may be away for a while."""
    calls: list[threading.Thread] = []

    def enqueue() -> None:
        calls.append(threading.current_thread())
        if len(calls) == 1:
            raise TransientError("the queue is away")

    scheduler = CloudScheduler(enqueue, 0.01)
    scheduler.start()
    until(lambda: len(calls) >= 3)
    scheduler.stop()
    assert not calls[-1].is_alive()


def _served(environ: Any, start_response: Any) -> Any:
    response = Response("<p>", content_type="text/html", headers={"X-Frame-Options": "SAMEORIGIN"})
    return response(environ, start_response)


def test_pages_of_other_sites_do_not_reach_a_server() -> None:
    """A form or a script of another site gets 403; the own page gets its answer."""
    client = Client(OwnSiteOnly(_served))
    refused = client.post("/", headers={"Host": "127.0.0.1", "Origin": "https://evil.example.com"})
    assert refused.status_code == 403
    assert "error" in json.loads(refused.get_data(as_text=True))
    assert client.get("/", headers={"Host": "evil.example.com"}).status_code == 403
    assert client.get("/", headers={"Host": "127.0.0.1"}).get_data(as_text=True) == "<p>"


def test_answers_protect_themselves_from_other_sites() -> None:
    """A header that the server sets itself stays."""
    answer = Client(OwnSiteOnly(_served)).get("/", headers={"Host": "127.0.0.1"})
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


class _Tasks:
    """A client of Cloud Tasks whose task ends after some looks, or never."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self.created: list[Any] = []

    def create_task(self, task: Any, **_: Any) -> Any:
        self.created.append(task)
        task.name = "t"
        return task

    def get_task(self, **_: Any) -> Any:
        from google.api_core import exceptions

        if self._looks == 0:
            raise exceptions.NotFound("gone")
        self._looks -= 1
        task = self.created[0]
        task.response_count = 3
        task.last_attempt.response_status.message = "HTTP 500"
        return task


def test_a_task_is_done_when_the_queue_forgets_it() -> None:
    """It carries the account and the audience of its token."""
    client = _Tasks(looks=2)
    run_task(client, "q", "http://t/sync", "a@b", "aud", 30)
    token = client.created[0].http_request.oidc_token
    assert (token.service_account_email, token.audience) == ("a@b", "aud")


def test_a_task_that_is_not_acknowledged_is_an_error() -> None:
    """The text has the number of answers and the last one."""
    with pytest.raises(LocalCloudError, match=r"did not accept its task within 0 s \(3 answers; the last: HTTP 500\)"):
        run_task(_Tasks(looks=10**6), "q", "http://t/sync", "a@b", "aud", 0.4)


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Any:
    host = MemoryHost(SteppedClock(5 * SECOND))
    host.start(_environment(tmp_path))
    yield host
    host.stop()


def test_a_host_serves_an_application_on_its_store_and_clock(host: MemoryHost) -> None:
    """The other ports are those of a deployment."""
    runtime = process.app().runtime
    assert runtime.store is host.store
    assert runtime.clock.now() == 5 * SECOND
    assert type(runtime.queue._object()).__name__ == "CloudTasksQueue"  # type: ignore[attr-defined]


def test_a_process_has_one_host(host: MemoryHost, tmp_path: Path) -> None:
    """The second one is refused until the first one stops."""
    other = MemoryHost(RealClock())
    with pytest.raises(LocalCloudError, match="one local cloud in memory at a time"):
        other.start(_environment(tmp_path))
    host.stop()
    host.stop()
    other.start(_environment(tmp_path))
    other.stop()


def test_a_stopped_host_returns_the_process_to_its_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later requests do not reach the store of the stopped host."""
    ours: Any = object()
    monkeypatch.setattr(process, "_holder", process.AppHolder(lambda: ours))
    host = MemoryHost(SteppedClock(0))
    host.start(_environment(tmp_path))
    assert process.app() is not ours
    host.stop()
    assert process.app() is ours


def test_a_cleared_host_has_an_empty_store(host: MemoryHost) -> None:
    """The application works on the new store at once."""
    before = host.store
    host.clear()
    assert host.store is not before
    assert process.app().runtime.store is host.store


def test_lines_of_the_functions_are_kept_by_the_host(host: MemoryHost) -> None:
    """As JSON, in its output."""
    structlog.get_logger("luci_scheduler").info("sweep_done", tasks=0)
    (line,) = [json.loads(line) for line in host.output.lines]
    assert (line["message"], line["severity"], line["tasks"]) == ("sweep_done", "INFO", 0)


def test_a_function_in_this_process_cannot_be_killed() -> None:
    """The error says which local cloud has processes."""
    function = InProcessFunction("console", Output())
    with pytest.raises(LocalCloudError, match="only with --store emulators"):
        function.kill()
    function.wait_until_ready()
    assert (function.pid, function.starts, function.restarts) == (None, 0, 0)
    function.stop()


@pytest.mark.parametrize("make", [lambda: RealClock(1000.0), lambda: SteppedClock(0)])
def test_a_sleep_takes_the_time_of_its_clock(make: Callable[[], Any]) -> None:
    """A thousand times as fast, or at once; no time passes for a sleep that is not positive."""
    clock, begun = make(), time.monotonic()
    before = clock.now()
    clock.sleep(10 * SECOND)
    clock.sleep(-SECOND)
    assert clock.now() - before >= 10 * SECOND
    assert time.monotonic() - begun < 9


def test_a_stepped_clock_wakes_its_waiters() -> None:
    """When it passes their instant."""
    clock, woken = SteppedClock(0), threading.Event()
    waiter = threading.Thread(target=clock.wait_until, args=(SECOND, woken))
    waiter.start()
    clock.reach(2 * SECOND)
    waiter.join(timeout=30)
    assert not waiter.is_alive()
    clock.reach(SECOND)
    assert clock.now() == 2 * SECOND
    with pytest.raises(ValueError, match="does not go back"):
        clock.move_to(SECOND)
