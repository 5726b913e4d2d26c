"""Programs that run as builds: environment, exit status, output and signals."""

import json
import queue
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec
from emulator.buildbucket.commands import Commands, environment, status_of_exit
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command

WAIT_SECONDS = 60


def build(number: int | None = None, **fields: Any) -> Build:
    """Return a build."""
    return Build(
        7, BuildSpec("v2", BuilderId("p", "ci", "linux"), "c", BuilderConfig(), **fields), number, 0, 0, 0, "t"
    )


@pytest.fixture
def commands() -> Iterator[Commands]:
    """The running programs."""
    commands = Commands()
    yield commands
    commands.stop()


@pytest.mark.parametrize(
    ("returncode", "status"), [(0, "SUCCESS"), (1, "FAILURE"), (2, "INFRA_FAILURE"), (-15, "INFRA_FAILURE")]
)
def test_the_status_of_an_exit(returncode: int, status: str) -> None:
    assert status_of_exit(returncode) == status


def test_the_environment_of_a_build_of_a_commit() -> None:
    commit = {"host": "h", "project": "r", "ref": "refs/heads/main", "id": "abc"}
    assert environment(build(5, gitiles_commit=commit, properties={"b": 1, "a": [2]})) == {
        "BUILD_ID": "7",
        "BUILD_NUMBER": "5",
        "LUCI_PROJECT": "p",
        "BUCKET": "ci",
        "BUILDER": "linux",
        "GITILES_HOST": "h",
        "GITILES_PROJECT": "r",
        "REF": "refs/heads/main",
        "REVISION": "abc",
        "PROPERTIES": '{"a": [2], "b": 1}',
    }


def test_unknown_values_are_empty_and_the_revision_may_be_a_property() -> None:
    values = environment(build(properties={"revision": "def"}))
    assert (values["REVISION"], values["REF"], values["BUILD_NUMBER"]) == ("def", "", "")
    assert environment(build())["REVISION"] == ""


def run(commands: Commands, *argv: str, **fields: Any) -> tuple[int, str]:
    """Run a program and return its return code and its output."""
    ended: queue.Queue[tuple[int, str]] = queue.Queue()
    commands.start(build(), Command(argv, **fields), lambda code, tail: ended.put((code, tail)))()
    return ended.get(timeout=WAIT_SECONDS)


def test_a_program_has_the_environment_of_its_build_and_of_its_plan(commands: Commands) -> None:
    script = 'import json,os; print(json.dumps([os.environ["BUILDER"], os.environ["REF"]]))'
    code, output = run(commands, sys.executable, "-c", script, env={"REF": "other"})
    assert (code, json.loads(output)) == (0, ["linux", "other"])


def test_a_program_runs_in_its_folder_and_its_errors_are_output(commands: Commands, tmp_path: Any) -> None:
    assert run(commands, "/bin/sh", "-c", "pwd -P >&2; exit 3", cwd=str(tmp_path)) == (3, f"{tmp_path.resolve()}\n")


def test_the_last_4000_bytes_of_the_output_are_kept(commands: Commands) -> None:
    code, output = run(commands, sys.executable, "-c", "print('a' * 5000 + 'b' * 3999)")
    assert (code, output) == (0, "b" * 3999 + "\n")


def test_a_program_that_cannot_start_is_an_error(commands: Commands) -> None:
    with pytest.raises(FileNotFoundError):
        commands.start(build(), Command(("/no/such/program",)), lambda _code, _tail: None)


@pytest.mark.parametrize(("action", "number"), [("terminate", 15), ("kill", 9)])
def test_a_signal_ends_the_program_and_its_children(commands: Commands, action: str, number: int) -> None:
    ended: queue.Queue[int] = queue.Queue()
    command = Command(("/bin/sh", "-c", "sleep 60 & wait"))
    commands.start(build(), command, lambda code, _tail: ended.put(code))()
    getattr(commands, action)(7)
    assert ended.get(timeout=WAIT_SECONDS) == -number


@pytest.mark.parametrize(("other", "action", "number"), [("terminate", "kill", 9), ("kill", "terminate", 15)])
def test_a_signal_to_a_build_without_a_program_does_nothing(
    commands: Commands, other: str, action: str, number: int
) -> None:
    ended: queue.Queue[int] = queue.Queue()
    commands.start(build(), Command(("/bin/sleep", "60")), lambda code, _tail: ended.put(code))()
    getattr(commands, other)(1)
    getattr(commands, action)(7)
    assert ended.get(timeout=WAIT_SECONDS) == -number


def test_after_the_stop_no_exit_is_reported() -> None:
    commands, ended = Commands(), []
    commands.start(build(), Command(("/bin/sleep", "60")), lambda code, _tail: ended.append(code))()
    commands.stop()
    assert ended == []
