"""The command ``python -m emulator storm``: its output, its exit status, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.storm.faults import KINDS, Fault, Kind
from emulator.storm.focus import focused
from emulator.storm.history import Schedule
from emulator.storm.invariants import SENTENCES
from emulator.storm.storming import play_and_judge
from luci_scheduler.managers.buildbucket.manager import BuildbucketManager

DOUBLE = (
    Fault(Kind.BUILD_ANSWER_LOST, "on_gitiles_commit/buildbucket.ScheduleBuild/after", 0, 1),
    Fault(Kind.STORE_ABORTED, "on_gitiles_commit/store.commit/before", 2),
)
LINE = Schedule(1, DOUBLE, scenario="commit").line()


def test_a_storm_prints_counts_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text has one line for each kind that occurred; the file has all kinds."""
    file = tmp_path / "storm.json"
    options = ["--schedules", "3", "--seed", "5", "--scenario", "commit", "--json", str(file)]
    assert main(["storm", *options]) == 0
    text = capsys.readouterr().out
    assert "3 schedules with" in text
    assert "every invariant held" in text
    document = json.loads(file.read_text())
    assert document["schedules"] == 3
    assert set(document["faults"]) == set(KINDS)
    assert document["violations"] == []


def test_kinds_are_switched_off(tmp_path: Path) -> None:
    """``--only`` and ``--without`` decide which kinds can occur."""
    file = tmp_path / "storm.json"
    options = ["storm", "--schedules", "6", "--scenario", "two-jobs", "--json", str(file)]
    assert main([*options, "--only", "task-late,notice-lost"]) == 0
    occurred = {kind for kind, count in json.loads(file.read_text())["faults"].items() if count}
    assert occurred <= {"task-late", "notice-lost"}
    assert occurred
    assert main([*options, "--without", "task-late"]) == 0
    faults = json.loads(file.read_text())["faults"]
    assert not faults["task-late"]
    assert sum(faults.values())


def test_focused_schedules_draw_few_kinds(tmp_path: Path) -> None:
    """A focused schedule follows from its seed, and only kinds of its focus happen. Its line replays it."""
    for seed in range(4):
        planned = focused(seed)
        assert planned == focused(seed) == Schedule.parse(planned.line())
        assert len(planned.focus) <= 6
        outcome = play_and_judge(planned)
        assert {fault.kind for fault in outcome.faults} <= planned.focus
    file = tmp_path / "storm.json"
    assert main(["storm", "--schedules", "2", "--focused", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["what"] == "focused"


def test_enumeration_names_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    """An enumeration prints how many runs it made."""
    assert main(["storm", "--enumerate", "single", "--scenario", "commit", "abort", "--sample", "3"]) == 0
    assert "3 single faults with" in capsys.readouterr().out
    assert main(["storm", "--enumerate", "pairs", "--scenario", "commit", "--only", "notice-lost"]) == 0
    assert "0 pairs with" in capsys.readouterr().out, "a lost message is no fault of a call, so nothing follows it"
    options = ["--enumerate", "pairs", "--scenario", "commit", "--only", "host-hang,enqueue-hang", "--sample", "2"]
    assert main(["storm", *options, "--processes", "2"]) == 0
    text = capsys.readouterr().out
    assert "2 pairs with 4 faults" in text
    assert "a sample of" in text


def test_a_long_command_reports_its_progress_to_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute apart, a line in a log says how far the command is. A command of seconds prints none."""
    short = ["storm", "--schedules", "2", "--scenario", "commit"]
    assert main(short) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("emulator.storm.cli._LOGGED_SECONDS", 0.0)
    assert main(short) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["1 of 2", "2 of 2"]
    assert lines[-1].endswith("faults, 0 violations")


def test_a_line_is_replayed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay prints its faults with their instants, and fails if an invariant is violated."""
    assert main(["storm", "--replay", LINE]) == 0
    text = capsys.readouterr().out
    assert "2 faults:" in text
    assert "0 violations" in text
    monkeypatch.setattr(BuildbucketManager, "_existing", lambda *_: None)
    assert main(["storm", "--replay", LINE]) == 1
    text = capsys.readouterr().out
    assert "one-build" in text
    assert SENTENCES[next(name for name in SENTENCES if name == "one-build")] in text
    assert "on_task launch/buildbucket.ScheduleBuild" in text or "on_gitiles_commit/buildbucket.ScheduleBuild" in text


def test_a_failing_storm_prints_a_line_to_replay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule that violates an invariant is shrunk, and its line is printed."""
    monkeypatch.setattr("emulator.storm.storming.violations", _complain)
    monkeypatch.setattr("emulator.storm.cli.violations", _complain)
    assert main(["storm", "--schedules", "1", "--scenario", "commit"]) == 1
    text = capsys.readouterr().out
    assert "1 violated an invariant" in text
    assert "shrunk to 0" in text
    assert "replay: python -m emulator storm --replay '{" in text


def _complain(run: object) -> list[object]:
    from emulator.storm.invariants import Invariant, Violation
    from luci_scheduler.core.instants import Instant

    return [Violation(Invariant.REST, Instant(0), str(type(run)), "planted")]


def test_the_list_explains_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """``--list`` names each kind and each invariant."""
    assert main(["storm", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in (*KINDS, *SENTENCES))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--only", "rain"], "no kind of faults has the name 'rain'; --list names all kinds"),
        (["--without", "task-late,"], "no kind of faults has the name ''"),
        (["--schedules", "0"], "'0' must be a whole number, at least 1"),
        (["--seed", "1000000000"], "'1000000000' must be a whole number"),
        (["--scenario", "nowhere"], "invalid choice: 'nowhere'"),
        (["--scenario", "commit", "poll"], "--scenario takes several names only with --enumerate"),
        (["--enumerate", "x"], "invalid choice: 'x'"),
        (["--focused", "--enumerate", "single"], "--focused draws faults, and --enumerate does not"),
        (["--sample", "3"], "--sample needs --enumerate"),
        (["--json", "/nowhere/storm.json"], "the folder of --json does not exist: /nowhere"),
        (["--replay", "{}"], "the line has no seed"),
        (["--replay", "nothing"], "the line is no schedule"),
        (["--replay", "[]"], "the line is no schedule"),
        (["--replay", '{"seed":1e999}'], "the line is no schedule"),
        (["--replay", '{"seed":-1}'], "the line has a seed that is not from 0 to 999999999: -1"),
        (["--replay", '{"seed":1,"scenario":"nowhere"}'], "the line has an unknown scenario: 'nowhere'"),
        (["--replay", '{"seed":1,"faults":["rain"]}'], "a fault reads kind@point#nth=amount: 'rain'"),
        (["--replay", '{"seed":1,"faults":["rain@a/b#0=1"]}'], "'rain' is not a valid Kind"),
    ],
)
def test_wrong_usage(wrong: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage exits with status 2 and names the mistake."""
    with pytest.raises(SystemExit) as left:
        main(["storm", *wrong])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "usage:" in error
    assert says in error
