"""Builds that run local programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import Signals

from emulator.buildbucket.builds import Build, Outcome
from emulator.buildbucket.plans import Command
from emulator.buildbucket.variables import variables
from emulator.building.output import BuildOutput, Outputs
from emulator.building.program_pool import PARALLEL, ProgramPool
from emulator.building.programs import Exit, Programs, inherited
from emulator.building.workplace import Workplace
from emulator.errors import LocalCloudError
from luci_scheduler.core.humanized import ui_duration
from luci_scheduler.core.instants import SECOND

__all__ = ["PARALLEL", "Commands", "outcome_of_exit"]

_LOG = logging.getLogger(__name__)
_SUMMARY_LINES, _SUMMARY_CHARACTERS = 10, 1500


def outcome_of_exit(status: int, summary: str = "", *, is_late: bool = False) -> Outcome:
    """Return the outcome of a build whose program ended with a status, negative for a signal.

    0 is SUCCESS and any other exit status FAILURE. A signal is INFRA_FAILURE, as is the time limit.
    """
    if is_late:
        return Outcome("INFRA_FAILURE", timeout=True, summary=summary)
    return Outcome("SUCCESS" if status == 0 else "FAILURE" if status > 0 else "INFRA_FAILURE", summary=summary)


class Commands:
    """Runs the programs of builds, a limited number at once, in the order of their builds.

    Args:
        outputs: gets the output of each program while it runs.
        parallel: the number of programs that run at once.
    """

    def __init__(self, outputs: Outputs[int], parallel: int = PARALLEL) -> None:
        self._pool = ProgramPool(outputs, parallel)

    def submit(
        self, build: Build, command: Command, begin: Callable[[], bool], on_end: Callable[[Outcome], None]
    ) -> None:
        """Run a build's program as soon as fewer than ``parallel`` others run.

        Before that, ``begin`` records the start; if it returns False, the program does not run. ``on_end`` receives
        the outcome, unless `stop` was called. Both are called in another thread.
        """
        limits = (_limit(build, command) / SECOND, build.spec.grace_period / SECOND)
        self._pool.submit(build.id, limits, begin, partial(self._outcome, build, command), on_end)

    def terminate(self, build_id: int) -> None:
        """Send SIGTERM to a build's program and its children, if it has one."""
        self._pool.terminate(build_id)

    def kill(self, build_id: int) -> None:
        """Send SIGKILL to a build's program and its children, if it has one."""
        self._pool.kill(build_id)

    def stop(self) -> None:
        """Kill all programs and wait for them. Their builds do not change, and waiting ones do not start."""
        self._pool.stop()

    def _outcome(self, build: Build, command: Command, programs: Programs, output: BuildOutput) -> Outcome:
        try:
            return _work(build, command, programs, output)
        except LocalCloudError as error:
            return Outcome("INFRA_FAILURE", summary=f"The build has no files to run on: {error}")
        except Exception as error:  # noqa: BLE001 - or nothing would end the build
            _LOG.exception("build %d could not run", build.id)
            return Outcome("INFRA_FAILURE", summary=f"The command could not run: {error}")


def _limit(build: Build, command: Command) -> int:
    return build.spec.execution_timeout if command.timeout is None else command.timeout


def _work(build: Build, command: Command, programs: Programs, output: BuildOutput) -> Outcome:
    """Prepare the folder of a build, run its program there, and return the outcome."""
    place, folder = Workplace(build.spec.gitiles_commit or {}), Path(command.cwd) if command.cwd else None
    if command.workspace is not None:
        place, folder = command.workspace(build), programs.folder
    for note in place.notes:
        output.say(note)
    limit = _limit(build, command)
    begin = output.end
    if place.prepare:
        ended = programs.run(place.prepare, place.prepare_env, folder)
        if ended.status != 0:
            summary = _summary("The checkout", ended, limit, output, begin)
            return Outcome("INFRA_FAILURE", timeout=ended.is_late, summary=summary)
    begin = output.end
    environment = {**inherited(), **variables(build, place.commit, output.say), **command.env}
    ended = programs.run(command.argv, environment, folder)
    return outcome_of_exit(ended.status, _summary("The command", ended, limit, output, begin), is_late=ended.is_late)


def _summary(what: str, ended: Exit, limit: int, output: BuildOutput, begin: int) -> str:
    """Return the summary of a build in Markdown: how a program ended, and its last lines as a block of code.

    The output of the program begins at the position ``begin``.
    """
    after = f"after {ended.seconds:.1f} s"
    if ended.is_late:
        how = f"ran longer than its time limit of {ui_duration(limit)}, and was stopped"
    elif ended.status < 0:
        how = f"was ended by the signal {Signals(-ended.status).name} {after}"
    else:
        how = f"ended with status {ended.status} {after}" if ended.status else f"succeeded {after}"
    count = _SUMMARY_LINES if ended.status or ended.is_late else 1
    lines = output.last_lines(begin, count, _SUMMARY_CHARACTERS)
    block = "".join(f"\n    {line}" for line in lines.split("\n")) if lines else ""
    return f"{what} {how}." + (f"\n{block}" if block else "")
