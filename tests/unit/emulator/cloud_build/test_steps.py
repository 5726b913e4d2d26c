"""Steps as local processes. Each test runs several, because a process takes a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator.buildbucket.testing import MemoryPublisher, ScriptedEntropy
from emulator.building.workplace import Workplace
from emulator.clock import RealClock
from emulator.cloud_build import RunSteps, Service
from emulator.cloud_build.builds import Build
from emulator.errors import LocalCloudError
from tests.unit.emulator.cloud_build.support import PLACE
from tests.waiting import until

OPTIONS = {"substitutionOption": "ALLOW_LOOSE", "automapSubstitutions": True, "env": ["OF_BUILD=$_WHO"]}
FILES = Workplace(
    {}, ("/bin/sh", "-c", "mkdir -p part/inner && echo content > part/file"), {"PATH": os.defpath}, ("A note.",)
)


class Runner:
    """A service whose builds run their steps."""

    def __init__(self, command: str = "") -> None:
        self.workplace: Workplace | Exception = FILES
        self.publisher = MemoryPublisher()
        plan = RunSteps(self._workspace, command)
        self.service = Service(RealClock(), ScriptedEntropy(), self.publisher, default_plan=plan, parallel=2)
        self.service.timeline.start()

    def _workspace(self, _: Build) -> Workplace:
        if isinstance(self.workplace, Exception):
            raise self.workplace
        return self.workplace

    def submit(self, *steps: dict[str, Any], **members: Any) -> str:
        """Create a build and return its ID."""
        body = {"steps": list(steps), "options": OPTIONS, "substitutions": {"_WHO": "me; exit 9"}, **members}
        return self.service.create(PLACE, body).id

    def run(self, *steps: dict[str, Any], **members: Any) -> tuple[Build, str]:
        """Run a build to its end, and return it with its log."""
        build_id = self.submit(*steps, **members)
        build = until(lambda: self.ended(build_id), "the build ends")
        return build, self.log(build_id)

    def ended(self, build_id: str) -> Build | None:
        """Return a build once it has ended and its steps have a status."""
        build = self.service.store.get(build_id)
        return build if build is not None and build.ended else None

    def log(self, build_id: str) -> str:
        """Return the log of a build."""
        output = self.service.outputs.get(build_id)
        return output.read().text if output else ""


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A service whose builds run their steps."""
    with running() as made:
        yield made


@contextmanager
def running(command: str = "") -> Iterator[Runner]:
    """A service whose builds run a command, or without one their steps."""
    made = Runner(command)
    try:
        yield made
    finally:
        made.service.timeline.stop()
        made.service.life_cycle.stop()


def statuses(build: Build) -> list[str]:
    """Return the statuses of the steps."""
    return [step["status"] for step in build.steps]


def test_scripts_images_and_variables(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step has its program, its folder and its variables, and nothing of this process's environment."""
    monkeypatch.setenv("SECRET_OF_THE_DEVELOPER", "leaked")
    build, log = runner.run(
        {
            "name": "any",
            "id": "sh",
            "script": 'echo "of $0"; echo "$_WHO|$OF_BUILD|$OWN|$PROJECT_ID"; pwd; env',
            "env": ["OWN=$$1"],
        },
        {
            "name": "any",
            "script": "#!/usr/bin/env python3\nimport os\nprint('python', os.listdir(), os.environ['HOME'] != '/')",
        },
        {"name": "python:3.12", "args": ["-c", "print('args', __import__('sys').argv[1:])", "$_WHO", "$$HOME"]},
        {"name": "ubuntu", "args": ["cat", "file"], "dir": "part"},
        {"name": "docker.io/library/bash:5@sha256:00ff", "args": ["-c", "echo bash runs"]},
        {"name": "gcr.io/cloud-builders/git", "args": ["--version"]},
        {"name": "no/image", "entrypoint": "echo", "args": ["an", "entrypoint"], "dir": "part/inner"},
    )  # fmt: skip
    assert (build.status, statuses(build)) == ("SUCCESS", ["SUCCESS"] * 7), log
    for line in (
        "A note.", "Starting Step #0 - 'sh'", "me; exit 9|me; exit 9|$1|example-project", "python ['part'] True",
        "args ['me; exit 9', '$HOME']", "content", "bash runs", "git version", "an entrypoint", "DONE",
    ):  # fmt: skip
        assert line in log
    assert "leaked" not in log
    assert all(step["timing"]["startTime"] <= step["timing"]["endTime"] for step in build.steps)
    assert [message.attributes["status"] for message in runner.publisher.messages] == ["QUEUED", "WORKING", "SUCCESS"]


def test_a_command_takes_the_place_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the environment of `up`, as in builds of Buildbucket, and the variables of both kinds of builds."""
    monkeypatch.setenv("OF_THE_DEVELOPER", "inherited")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    with running('echo "$OF_THE_DEVELOPER|$GIT_DIR|$REVISION|$_REVISION|$CI"; cat part/file; exit 3') as runner:
        build, log = runner.run({"name": "no/image"}, {"name": "ubuntu"}, substitutions={"_REVISION": "6d7a"})
    assert "inherited||6d7a|6d7a|true\ncontent\n" in log
    assert (build.status, statuses(build)) == ("FAILURE", ["FAILURE"])
    assert build.body["statusDetail"] == 'build step 0 "--build" failed: step exited with non-zero status: 3'


def test_a_failing_step_ends_the_build(runner: Runner) -> None:
    """Later steps stay queued. A step whose failure is allowed does not end it, nor does an allowed status."""
    build, log = runner.run(
        {"name": "bash", "script": "exit 3", "allowFailure": True},
        {"name": "bash", "script": "exit 4", "allowExitCodes": [4]},
        {"name": "no/image", "allowFailure": True},
        {"name": "bash", "script": "echo last words; exit 5"},
        {"name": "bash", "script": "echo never"},
    )
    assert statuses(build) == ["FAILURE", "FAILURE", "FAILURE", "FAILURE", "QUEUED"]
    assert [step.get("exitCode") for step in build.steps] == [3, 4, None, 5, None]
    reason = 'build step 3 "bash" failed: step exited with non-zero status: 5'
    assert (build.status, build.body["statusDetail"]) == ("FAILURE", reason)
    assert build.body["failureInfo"] == {"type": "USER_BUILD_STEP", "detail": f"Build step failure: {reason}"}
    assert "no local program stands for the image no/image: give the step a script" in log
    assert "last words" in log
    assert "never" not in log


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"name": "example/app:1"}, "no local program stands for the image example/app"),
        ({"name": "bash", "script": "true", "dir": "missing"}, "the source has no folder missing"),
        ({"name": "bash", "script": "true", "dir": "../.."}, "is not within the source"),
        ({"name": "any", "entrypoint": "/no/such/program"}, "exited with non-zero status: 127"),
        ({"name": "bash", "script": "kill -9 $$"}, "step was ended by SIGKILL"),
    ],
)
def test_steps_that_cannot_run(runner: Runner, step: dict[str, Any], reason: str) -> None:
    """The detail says why."""
    build, _ = runner.run(step)
    assert build.status == "FAILURE"
    assert reason in build.body["statusDetail"]


def test_time_limits(runner: Runner) -> None:
    """The limit of a step and that of the build end the programs."""
    sleep = {"name": "bash", "script": "sleep 60"}
    build, _ = runner.run({**sleep, "timeout": "0.1s"}, {"name": "bash", "script": "true"})
    assert (build.status, statuses(build)) == ("TIMEOUT", ["TIMEOUT", "QUEUED"])
    assert build.body["statusDetail"] == 'build step 0 "bash" timed out'
    build, _ = runner.run(sleep, timeout="0.3s")
    assert (build.status, build.body["statusDetail"]) == ("TIMEOUT", "build exceeded its timeout")


def test_a_cancellation_ends_the_programs(runner: Runner, tmp_path: Path) -> None:
    """The build is canceled at once; its step gets a status, and no step runs after it."""
    mark = tmp_path / "mark"
    build_id = runner.submit(
        {"name": "bash", "script": f"touch {mark}; sleep 60"}, {"name": "bash", "script": f"rm {mark}"}
    )
    until(mark.exists, "the step runs")
    build = runner.service.store.get(build_id)
    assert build is not None
    assert runner.service.life_cycle.cancel(build).status == "CANCELLED"
    until(
        lambda: (
            "exitCode" not in runner.service.store.get(build_id).steps[0] and runner.log(build_id).endswith("SIGTERM\n")
        )
    )
    found = runner.service.store.get(build_id)
    assert found is not None
    assert (found.status, mark.exists()) == ("CANCELLED", True)
    until(
        lambda: statuses(runner.service.store.get(build_id) or found) == ["CANCELLED", "QUEUED"], "the steps' statuses"
    )


def test_a_source_that_cannot_be_fetched(runner: Runner) -> None:
    """The failure is that of the source, not of a step."""
    step = {"name": "bash", "script": "true"}
    runner.workplace = LocalCloudError("no repository")
    build, _ = runner.run(step)
    assert (build.status, build.body["failureInfo"]["type"]) == ("FAILURE", "FETCH_SOURCE_FAILED")
    assert build.body["statusDetail"] == "no repository"
    runner.workplace = Workplace({}, ("/bin/sh", "-c", "echo no such commit; exit 128"), {"PATH": os.defpath})
    build, log = runner.run(step)
    assert (build.body["failureInfo"]["type"], "no such commit" in log) == ("FETCH_SOURCE_FAILED", True)
    runner.workplace = RuntimeError("a defect")
    build, _ = runner.run(step)
    assert (build.status, build.body["statusDetail"]) == ("INTERNAL_ERROR", "the steps could not run: a defect")


def test_a_stop_leaves_no_process(runner: Runner, tmp_path: Path) -> None:
    """The server kills the steps, and their build does not change."""
    pid = tmp_path / "pid"
    build_id = runner.submit({"name": "bash", "script": f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60"})
    until(pid.exists, "the step runs")
    runner.service.life_cycle.stop()
    build = runner.service.store.get(build_id)
    assert build is not None
    assert build.status == "WORKING"
    until(lambda: is_gone(int(pid.read_text(encoding="utf-8"))), "the process ends")


def is_gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
