"""The golden scenarios: inputs in, the debug log and the page out, byte for byte, on the emulators as in memory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emulator.replay.cli import page
from emulator.replay.emulators import Emulators
from emulator.replay.player import Played, play
from emulator.replay.scenario import load_scenario, read_scenario

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "tint-mac-rel"
SCENARIOS = sorted(path.parent for path in FOLDER.glob("*/scenario.json"))
on_emulators = pytest.mark.emulators


@pytest.fixture(params=["memory", pytest.param("emulators", marks=on_emulators)])
def stack(request: pytest.FixtureRequest) -> Emulators | None:
    """The stage of a scenario: in memory, or on the session's pair of emulators."""
    return _emulators(request) if request.param == "emulators" else None


def _emulators(request: pytest.FixtureRequest) -> Emulators:
    firestore, pubsub = (request.getfixturevalue(f"{name}_emulator") for name in ("firestore", "pubsub"))
    return Emulators(firestore.address, pubsub.address)


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_log_and_page_are_byte_equal(folder: Path, stack: Emulators | None) -> None:
    """Every scenario gives its reviewed log and page. A delivery is acknowledged, unless it names another status."""
    scenario = load_scenario(folder / "scenario.json")
    played = play(scenario, stack)
    assert played.invocations[0][1].removesuffix("\n") == (folder / "log.txt").read_text(encoding="utf-8")
    assert page(played) == (folder / "page.txt").read_text(encoding="utf-8")
    named = {delivery.status for delivery in scenario.deliveries if delivery.status}
    assert {answer.status for answer in played.answers} == {200, *named}


def test_the_golden_log_equals_the_log_of_the_original() -> None:
    """The golden log is the original's page of 2021 from its first to its last line."""
    log = (GOLDEN / "log.txt").read_text(encoding="utf-8")
    assert log.startswith("[21:40:22.317] New invocation is queued and will start shortly\n")
    assert log.endswith("[22:09:02.204] Invocation finished in 28m39.901654804s with status SUCCEEDED")


def _replay(*options: str, **environment: str) -> bytes:
    command = [sys.executable, "-m", "emulator", "replay", str(GOLDEN / "scenario.json"), *options]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False, timeout=110)
    assert (ran.returncode, ran.stderr) == (0, b"")
    return ran.stdout


KATHMANDU = {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"}
ST_JOHNS = {"TZ": "America/St_Johns", "LC_ALL": "C", "PYTHONHASHSEED": "4242", "PYTHONIOENCODING": "latin-1"}


@on_emulators
def test_command_starts_its_own_emulators() -> None:
    """The command as a user types it starts its own emulators, and the machine's settings do not change the log."""
    assert _replay("--log", **ST_JOHNS) == (GOLDEN / "log.txt").read_bytes() + b"\n"


@pytest.mark.parametrize(
    ("environment", "stack"),
    [
        pytest.param(KATHMANDU, "memory", id="kathmandu-memory"),
        pytest.param(ST_JOHNS, "memory", id="st-johns-memory"),
        pytest.param(KATHMANDU, "emulators", id="kathmandu-emulators", marks=on_emulators),
    ],
    indirect=["stack"],
)
def test_output_does_not_depend_on_the_machine(environment: dict[str, str], stack: Emulators | None) -> None:
    """Another time zone, locale and hash seed give the same bytes, through the command as a user runs it."""
    options = ["--firestore", stack.firestore, "--pubsub", stack.pubsub] if stack else ["--store", "memory"]
    page = _replay(*options, **environment)
    assert page == (GOLDEN / "page.txt").read_bytes()
    assert (GOLDEN / "log.txt").read_bytes() in page


def test_log_does_not_depend_on_how_slow_the_machine_is(stack: Emulators | None) -> None:
    """Real delays before every call leave the log as it is: only the scenario's clock counts."""
    delays: list[float] = []

    def delay() -> None:
        delays.append(0.02)  # twenty of the log's milliseconds
        time.sleep(delays[-1])

    played = play(load_scenario(GOLDEN / "scenario.json"), stack, before_each=delay)
    assert played.invocations[0][1].removesuffix("\n") == (GOLDEN / "log.txt").read_text(encoding="utf-8")
    assert len(delays) > 100


def test_real_stack_is_real(stack: Emulators | None) -> None:
    """The real client calls Buildbucket over HTTP."""
    requests = play(load_scenario(FOLDER / "failing-v2-build" / "scenario.json"), stack).requests
    assert [record.method for record in requests] == ["ScheduleBuild"] + ["GetBuild"] * 4
    assert all(record.headers["X-Prpc-Grpc-Timeout"] == "60000m" for record in requests)
    assert json.loads(requests[0].body)["notify"]["userData"]
    assert all(record.answer.startswith(")]}'\n") for record in requests)


def _mutated(change: Any, stack: Emulators | None) -> Played:
    text = (GOLDEN / "scenario.json").read_text(encoding="utf-8")
    config = (GOLDEN / "luci-scheduler.cfg").read_text(encoding="utf-8")
    document = json.loads(text)
    config = change(document, config) or config
    return play(read_scenario(document, config), stack)


def _retag(document: Any, old: str, new: str) -> None:
    """Give Buildbucket's answers the tags of the changed request: a launch refuses the tags of another build."""
    for answer in (answer for delivery in document["deliveries"] for answer in delivery["answers"]):
        if "tags" in (build := answer["reply"]["build"]):
            build["tags"] = [tag.replace(old, new) for tag in build["tags"]]


def _rename(document: Any, config: str) -> str:
    _retag(document, "mac-rel", "linux-rel")
    return config.replace('"mac-rel"', '"linux-rel"')


def _slower_commit(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["commit"][0] = "2.104s"


def _slower_call(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["call"] = ["1635ms"]


def _slower_enqueue(document: Any, config: str) -> None:
    document["deliveries"][0]["takes"]["enqueue"] = ["500ms"]


def _other_suffix(document: Any, config: str) -> None:
    document["chance"]["suffixes"] = [1]
    _retag(document, "9020353019805130176", "9020353019804385296")


def _failed(document: Any, config: str) -> None:
    document["deliveries"][-1]["answers"][0]["reply"]["build"].update(result="FAILURE", failure_reason="BUILD_FAILURE")


def _canceled(document: Any, config: str) -> None:
    document["deliveries"][-1]["answers"][0]["reply"]["build"].update(result="CANCELED", cancelation_reason="TIMEOUT")


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
    document["deliveries"][0]["answers"] = [
        {"reply": {"error": {"reason": "BUILDER_NOT_FOUND", "message": "no builder"}}}
    ]
    del document["deliveries"][1:]


def _other_revision(document: Any, config: str) -> None:
    document["deliveries"][0]["commit"]["revision"] = "a" * 40


# A check that fails is delivered again by the queue, a second after it ended.
def _front_end_error(document: Any, config: str) -> None:
    document["deliveries"][2]["answers"] = [{"http": 502, "body": "<html>Bad gateway</html>"}]


def _lost_answer(document: Any, config: str) -> None:
    document["deliveries"][2]["answers"] = [{"lost": True}]


def _empty_answer(document: Any, config: str) -> None:
    document["deliveries"][2]["answers"] = [{"http": 500, "body": ""}]


# The client gives up after a minute, so this answer does not end the invocation; the check is delivered again.
def _late_answer(document: Any, config: str) -> None:
    document["deliveries"][2]["takes"] = {"call": ["70s"]}
    document["deliveries"][2]["answers"] = [{"reply": {"build": {"status": "COMPLETED", "result": "SUCCESS"}}}]


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
    (_front_end_error, ["[21:41:27.290] Handling timer"]),
    (_lost_answer, ["[21:41:27.290] Handling timer", "with status SUCCEEDED"]),
    (_empty_answer, ["[21:41:27.290] Handling timer"]),
    (_late_answer, ["[21:42:25.451] Handling timer", "28m39.901654804s with status SUCCEEDED"]),
    (_other_revision, ["buildset:commit/git/" + "a" * 40]),
]


ON_EMULATORS = {_rename, _slower_commit, _refused, _late_check, _lost_answer, _late_answer, _failed}
"""The changes that are also played on the emulators, where each takes seconds."""


def _played_on() -> list[Any]:
    cases = [
        pytest.param(change, expected, "memory", id=f"{change.__name__[1:]}-memory") for change, expected in MUTATIONS
    ]
    return cases + [
        pytest.param(change, expected, "emulators", id=f"{change.__name__[1:]}-emulators", marks=on_emulators)
        for change, expected in MUTATIONS
        if change in ON_EMULATORS
    ]


@pytest.mark.parametrize(("change", "expected", "store"), _played_on())
def test_scenarios_are_inputs(change: Any, expected: list[str], store: str, request: pytest.FixtureRequest) -> None:
    """A change of the scenario changes the log as specified, so no line of the log is canned."""
    log = _mutated(change, _emulators(request) if store == "emulators" else None).invocations[0][1]
    assert log.removesuffix("\n") != (GOLDEN / "log.txt").read_text(encoding="utf-8")
    for text in expected:
        assert text in log
