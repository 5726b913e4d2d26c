"""The command line: arguments, output and exit statuses."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from emulator import cli
from emulator.cli import main
from emulator.errors import LocalCloudError
from emulator.options import Options
from emulator.supervisor import ALL_FUNCTIONS
from luci_scheduler.cli import local_command


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["up", "--nonsense"], ["demo", "x"], ["up", "--store", "disk"]]
)
def test_wrong_usage(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 2, and standard error shows the usage."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: python -m emulator" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["demo", "--help"], ["replay", "--help"]])
def test_each_command_has_a_help_text(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has a help text."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 0
    assert "usage: python -m emulator" in capsys.readouterr().out


def test_the_commands_are_named_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names each command and the exit statuses."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f" {command} " in out for command in ("up", "demo", "replay", "chaos"))
    assert "exit status: 0 done, 1 failed" in out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--console-port", "70000", "from 0 to 65535"),
        ("--console-port", "x", "from 0 to 65535"),
        ("--gitiles-port", "-1", "from 0 to 65535"),
        ("--check-interval", "0", "at least 1"),
        ("--check-interval", "x", "at least 1"),
        ("--build", " ", "such as 'sh build.sh'"),
        ("--speed", "fast", "a number above 0"),
        ("--speed", "-1", "a number above 0"),
        ("--speed", "nan", "a number above 0"),
        ("--speed", "inf", "a number above 0"),
        ("--project", "Bad Name", "lower-case letters"),
        ("--project", "short", "6 to 30"),
        ("--allow-fetch", "not a host", "such as status.example.com"),
        ("--allow-fetch", "https://status.example.com", "such as status.example.com"),
        ("--allow-fetch", "status", "such as status.example.com"),
    ],
)
def test_bad_values(
    option: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error comes before anything starts, and names the possible values."""
    monkeypatch.setattr("emulator.up.until_stopped", lambda *_: 0)
    with pytest.raises(SystemExit) as raised:
        main(["up", option, value])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {option}: {value!r} " in error
    assert says in error


@pytest.mark.parametrize(("option", "value"), [("--commits", "x"), ("--jobs", "0"), ("--kills", "-1")])
def test_bad_numbers_for_chaos(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error comes before anything starts, and names the possible values."""
    with pytest.raises(SystemExit) as raised:
        main(["chaos", option, value])
    assert raised.value.code == 2
    assert f"argument {option}: {value!r} must be a whole number, at least " in capsys.readouterr().err


def test_good_names_of_projects_and_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shortest project, and hosts outside this machine."""
    clouds: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: clouds.append(options) or 0)
    hosts = ["--allow-fetch", "status.example.com", "--allow-fetch", "a-b.c"]
    assert main(["up", "--store", "memory", "--folder", str(tmp_path), "--project", "abc-12", *hosts]) == 0
    allowed = {"SCHEDULER_FETCH_ALLOWED_HOSTS": "127.0.0.1,localhost,::1,status.example.com,a-b.c"}
    assert (clouds[0].project, clouds[0].settings) == ("abc-12", allowed)


@pytest.mark.parametrize(
    ("arguments", "events"),
    [([], None), (["--events"], ""), (["--events", "http://localhost:9000/x"], "http://localhost:9000/x")],
)
def test_announcements_with_and_without_an_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], events: str | None
) -> None:
    clouds: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: clouds.append(options) or 0)
    assert main(["up", "--store", "memory", "--folder", str(tmp_path), *arguments]) == 0
    assert clouds[0].events == events


@pytest.mark.parametrize("value", ["http://example.com/", "https://localhost/", "http://localhost@example.com/", "x"])
def test_announcements_stay_on_this_machine(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--events", value])
    assert "is not an address on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "build", "builders"),
    [([], "", None), (["--build", "sh b.sh", "--builders", "b.toml"], "sh b.sh", Path("b.toml"))],
)
def test_the_commands_of_builds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], build: str, builders: Path | None
) -> None:
    """A folder that holds only a file of builders is a local cloud's folder."""
    clouds: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: clouds.append(options) or 0)
    monkeypatch.chdir(tmp_path)
    for name in ("builders.toml", "b.toml"):
        (tmp_path / name).write_text("")
    assert main(["up", "--store", "memory", "--folder", str(tmp_path), *arguments]) == 0
    assert (clouds[0].build, clouds[0].builders) == (build, builders)


CLOUD_BUILD = 'job { id: "j" cloud_build { trigger: "t" } }'
GITHUB = """trigger { id: "t" gitiles { repo: "https://github.com/a/b" refs: "refs/heads/main" } triggers: "j" }
job { id: "j" noop {} }"""


@pytest.mark.parametrize(
    ("config", "arguments", "wanted"),
    [
        ("", [], (False, False, False)),
        (CLOUD_BUILD, [], (True, False, False)),
        (GITHUB, [], (False, False, True)),
        ("", ["--cloud-build"], (True, False, False)),
        ("", ["--run-steps"], (True, True, False)),
        ("", ["--github"], (False, False, True)),
    ],
)
def test_cloud_build_and_github_are_served_if_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str, arguments: list[str], wanted: tuple[bool, ...]
) -> None:
    """An option or a config wants them; each adds its function. Steps run only with the option."""
    clouds: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: clouds.append(options) or 0)
    file = tmp_path / "configs" / "project" / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True)
    file.write_text(config)
    assert main(["up", "--store", "memory", "--no-watch", "--folder", str(tmp_path), *arguments]) == 0
    (cloud,) = clouds
    assert (cloud.cloud_build, cloud.run_steps, cloud.github) == wanted
    functions = {"on_cloud_build": cloud.cloud_build, "on_github_push": cloud.github}
    assert set(ALL_FUNCTIONS) - set(cloud.functions) == {name for name, runs in functions.items() if not runs}


@pytest.mark.parametrize("content", [None, "triggers = 3"])
def test_a_bad_file_of_triggers_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    folder, file = tmp_path / "new", tmp_path / "t.toml"
    if content is not None:
        file.write_text(content)
    assert main(["up", "--store", "memory", "--no-watch", "--folder", str(folder), "--triggers", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("content", [None, "builders = 3"])
def test_a_bad_file_of_builders_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    folder, file = tmp_path / "new", tmp_path / "b.toml"
    if content is not None:
        file.write_text(content)
    assert main(["up", "--store", "memory", "--no-watch", "--folder", str(folder), "--builders", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_gets_the_sample_also_after_a_refused_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The refused start has locked the state of the folder, and so has made its folder."""
    monkeypatch.setattr("emulator.up.until_stopped", lambda *_: 0)
    up = ["up", "--store", "memory", "--folder", str(tmp_path / "new")]
    assert main([*up, "--watch", str(tmp_path)]) == 1
    assert main([*up, "--no-watch"]) == 0
    assert (tmp_path / "new" / "configs" / "sample").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--configs", "nowhere"], "there is no folder {at}/nowhere"),
        (["--folder", "file/x"], "the folder {at}/file/x cannot be used"),
        (["--configs", "flat"], "move it to {at}/flat/PROJECT/luci-scheduler.cfg"),
        (["--folder", "flat"], "move it to {at}/flat/configs/PROJECT/luci-scheduler.cfg"),
    ],
)
def test_a_wrong_folder_is_an_error(
    arguments: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line appears before anything starts, and no sample is written into a mistyped folder."""
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "luci-scheduler.cfg").write_text("")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    option, name = arguments
    assert main(["up", "--store", "memory", option, str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert said.format(at=tmp_path) in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_other_files_keep_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with other files is hardly meant, so nothing is written into it."""
    (tmp_path / "source.c").write_text("")
    assert main(["up", "--store", "memory", "--folder", str(tmp_path)]) == 1
    assert "holds other files and no local cloud" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source.c"]


def test_a_sample_is_announced_and_made_for_a_new_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that exists gets no sample, and the line says where a config goes."""
    monkeypatch.setattr("emulator.up.until_stopped", lambda *_: 0)
    command = ["up", "--store", "memory", "--no-watch"]
    assert main([*command, "--folder", str(tmp_path / "new")]) == 0
    sample = tmp_path / "new" / "configs" / "sample" / "luci-scheduler.cfg"
    assert sample.exists()
    assert f"made a sample project for the new folder: {sample}" in capsys.readouterr().err
    (tmp_path / "own" / "configs").mkdir(parents=True)
    assert main([*command, "--folder", str(tmp_path / "own")]) == 0
    assert f"save one as {tmp_path}/own/configs/PROJECT/luci-scheduler.cfg" in capsys.readouterr().err
    assert list((tmp_path / "own" / "configs").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "right"), [("--fodler", "--folder"), ("--sped=3", "--speed"), ("--quite", "--quiet")]
)
def test_an_unknown_option_names_the_nearest(wrong: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An abbreviation is unknown as well, because a later option could make it ambiguous."""
    with pytest.raises(SystemExit):
        main(["up", wrong])
    assert f"did you mean {right}?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["up", "--fold", "x"])


def test_an_old_python_is_one_line() -> None:
    """It says which versions work, before anything is imported that they do not have."""
    code = (
        "import runpy, sys; sys.version_info, sys.version = (3, 10, 13), '3.10.13 (main)'; runpy.run_module('emulator')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == "the local cloud needs Python 3.12 or 3.11, not 3.10.13: run it with python3.12\n"


@pytest.mark.parametrize("switch", [[], ["--lenient-triggers"]])
def test_up_accepts_configs_with_unknown_triggers_with_the_option(
    switch: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch reaches the rules by which the functions, and the local cloud itself, read configs."""
    started: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: started.append(options) or 0)
    assert main(["up", "--store", "memory", "--folder", str(tmp_path), *switch]) == 0
    (cloud,) = started
    assert cloud.config_rules.lenient_triggers is bool(switch)


@pytest.mark.parametrize(
    ("arguments", "front_end", "stripping"),
    [
        ([], None, "documented"),
        (["--front-end", "iap"], "iap", "documented"),
        (["--front-end", "proxy", "--stripping", "always"], "proxy", "always"),
    ],
)
def test_up_starts_the_chosen_front_end(
    arguments: Sequence[str], front_end: str | None, stripping: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option there is none."""
    started: list[Options] = []
    monkeypatch.setattr("emulator.up.until_stopped", lambda options, _form: started.append(options) or 0)
    assert main(["up", "--store", "memory", "--folder", str(tmp_path), *arguments]) == 0
    assert [(cloud.front_end, cloud.stripping) for cloud in started] == [(front_end, stripping)]


def test_a_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that a person can fix prints no traceback."""

    def fail(*_: object) -> int:
        raise LocalCloudError("no\nJava")

    monkeypatch.setitem(cli._COMMANDS, "up", fail)
    assert main(["up"]) == 1
    assert capsys.readouterr().err == "up: no Java\n"


def test_an_interrupt_while_modules_are_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is no defect, so it shows no traceback."""

    def load(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "up", load)
    assert main(["up"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_only_a_cloud_in_memory_runs_faster(capsys: pytest.CaptureFixture[str]) -> None:
    """The official emulators and the function processes run in real time only."""
    assert main(["up", "--speed", "10"]) == 1
    assert "use --store memory, or speed 1" in capsys.readouterr().err


def test_a_busy_port(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the port and its purpose."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["up", "--store", "memory", "--console-port", str(port)]) == 1
    assert f"up: port {port} for the function console is in use" in capsys.readouterr().err


_WITH_SIGNAL_IGNORED = """\
import os, signal, sys
signal.signal(int(sys.argv[1]), signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "emulator", "up", "--store", "memory"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_up_in_memory_until_it_is_stopped(number: signal.Signals) -> None:
    """It prints the addresses; a signal stops it with status 0, even if the process started with it ignored."""
    command = [sys.executable, "-c", _WITH_SIGNAL_IGNORED, str(int(number))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            text = _stopped(process, number)
        finally:
            process.kill()
    assert "The local cloud is up, in memory." in text
    assert all(name in text for name in ("Console", "Pub/Sub", "Cloud Tasks", "Buildbucket", "Gitiles", "on_task"))


def _stopped(process: subprocess.Popen[str], number: signal.Signals) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    while not any("export LUCI_SCHEDULER_URL" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    os.kill(process.pid, number)
    assert process.wait(30) == 0
    assert process.stderr.read().endswith("stopped\n")
    return "".join(lines)


def test_demo_in_memory() -> None:
    """The demo needs neither Java nor a terminal. Status 0 means that the build succeeded."""
    command = [sys.executable, "-m", "emulator", "demo", "--store", "memory"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    for text in (
        "* Commit: ",
        "* Invocation: ",
        "* End: SUCCEEDED",
        "with status SUCCEEDED",
        "This page: http://127.0.0.1:",
    ):
        assert text in ran.stdout


@pytest.mark.parametrize("arguments", [["demo"], ["up", "--no-watch"]], ids=lambda arguments: arguments[0])
def test_a_missing_git_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither command starts anything without git."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*arguments, "--store", "memory"]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"{arguments[0]}: git is not installed: install it")


def test_ctrl_c_while_the_local_cloud_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user who changes the mind in the first second sees one word instead of a traceback."""
    monkeypatch.setattr("importlib.import_module", _interrupted)
    assert local_command.run(["up"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def _interrupted(_name: str) -> NoReturn:
    raise KeyboardInterrupt
