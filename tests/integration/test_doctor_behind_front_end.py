"""``luci-scheduler doctor`` on a local cloud behind a front end: tasks, pushes and the console verify their callers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.google_apis import GoogleApis
from emulator.options import Options
from emulator.start import start_local_cloud
from emulator.start_page import make_sample
from luci_scheduler.cli.main import main
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

MISSING_HERE = {"index-states", "key-rotation", "alerts"}
"""The checks of parts that the local cloud does not have."""


def test_each_check_of_an_existing_part_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The names of the parts come from the console's own service. A part that is missing here has no remedy."""
    make_sample(tmp_path / "configs")
    with start_local_cloud(
        Options(folder=tmp_path, store="memory", front_end="proxy", sweep_seconds=1, sync_seconds=1)
    ) as cloud:
        cloud.repository("https://sample.googlesource.com/engine")
        until(lambda: all(schedule.last for schedule in cloud.schedules.values()), "the schedules run")
        with GoogleApis(cloud) as apis:
            code = main(["doctor", "--url", cloud.console_url, "--google-apis", apis.url, "--json"], {})
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {item["name"]: item["text"] for item in checks if item["outcome"] == "failed"} == {}
    assert {item["name"] for item in checks if item["outcome"] != "ok"} == MISSING_HERE
    assert [item["remedy"] for item in checks if item["name"] in MISSING_HERE] == [""] * len(MISSING_HERE)
    assert code == 0
