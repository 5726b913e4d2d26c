"""Runs the steps of a build as local processes, one after the other.

The name of an image only chooses a program, so this proves the wiring of a build and not its images: there are no
containers, no volumes and no network rules.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from emulator.building.output import BuildOutput
from emulator.building.programs import Exit, Programs, inherited
from emulator.building.wire_time import format_timestamp, parse_duration
from emulator.building.workplace import Workplace
from emulator.cloud_build.builds import Build, project_number
from emulator.cloud_build.plans import Change, RunSteps
from emulator.cloud_build.substitutions import replaced
from emulator.errors import LocalCloudError
from luci_scheduler.core.instants import SECOND

__all__ = ["IMAGES", "StepsEnd", "run_steps"]

_LOG = logging.getLogger(__name__)

IMAGES: Mapping[str, str] = {
    "bash": "sh",
    "ubuntu": "sh",
    "debian": "sh",
    "alpine": "sh",
    "busybox": "sh",
    "python": "python3",
    "gcr.io/cloud-builders/git": "git",
}
"""Name of an image, without its tag → the program that stands for it where a step has no entrypoint."""
_SHORT_NAMES = {"REVISION": "_REVISION", "REF": "_BRANCH", "REPOSITORY": "_REPOSITORY"}
"""Variables of the command in builds of Buildbucket, so that one command serves both → the substitution."""
_SCRIPT_MODE = 0o700
_SHELL = "#!/bin/sh\n"
_TAG = re.compile(r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]+)?\Z")
_COMMAND = "--build"
"""The name of the step that runs the command of a plan, after the option that sets it."""
_OUTSIDE = "the folder of the step is not within the source"


@dataclass(frozen=True, slots=True)
class StepsEnd:
    """How the steps of a build ended: the build's final status, and the steps with their statuses."""

    change: Change
    steps: Sequence[Mapping[str, Any]] = ()


class _StepError(Exception):
    """A step cannot run; the text is the reason."""


@dataclass(frozen=True, slots=True)
class _Bench:
    """Everything that the steps of a build share."""

    build: Build
    programs: Programs
    output: BuildOutput
    now: Callable[[], int]
    command: str = ""
    """That of the plan, which runs in the place of the steps."""
    values: Mapping[str, str] = field(default_factory=dict)
    """The substitutions, the service's own included."""

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": _COMMAND, "script": self.command}] if self.command else self.build.steps

    @property
    def folder(self) -> Path:
        """The folder of the source."""
        return self.programs.folder / "workspace"

    @property
    def home(self) -> Path:
        return self.programs.folder / "home"


def run_steps(
    build: Build, plan: RunSteps, now: Callable[[], int], programs: Programs, output: BuildOutput
) -> StepsEnd:
    """Check out the source of a build, run its steps, and return how they ended; this never raises.

    Args:
        build: the build.
        plan: has the workplace.
        now: the instant, for the timing of the steps.
        programs: runs the programs.
        output: gets their output, and lines about the steps.
    """
    bench = _Bench(build, programs, output, now, plan.command, _values(build))
    try:
        for folder in (bench.folder, bench.home):
            folder.mkdir()
        fault = _fetch(bench, plan.workspace(build))
        end = StepsEnd(fault) if fault else _run_all(bench)
    except LocalCloudError as error:
        end = StepsEnd(Change("FAILURE", 0, str(error), "FETCH_SOURCE_FAILED"))
    except Exception as error:  # noqa: BLE001 - or nothing would end the build
        _LOG.exception("the steps of build %s could not run", build.id)
        end = StepsEnd(Change("INTERNAL_ERROR", 0, f"the steps could not run: {error}"))
    output.say("DONE" if end.change.status == "SUCCESS" else f"ERROR: {end.change.detail or end.change.status}")
    return end


def _values(build: Build) -> Mapping[str, str]:
    place = build.place
    own = {
        "PROJECT_ID": place.project,
        "PROJECT_NUMBER": str(project_number(place.project)),
        "LOCATION": place.location,
        "BUILD_ID": build.id,
    }
    return {**own, **build.substitutions}


def _fetch(bench: _Bench, place: Workplace) -> Change | None:
    """Check out the source; return the failure of that, if it fails."""
    bench.output.say("FETCHSOURCE")
    for note in place.notes:
        bench.output.say(note)
    if not place.prepare:
        return None
    ended = bench.programs.run(place.prepare, place.prepare_env, bench.folder)
    if ended.is_late:
        return Change("TIMEOUT", 0, "build exceeded its timeout")
    if ended.status:
        return Change("FAILURE", 0, f"git ended with status {ended.status}", "FETCH_SOURCE_FAILED")
    return None


def _run_all(bench: _Bench) -> StepsEnd:
    """Run the steps in their order. Each waits only for earlier ones, so this order keeps every ``waitFor``."""
    bench.output.say("BUILD")
    done: list[Mapping[str, Any]] = []
    rest = list(bench.steps)
    for place, step in enumerate(bench.steps):
        begun = format_timestamp(bench.now())
        ended = _run_one(bench, place, step)
        result = {**ended.members, "timing": {"startTime": begun, "endTime": format_timestamp(bench.now())}}
        done.append({**step, **result})
        rest.pop(0)
        if ended.ends_build is not None:
            return StepsEnd(ended.ends_build, [*done, *({**other, "status": "QUEUED"} for other in rest)])
    return StepsEnd(Change("SUCCESS", 0), done)


@dataclass(frozen=True, slots=True)
class _StepEnd:
    members: Mapping[str, Any]
    """``status`` and ``exitCode``."""
    ends_build: Change | None = None
    """The end of the build because of the step; None: the next step runs."""


def _run_one(bench: _Bench, place: int, step: Mapping[str, Any]) -> _StepEnd:
    label = f"Step #{place}{' - ' + repr(step['id']) if step.get('id') else ''}"
    bench.output.say(f"Starting {label}")
    what = f'build step {place} "{step["name"]}"'
    try:
        argv, folder = _program(bench, place, step), _folder(bench, step)
        limit = parse_duration(step["timeout"]) / SECOND if "timeout" in step else None
        ended = bench.programs.run(argv, _environment(bench, step), folder, limit)
    except (OSError, _StepError) as error:
        bench.output.say(f"{label} cannot run: {error}")
        return _failed(step, {"status": "FAILURE"}, f"{what} failed: {error}")
    bench.output.say(f"Finished {label}: {_words(ended)}")
    return _judged(step, ended, what)


def _judged(step: Mapping[str, Any], ended: Exit, what: str) -> _StepEnd:
    if ended.is_late:
        change = Change("TIMEOUT", 0, "build exceeded its timeout" if "timeout" not in step else f"{what} timed out")
        return _StepEnd({"status": "TIMEOUT"}, change)
    if ended.status == 0:
        return _StepEnd({"status": "SUCCESS"})
    if ended.status < 0:
        return _failed(step, {"status": "FAILURE"}, f"{what} failed: step was ended by {Signals(-ended.status).name}")
    members = {"status": "FAILURE", "exitCode": ended.status}
    reason = f"{what} failed: step exited with non-zero status: {ended.status}"
    if ended.status in step.get("allowExitCodes", ()):
        return _StepEnd(members)
    return _failed(step, members, reason)


def _failed(step: Mapping[str, Any], members: Mapping[str, Any], reason: str) -> _StepEnd:
    if step.get("allowFailure"):
        return _StepEnd(members)
    return _StepEnd(members, Change("FAILURE", 0, reason, "USER_BUILD_STEP"))


def _words(ended: Exit) -> str:
    how = "its time limit ended it" if ended.is_late else f"exit status {ended.status}"
    return f"{how}, after {ended.seconds:.1f} s"


def _program(bench: _Bench, place: int, step: Mapping[str, Any]) -> Sequence[str]:
    """Return the program of a step and its arguments.

    Raises:
        _StepError: no program stands for the image.
    """
    if "script" in step:
        return [str(_script(bench, place, step["script"]))]
    args = [replaced(arg, bench.values) for arg in step.get("args", ())]
    if entrypoint := replaced(step.get("entrypoint", ""), bench.values):
        return [entrypoint, *args]
    image = _TAG.sub("", replaced(step["name"], bench.values), count=1)
    program = IMAGES.get(image.removeprefix("docker.io/library/").removeprefix("docker.io/"))
    if program is None:
        raise _StepError(
            f"no local program stands for the image {image}: give the step a script or an entrypoint, "
            f"or use one of {', '.join(IMAGES)}"
        )
    # Most of these images have no entrypoint, so that their first argument may be the program.
    is_program = bool(args) and program != "git" and shutil.which(args[0]) is not None
    return args if is_program else [program, *args]


def _script(bench: _Bench, place: int, text: str) -> Path:
    """Write a script outside of the source, with the shell as its interpreter if it names none."""
    path = bench.programs.folder / f"step-{place}"
    path.write_text(text if text.startswith("#!") else f"{_SHELL}{text}", encoding="utf-8")
    path.chmod(_SCRIPT_MODE)
    return path


def _folder(bench: _Bench, step: Mapping[str, Any]) -> Path:
    source: Mapping[str, Any] = next(iter(bench.build.body.get("source", {}).values()), {})
    root = bench.folder.resolve()
    folder = (root / str(source.get("dir", "")) / replaced(step.get("dir", ""), bench.values)).resolve()
    if not folder.is_relative_to(root):
        raise _StepError(_OUTSIDE)
    if not folder.is_dir():
        raise _StepError(f"the source has no folder {folder.relative_to(root)}")
    return folder


def _environment(bench: _Bench, step: Mapping[str, Any]) -> Mapping[str, str]:
    if bench.command:
        short = {name: bench.values.get(key, "") for name, key in _SHORT_NAMES.items()}
        return {**inherited(), **bench.values, **short, "CI": "true"}
    options: Mapping[str, Any] = bench.build.body.get("options", {})
    is_mapped = options.get("automapSubstitutions") or step.get("automapSubstitutions")
    pairs = [replaced(pair, bench.values) for pair in (*options.get("env", ()), *step.get("env", ()))]
    for name in (*options.get("secretEnv", ()), *step.get("secretEnv", ())):
        bench.output.say(f"The secret variable {name} is left out: the local cloud has no secrets.")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(bench.home),
        **(bench.values if is_mapped else {}),
        **dict(pair.split("=", 1) for pair in pairs),
    }
