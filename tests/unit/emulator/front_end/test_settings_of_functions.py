"""The addresses and settings that a front end gives to the functions. Nothing listens."""

from __future__ import annotations

import pytest

from emulator.clock import SteppedClock
from emulator.front_end.front_end import FrontEnd, service_name
from emulator.front_end.modes import MODES, Mode
from emulator.front_end.services import Ingress
from emulator.settings import accounts_of
from emulator.tcp_ports import free_port
from luci_scheduler.core.instants import SECOND, Instant

GCLOUD = "32555940559.apps.googleusercontent.com"


def made(mode: Mode, port: int = 0) -> FrontEnd:
    """Return a front end that is not started."""
    accounts = accounts_of("p-1")
    now = SteppedClock(Instant(SECOND)).now
    return FrontEnd(mode, project="p-1", location="us-central1", accounts=accounts, now=now, console_port=port)


@pytest.mark.parametrize(
    ("mode", "trust", "iap", "gcloud", "ingress"),
    [
        ("iap", "false", "/projects/123456789012/locations/us-central1/services/luci-scheduler-console", False, "ALL"),
        ("load_balancer", "false", "/projects/123456789012/global/backendServices/", False, "LOAD_BALANCER"),
        ("proxy", "true", "", True, "ALL"),
        ("public", "false", "", False, "ALL"),
    ],
)
def test_the_consoles_settings(mode: Mode, trust: str, iap: str, gcloud: bool, ingress: str) -> None:
    """They are those of a deployment with the same front end."""
    front_end = made(mode)
    settings = front_end.settings("console")
    assert settings["SCHEDULER_TRUST_FRONT_END"] == trust
    assert settings["SCHEDULER_IAP_AUDIENCE"].startswith(iap)
    assert bool(settings["SCHEDULER_IAP_AUDIENCE"]) == bool(iap)
    audiences = settings["SCHEDULER_CONSOLE_AUDIENCES"].split(",")
    assert audiences == [front_end.uri("console"), *([GCLOUD] if gcloud else [])]
    assert settings["SCHEDULER_LOCAL_USER"] == ""
    service = front_end.services.get(service_name("console"))
    assert service.ingress is Ingress[ingress]
    assert service.is_public == (mode == "public")
    assert service.iap_enabled == (mode == "iap")


@pytest.mark.parametrize("mode", MODES)
def test_the_other_functions_settings(mode: Mode) -> None:
    """They do not depend on the console's front end: internal, with the accounts of their callers."""
    front_end = made(mode)
    task, push = front_end.settings("on_task"), front_end.settings("on_build_completion")
    assert task["SCHEDULER_TASK_AUDIENCE"] == front_end.uri("on_task")
    assert task["SCHEDULER_TASK_URL"] == front_end.url("on_task", "internal")
    assert task["SCHEDULER_TASK_CALLERS"] == "cron@p-1.iam.gserviceaccount.com"
    assert task["SCHEDULER_LOCAL_SERVICE"] == "luci-scheduler-on-task"
    assert push["SCHEDULER_PUSH_ACCOUNT"] == "push@p-1.iam.gserviceaccount.com"
    assert push["SCHEDULER_PUSH_AUDIENCE"] == front_end.uri("on_build_completion")
    services = front_end.services
    assert services.get("luci-scheduler-on-task").invokers == {
        "serviceAccount:tasks@p-1.iam.gserviceaccount.com",
        "serviceAccount:cron@p-1.iam.gserviceaccount.com",
    }
    for name in ("on_gitiles_commit", "on_build_completion"):
        service = services.get(service_name(name))
        assert service.invokers == {"serviceAccount:push@p-1.iam.gserviceaccount.com"}
        assert service.ingress is Ingress.INTERNAL


@pytest.mark.parametrize("mode", MODES)
def test_people_open_the_chosen_port(mode: Mode) -> None:
    """In each mode the port is that of the address that people open."""
    port = free_port()
    assert made(mode, port).console_url == f"http://127.0.0.1:{port}"


def test_functions_of_cloud_build_and_github() -> None:
    """Pub/Sub pushes to one of them with a token, and the other is open to the world. By default both are missing."""
    wanted = ("on_gitiles_commit", "on_build_completion", "on_task", "console", "on_cloud_build", "on_github_push")
    now = SteppedClock(Instant(SECOND)).now
    with_all = FrontEnd("iap", project="p-1", location="l", accounts=accounts_of("p-1"), now=now, functions=wanted)
    audience = with_all.settings("on_cloud_build")["SCHEDULER_PUSH_AUDIENCE"]
    assert audience == with_all.uri("on_cloud_build")
    services = {name: with_all.services.get(service_name(name)) for name in wanted}
    assert services["on_cloud_build"].ingress is services["on_build_completion"].ingress
    assert services["on_cloud_build"].invokers == services["on_build_completion"].invokers
    assert (services["on_github_push"].ingress, services["on_github_push"].invokers) == (
        Ingress.ALL,
        frozenset({"allUsers"}),
    )
    with pytest.raises(KeyError):
        with_all.url("on_github_push", "push")
    with pytest.raises(KeyError):
        made("iap").uri("on_cloud_build")
