"""Programs that run as builds: environment, exit status, output, signals, and the end of everything they started."""

import json
import os
import queue
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec, Outcome
from emulator.buildbucket.commands import Commands, outcome_of_exit
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command
from emulator.buildbucket.variables import variables
from emulator.building.output import Outputs
from emulator.building.programs import inherited
from emulator.building.workplace import Workplace
from emulator.errors import LocalCloudError
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND
from tests.waiting import until

COMMIT = {"host": "h", "project": "r/s", "ref": "refs/heads/main", "id": "abc"}
LINUX = BuilderId("p", "ci", "linux")


def build(number: int | None = None, identifier: int = 7, **fields: Any) -> Build:
    """Return a build."""
    limits = {"execution_timeout": MINUTE, "grace_period": MINUTE}
    spec = BuildSpec("v2", LINUX, "c", BuilderConfig(), **{**limits, **fields})
    return Build(identifier, spec, number, 0, 0, 0, "t")


class Runner:
    """Runs programs as builds."""

    def __init__(self) -> None:
        self.outputs = Outputs()
        self.commands = Commands(self.outputs, 2)
        self.begun: queue.Queue[int] = queue.Queue()
        self.ended: queue.Queue[tuple[int, Outcome]] = queue.Queue()

    def submit(self, command: Command, item: Build | None = None) -> int:
        """Run a program and return the ID of its build."""
        item = item or build()

        def begin() -> bool:
            self.begun.put(item.id)
            return True

        self.commands.submit(item, command, begin, lambda outcome: self.ended.put((item.id, outcome)))
        return item.id

    def run(self, *argv: str, item: Build | None = None, **fields: Any) -> tuple[Outcome, str]:
        """Run a program to its end and return the outcome and the output."""
        build_id = self.submit(Command(argv, **fields), item)
        return self.ended.get(timeout=60)[1], self.text(build_id)

    def text(self, build_id: int) -> str:
        """Return the output of a build so far."""
        output = self.outputs.get(build_id)
        return output.read().text if output else ""


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner whose programs end with the test."""
    runner = Runner()
    yield runner
    runner.commands.stop()


def is_gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("status", "result"), [(0, "SUCCESS"), (1, "FAILURE"), (2, "FAILURE"), (127, "FAILURE"), (-9, "INFRA_FAILURE")]
)
def test_the_outcome_of_an_exit(status: int, result: str) -> None:
    assert outcome_of_exit(status, "s") == Outcome(result, summary="s")


def test_a_late_exit_is_a_timeout() -> None:
    assert outcome_of_exit(-15, "s", is_late=True) == Outcome("INFRA_FAILURE", timeout=True, summary="s")


class TestVariables:
    """The environment of a program."""

    def refuse(self, line: str) -> None:
        """Fail: nothing is left out."""
        raise AssertionError(line)

    def test_a_build_of_a_commit(self) -> None:
        properties = {"b": 1, "a": [2], "build-type": "fast", "dry.run": True, "ratio": 0.5, "none": None}
        assert variables(build(5, properties=properties), COMMIT, self.refuse) == {
            "CI": "true",
            "BUILD_ID": "7",
            "BUILD_NUMBER": "5",
            "LUCI_PROJECT": "p",
            "BUCKET": "ci",
            "BUILDER": "linux",
            "REPOSITORY": "https://h/r/s",
            "GITILES_HOST": "h",
            "GITILES_PROJECT": "r/s",
            "REF": "refs/heads/main",
            "REVISION": "abc",
            "PROPERTIES": json.dumps(properties, sort_keys=True),
            "PROPERTY_B": "1",
            "PROPERTY_BUILD_TYPE": "fast",
            "PROPERTY_DRY_RUN": "true",
            "PROPERTY_RATIO": "0.5",
        }

    def test_unknown_values_are_empty_and_the_revision_may_be_a_property(self) -> None:
        values = variables(build(properties={"revision": "def"}), {}, self.refuse)
        assert (values["REVISION"], values["REF"], values["REPOSITORY"]) == ("def", "", "")
        assert values["BUILD_NUMBER"] == ""

    def test_a_value_without_its_null_characters(self) -> None:
        """The system refuses a variable with a null character."""
        assert variables(build(properties={"x": "a\0b"}), {}, self.refuse)["PROPERTY_X"] == "ab"

    def test_variables_of_the_local_cloud_and_of_git_hooks_are_not_inherited(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        google = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_AUTH_ACCESS_TOKEN", "PUBSUB_EMULATOR_HOST")
        for name in ("SCHEDULER_TOKEN_SECRETS", "LUCI_SCHEDULER_TOKEN", *google, "GIT_DIR"):
            monkeypatch.setenv(name, "secret")
        monkeypatch.setenv("MY_TOOL", "kept")
        assert "secret" not in inherited().values()
        assert inherited()["MY_TOOL"] == "kept"


def test_a_program_has_the_environment_of_its_build_and_of_its_plan(runner: Runner) -> None:
    script = 'import json,os; print(json.dumps([os.environ["BUILDER"], os.environ["REF"]]))'
    outcome, output = runner.run(sys.executable, "-c", script, env={"REF": "other"})
    assert (outcome.status, json.loads(output)) == ("SUCCESS", ["linux", "other"])


def test_a_variable_that_no_program_could_take_is_left_out(runner: Runner) -> None:
    """The properties of a batch of a thousand commits, for example."""
    item = build(properties={"long": "x" * 200_000, "short": "\ud800"})
    script = 'import os; print(len(os.environ.get("PROPERTIES", "")), os.environ["PROPERTY_SHORT"])'
    outcome, output = runner.run(sys.executable, "-c", script, item=item)
    assert outcome.status == "SUCCESS"
    assert [line.partition(":")[0] for line in output.splitlines()] == [
        "The variable PROPERTIES is left out",
        "The variable PROPERTY_LONG is left out",
        "0 ?",
    ]


def test_a_program_runs_in_its_folder_and_its_errors_are_output(runner: Runner, tmp_path: Path) -> None:
    outcome, output = runner.run("/bin/sh", "-c", "pwd -P >&2; exit 3", cwd=str(tmp_path))
    assert (outcome.status, output) == ("FAILURE", f"{tmp_path.resolve()}\n")


def test_a_pipe_that_is_closed_early_ends_its_writer(runner: Runner) -> None:
    """Python ignores SIGPIPE; a program that inherited that would report a broken pipe."""
    outcome, output = runner.run("/bin/sh", "-c", "yes | head -n 1")
    assert (outcome.status, output) == ("SUCCESS", "y\n")


@pytest.mark.parametrize(
    ("script", "summary"),
    [
        ("echo 'a'; echo; echo 'b'; exit 4", r"The command ended with status 4 after \d+\.\d s\.\n\n    a\n    b"),
        ("echo 'a'; echo 'b'", r"The command succeeded after \d+\.\d s\.\n\n    b"),
        ("exit 1", r"The command ended with status 1 after \d+\.\d s\."),
        ("kill -KILL $$", r"The command was ended by the signal SIGKILL after \d+\.\d s\."),
        ("seq 100; exit 1", r"The command ended with .*\n\n    91\n(    \d+\n)+    100"),
    ],
)
def test_the_summary_has_the_exit_status_and_the_last_lines(runner: Runner, script: str, summary: str) -> None:
    outcome, _ = runner.run("/bin/sh", "-c", script)
    assert re.fullmatch(summary, outcome.summary), outcome.summary


def test_the_output_can_be_read_while_the_program_runs(runner: Runner, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"printf 'half a line'; while [ ! -e {go} ]; do sleep 0.01; done; echo ' and the rest'"
    build_id = runner.submit(Command(("/bin/sh", "-c", script)))
    until(lambda: runner.text(build_id) == "half a line")
    go.touch()
    assert runner.ended.get(timeout=60)[1].status == "SUCCESS"
    assert runner.text(build_id) == "half a line and the rest\n"


def test_a_hundred_megabytes_without_a_line_end_are_cut_and_end_in_time(runner: Runner) -> None:
    outcome, output = runner.run("/bin/sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; exit 1")
    assert outcome.status == "FAILURE"
    assert len(output) < 1_000_000
    assert "characters are left out here" in output
    assert len(outcome.summary) < 2000


class TestEnds:
    """Signals, the time limit, and descendants."""

    @pytest.mark.parametrize(("action", "name"), [("terminate", "SIGTERM"), ("kill", "SIGKILL")])
    def test_a_signal_ends_the_program_and_its_children(self, runner: Runner, action: str, name: str) -> None:
        build_id = runner.submit(Command(("/bin/sh", "-c", "sleep 60 & echo $!; wait")))
        child = int(until(lambda: runner.text(build_id)))
        getattr(runner.commands, action)(1)
        getattr(runner.commands, action)(build_id)
        assert f"ended by the signal {name}" in runner.ended.get(timeout=60)[1].summary
        until(lambda: is_gone(child))

    @pytest.mark.parametrize("escape", ["setsid sleep 600", "env -i sleep 600"])
    def test_no_child_outlives_a_program_that_ends(self, runner: Runner, escape: str) -> None:
        """A child in another session has the mark of the build, and a child without environment is in its group."""
        outcome, output = runner.run("/bin/sh", "-c", f"{escape} & echo $!")
        assert outcome.status == "SUCCESS"
        until(lambda: is_gone(int(output)))

    def test_the_time_limit_counts_real_time_and_ends_the_program(self, runner: Runner) -> None:
        outcome, _ = runner.run("/bin/sleep", "60", timeout=50 * MILLISECOND)
        assert (outcome.status, outcome.timeout) == ("INFRA_FAILURE", True)
        assert outcome.summary.startswith("The command ran longer than its time limit of 1 second, and was stopped.")

    def test_a_program_that_ignores_the_request_to_end_is_killed(self, runner: Runner) -> None:
        item = build(execution_timeout=SECOND // 5, grace_period=50 * MILLISECOND)
        outcome, _ = runner.run("/bin/sh", "-c", "trap '' TERM; sleep 60", item=item)
        assert outcome.timeout

    def test_after_the_stop_no_end_is_reported_and_no_process_is_left(self, runner: Runner) -> None:
        pids = [runner.submit(Command(("/bin/sh", "-c", "echo $$; sleep 60")), build(identifier=n)) for n in (1, 2)]
        running = [int(until(lambda item=item: runner.text(item))) for item in pids]
        runner.submit(Command(("/bin/sleep", "60")), build(identifier=3))
        runner.commands.stop()
        assert runner.ended.empty()
        assert [is_gone(pid) for pid in running] == [True, True]
        assert runner.begun.qsize() == 2

    def test_after_a_stop_further_programs_run(self, runner: Runner) -> None:
        runner.commands.stop()
        assert runner.run("/bin/echo", "again")[1] == "again\n"


def test_no_more_programs_run_at_once_than_allowed(runner: Runner, tmp_path: Path) -> None:
    """The third build waits until one of the first two has ended."""
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.01; done"
    for number in (1, 2, 3):
        runner.submit(Command(("/bin/sh", "-c", script)), build(identifier=number))
    assert {runner.begun.get(timeout=60) for _ in range(2)} == {1, 2}
    assert runner.begun.empty()
    go.touch()
    assert runner.begun.get(timeout=60) == 3


class TestWorkplace:
    """Builds in a folder that the local cloud makes."""

    def place(self, **fields: Any) -> Callable[[Build], Workplace]:
        environment: Mapping[str, str] = {"PATH": os.environ["PATH"]}
        return lambda _: Workplace(COMMIT, prepare_env=environment, **fields)

    def test_the_folder_is_prepared_and_removed(self, runner: Runner) -> None:
        workspace = self.place(prepare=("/bin/sh", "-c", "echo made > file"), notes=("A note.",))
        script = 'pwd; cat file; echo "$REF"; mkdir -p deep/er; chmod 500 deep/er deep'
        outcome, output = runner.run("/bin/sh", "-c", script, workspace=workspace)
        assert outcome.status == "SUCCESS", output
        note, folder, *rest = output.splitlines()
        assert (note, rest) == ("A note.", ["made", "refs/heads/main"])
        assert not Path(folder).exists()

    def test_a_stop_removes_the_folder(self, runner: Runner) -> None:
        build_id = runner.submit(Command(("/bin/sh", "-c", "pwd; sleep 60"), workspace=self.place()))
        folder = Path(until(lambda: runner.text(build_id)).strip())
        assert folder.is_dir()
        runner.commands.stop()
        assert not folder.exists()

    def test_a_failed_preparation_is_no_failure_of_the_command(self, runner: Runner) -> None:
        workspace = self.place(prepare=("/bin/sh", "-c", "echo no such commit; exit 1"))
        outcome, output = runner.run("/bin/echo", "never", workspace=workspace)
        assert outcome.status == "INFRA_FAILURE"
        assert outcome.summary.startswith("The checkout ended with status 1 after ")
        assert outcome.summary.endswith(".\n\n    no such commit")
        assert "never" not in output

    def test_a_signal_during_the_preparation_ends_the_build(self, runner: Runner) -> None:
        workspace = self.place(prepare=("/bin/sh", "-c", "echo started; sleep 60; exit 0"))
        build_id = runner.submit(Command(("/bin/echo", "never"), workspace=workspace))
        until(lambda: runner.text(build_id))
        runner.commands.terminate(build_id)
        assert "ended by the signal SIGTERM" in runner.ended.get(timeout=60)[1].summary
        assert "never" not in runner.text(build_id)

    @pytest.mark.parametrize(
        ("error", "summary"),
        [
            (LocalCloudError("no repository"), "The build has no files to run on: no repository"),
            (OSError(28, "No space left"), "The command could not run: [Errno 28] No space left"),
        ],
    )
    def test_a_build_without_a_workplace_ends(self, runner: Runner, error: Exception, summary: str) -> None:
        def fail(_: Build) -> Workplace:
            raise error

        outcome, _ = runner.run("/bin/echo", workspace=fail)
        assert (outcome.status, outcome.summary) == ("INFRA_FAILURE", summary)
