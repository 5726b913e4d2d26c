"""``luci-scheduler doctor`` and ``login`` through the local front end, where pushes and people have real tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

import pytest
import requests

from emulator.banner import addresses
from emulator.front_end.modes import Mode
from emulator.local_cloud import LocalCloud
from emulator.local_control_plane import LocalControlPlane
from emulator.options import Options
from emulator.sample import make_sample
from emulator.start import start_local_cloud
from luci_scheduler import process
from luci_scheduler.cli.doctor import command
from luci_scheduler.cli.doctor import inside as inside_module
from luci_scheduler.cli.main import main
from luci_scheduler.cloud_ports import make_verify_push
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Behind:
    """A local cloud behind a front end, and the command's options for it."""

    cloud: LocalCloud
    options: tuple[str, ...]
    apis: str


@pytest.fixture(name="behind", scope="module", params=["iap", "proxy"])
def _behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    mode: Mode = request.param
    folder = tmp_path_factory.mktemp("cloud")
    make_sample(folder / "configs")
    options = Options(folder=folder, store="memory", sweep_seconds=1, sync_seconds=1, front_end=mode)
    with start_local_cloud(options) as cloud, LocalControlPlane(cloud) as control:
        cloud.repository("https://sample.googlesource.com/engine")
        until(lambda: all(schedule.last for schedule in cloud.schedules.values()), "the schedules run")
        assert cloud.front_end is not None
        yield Behind(cloud, ("--url", cloud.console_url, *_token(addresses(cloud))), control.url)


def _token(shown: str) -> tuple[str, ...]:
    """Do what `up` says; no option if it says nothing."""
    found = re.search(r'--token "\$\(curl -s (http://\S+)\)"', shown)
    if found is None:
        return ()
    foreign = requests.get(found[1], headers={"Origin": "https://x.example"}, timeout=10)
    rebound = requests.get(found[1], headers={"Host": "x.example"}, timeout=10)
    assert (foreign.status_code, rebound.status_code) == (403, 403)
    return "--token", requests.get(found[1], timeout=10).text


def _doctor(behind: Behind, capsys: pytest.CaptureFixture[str], *impatient: str) -> dict[str, dict[str, str]]:
    patience = lambda check: 0.3 if check in impatient else 60.0  # noqa: E731
    with mock.patch.object(command, "_patience", patience), mock.patch.object(inside_module, "_POLL", 0.02):
        main(["doctor", *behind.options, "--google-apis", behind.apis, "--json"], {})
    return {item["name"]: item for item in json.loads(capsys.readouterr().out)["checks"]}


def test_a_person_signs_in_and_finds_all_parts_well(behind: Behind, capsys: pytest.CaptureFixture[str]) -> None:
    """Every part that the local cloud has passes its check."""
    assert main(["login", *behind.options], {}) == 0
    assert capsys.readouterr().out == "signed in as dev@localhost; you are an administrator; 2 jobs are visible\n"
    checks = _doctor(behind, capsys)
    others = {name: item["text"] for name, item in checks.items() if item["outcome"] not in ("ok", "not checked")}
    assert others == {}
    absent = {name: item for name, item in checks.items() if item["outcome"] == "not checked"}
    assert set(absent) == {"index-states", "key-rotation", "alerts"}
    assert {item["remedy"] for item in absent.values()} == {"run the command against an installation in the cloud"}


@pytest.mark.parametrize("wrong", [{"push_account": "x@y.iam.gserviceaccount.com"}, {"push_audience": "https://x"}])
def test_pushes_of_another_account_fail_their_check(
    behind: Behind, capsys: pytest.CaptureFixture[str], wrong: dict[str, str]
) -> None:
    """The functions refuse the token that Pub/Sub attaches, and the remedy names the push account."""
    front_end, app = behind.cloud.front_end, process.app()
    assert front_end is not None
    right = {"push_account": front_end.accounts.push, "push_audience": front_end.uri("on_gitiles_commit")}
    settings = replace(app.settings, **{**right, **wrong})
    process.use(replace(app, verify_push=make_verify_push(settings, app.runtime.clock)))
    try:
        checks = _doctor(behind, capsys, "commit-message", "build-messages")
    finally:
        process.use(app)
    assert {checks[name]["outcome"] for name in ("commit-message", "build-messages")} == {"failed"}
    assert "reached on_gitiles_commit" in checks["commit-message"]["text"]
    assert "push account" in checks["commit-message"]["remedy"]
