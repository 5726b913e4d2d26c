"""The golden scenarios: inputs in, the debug log and the page out, byte for byte."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emulator.replay.cli import page
from emulator.replay.player import Played, play
from emulator.replay.scenario import load_scenario, read_scenario

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "tint-mac-rel"
SCENARIOS = sorted(path.parent for path in FOLDER.glob("*/scenario.json"))


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_log_and_page_are_byte_equal(folder: Path) -> None:
    """Every scenario gives its reviewed log and page."""
    played = play(load_scenario(folder / "scenario.json"))
    assert played.invocations[0][1].removesuffix("\n") == (folder / "log.txt").read_text(encoding="utf-8")
    assert page(played) == (folder / "page.txt").read_text(encoding="utf-8")
    assert set(played.codes) == {200}


def test_golden_log_is_that_of_the_original() -> None:
    """The golden log is the original's page of 2021 from its first to its last line."""
    log = (GOLDEN / "log.txt").read_text(encoding="utf-8")
    assert log.startswith("[21:40:22.317] New invocation is queued and will start shortly\n")
    assert log.endswith("[22:09:02.204] Invocation finished in 28m39.901654804s with status SUCCEEDED")


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"},
        {"TZ": "America/St_Johns", "LC_ALL": "C", "PYTHONHASHSEED": "4242"},
    ],
    ids=["kathmandu", "st-johns"],
)
def test_log_does_not_depend_on_the_machine(environment: dict[str, str]) -> None:
    """Another time zone, locale and hash seed give the same bytes, through the command as a user runs it."""
    command = [sys.executable, "-m", "emulator", "replay", str(GOLDEN / "scenario.json"), "--log"]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True, timeout=60)
    assert ran.stdout == (GOLDEN / "log.txt").read_bytes()


def test_log_does_not_depend_on_how_slow_the_machine_is() -> None:
    """Real delays before every call leave the log as it is: only the scenario's clock counts."""
    played = play(load_scenario(GOLDEN / "scenario.json"), before_each=lambda: time.sleep(0.1))
    assert played.invocations[0][1].removesuffix("\n") == (GOLDEN / "log.txt").read_text(encoding="utf-8")


def _mutated(change: Any) -> Played:
    text = (GOLDEN / "scenario.json").read_text(encoding="utf-8")
    config = (GOLDEN / "luci-scheduler.cfg").read_text(encoding="utf-8")
    document = json.loads(text)
    config = change(document, config) or config
    return play(read_scenario(document, config))


def _rename(document: Any, config: str) -> str:
    return config.replace('"mac-rel"', '"linux-rel"')


def _slower_commit(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["commit"][0] = "2.104s"


def _slower_call(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["call"] = ["1635ms"]


def _slower_enqueue(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["enqueue"] = ["500ms"]


def _other_suffix(document: Any, config: str) -> None:
    document["chance"]["suffixes"] = [1]


def _failed(document: Any, config: str) -> None:
    document["deliveries"][-1]["answers"][0]["build"].update(result="FAILURE", failure_reason="BUILD_FAILURE")


def _canceled(document: Any, config: str) -> None:
    document["deliveries"][-1]["answers"][0]["build"].update(result="CANCELED", cancelation_reason="TIMEOUT")


def _fewer_checks(document: Any, config: str) -> None:
    del document["deliveries"][10:-1]


def _late_check(document: Any, config: str) -> None:
    document["deliveries"][2]["lateness"] = "5s"
    del document["deliveries"][3:-1]


def _other_interval(document: Any, config: str) -> None:
    document["service"]["check_interval_seconds"] = 90
    del document["deliveries"][3:-1]


def _no_first_notification(document: Any, config: str) -> None:
    del document["deliveries"][1]


def _refused(document: Any, config: str) -> None:
    document["deliveries"][0]["answers"] = [{"error": {"reason": "BUILDER_NOT_FOUND", "message": "no builder"}}]
    del document["deliveries"][1:]


def _other_revision(document: Any, config: str) -> None:
    document["deliveries"][0]["commit"]["revision"] = "a" * 40


MUTATIONS = [
    (_rename, ["(tint/linux-rel:9020353019805130176:2:0)", '\\"builder_name\\":\\"linux-rel\\"']),
    (_slower_commit, ["[21:40:24.421] Starting the invocation (attempt 1)"]),
    (_slower_call, ["[21:40:25.106] Buildbucket response:", "[21:40:25.106] Task URL"]),
    (_slower_enqueue, ["[21:40:24.106] Task URL", "[21:40:24.606] Scheduling timer"]),
    (_other_suffix, ["tint/mac-rel:9020353019804385296:2:0"]),
    (_failed, ['result "FAILURE", failure_reason "BUILD_FAILURE"', "28m39.901654804s with status FAILED"]),
    (_canceled, ['result "CANCELED"', 'cancelation_reason "TIMEOUT"', "with status FAILED"]),
    (_fewer_checks, ["tint/mac-rel:9020353019805130176:11:0", "with status SUCCEEDED"]),
    (_late_check, ["[21:41:29.110] Handling timer"]),
    (_other_interval, ["2:0) after 1m30s", "[21:41:54.388] Handling timer"]),
    (_no_first_notification, ["tint/mac-rel:9020353019805130176:3:0"]),
    (_refused, ['Buildbucket returned error "BUILDER_NOT_FOUND": no builder', "with status FAILED"]),
    (_other_revision, ["buildset:commit/git/" + "a" * 40]),
]


@pytest.mark.parametrize(
    ("change", "expected"), MUTATIONS, ids=lambda value: getattr(value, "__name__", "")[1:] or None
)
def test_scenarios_are_inputs(change: Any, expected: list[str]) -> None:
    """What is changed in a scenario changes the log as the specification says: no line of it is canned."""
    log = _mutated(change).invocations[0][1]
    assert log.removesuffix("\n") != (GOLDEN / "log.txt").read_text(encoding="utf-8")
    for text in expected:
        assert text in log
