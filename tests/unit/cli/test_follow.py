"""What a request has made: its triggers, their invocations, and the way to their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.cli.errors import Exit
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.jobs import pause_job
from tests.unit.api.support import OWNER, world_for
from tests.unit.cli.support import run
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"
MANY = "triggering_policy { max_concurrent_invocations: 9 max_batch_size: 1 }"
PAGE = "http://localhost/jobs/proj/job"


def _world(policy: str = "") -> tuple[World, MemoryGitiles, list[str]]:
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    return world_for(config(policy=policy), gitiles), gitiles, hashes


def _steps(*steps: Callable[[], Any]) -> Callable[[float], None]:
    """Return a pause that takes one step each time, and then nothing more."""
    left = iter(steps)

    def pause(_: float) -> None:
        if (step := next(left, None)) is not None:
            step()

    return pause


def _end(world: World, status: str) -> Callable[[], None]:
    def end() -> None:
        world.finish(status)
        world.notify(f"n-{status}")

    return end


def test_a_trigger_prints_its_invocation_and_page() -> None:
    """The invocation exists a moment after the request; the command waits for it, but not for its end."""
    world, _, _ = _world()
    ran = run(world, "job", "trigger", "proj/job", pause=_steps(lambda: world.tick(1)))
    (invocation,) = world.invocations()
    (trigger,) = invocation.incoming_triggers
    name = f"proj/job/{invocation.id}"
    assert ran.out == f"emitted {trigger.id}\ninvocation {name}\n{PAGE}/{invocation.id}\n"
    again = run(
        world, "invocation", "rerun", name, "--json", pause=_steps(_end(world, "SUCCESS"), lambda: world.tick(1))
    )
    document = again.document
    assert document["triggerIds"][0].startswith(f"rerun:{invocation.id}:")
    assert document["invocations"] == [{"name": f"proj/job/{number}", "url": f"{PAGE}/{number}"} for number in
                                       [str(world.invocations()[0].id)]]  # fmt: skip
    assert [item["state"] for item in document["outcomes"]] == ["TAKEN"]


def test_a_pending_trigger_is_not_waited_for() -> None:
    """The policy decides when it runs, so the command names the job's page."""
    world = world_for()
    world.commit()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        world.tick(1)

    ran = run(world, "job", "trigger", "proj/job", pause=pause)
    assert ran.code == 0
    assert ran.out.endswith(f"pending: the job's policy starts it later\n{PAGE}\n")
    assert len(pauses) == 2


@pytest.mark.parametrize("verb", ["trigger", "rerun", "backfill"])
def test_a_repeated_key_is_reported(verb: str) -> None:
    """Before the triggers have reached the job, and after their invocation has ended."""
    world, _, hashes = _world(MANY)
    run(world, "job", "trigger", "proj/job", pause=_steps(lambda: world.tick(1)))
    words = {
        "trigger": ("job", "trigger", "proj/job"),
        "rerun": ("invocation", "rerun", f"proj/job/{world.invocations()[0].id}"),
        "backfill": ("backfill", hashes[0], "HEAD", "--repo", REPO, "--ref", "main", "--job", "proj/job", "--yes"),
    }[verb]
    first = run(world, *words, "--request-id", "k", "--json").document
    assert "repeated" not in first
    for _ in range(2):
        again = run(world, *words, "--request-id", "k", pause=_steps(lambda: world.tick(1)))
        assert (again.code, again.out.count("already emitted ")) == (0, 2 if verb == "backfill" else 1)
        world.tick(2, "later")
    assert run(world, *words, "--request-id", "k", "--json").document["repeated"] is True


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("SUCCESS", Exit.DONE, ": SUCCEEDED"),
        ("FAILURE", Exit.FAILED, ": FAILED: it is red"),
        ("", Exit.ABORTED, ": ABORTED"),
    ],
)
def test_the_exit_code_is_the_result(end: str, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The log is written as it grows; standard error has the result and its reason."""
    world, _, _ = _world()

    def finish() -> None:
        if not end:
            abort_invocation(world.runtime, JOB, world.invocations()[0].id, f"user:{OWNER}", "k")
            return
        world.finish(end)
        for build in world.buildbucket.builds.values():
            build["summaryMarkdown"] = "it is red\nvery red"
        world.notify("n1")

    ran = run(world, "job", "trigger", "proj/job", "--follow", pause=_steps(lambda: world.tick(1), finish))
    (invocation,) = world.invocations()
    assert ran.code == code
    assert ran.out.endswith(f"{PAGE}/{invocation.id}\n{world.log()}")
    assert f"proj/job/{invocation.id}{words}" in capsys.readouterr().err


def test_a_discarded_trigger_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The job was paused before the trigger reached it."""
    world, _, _ = _world()

    def pause() -> None:
        pause_job(world.runtime, JOB, f"user:{OWNER}", "red", "k")
        world.tick(1)

    assert run(world, "job", "trigger", "proj/job", "--follow", pause=_steps(pause)).code == Exit.DISCARDED
    assert "discarded: the job is paused" in capsys.readouterr().err


def test_a_backfill_is_followed_to_the_worst_result() -> None:
    """One invocation after the other; the JSON document comes at the end, with all of them."""
    world, gitiles, _ = _world(MANY)
    words = ("backfill", "main~2", "main", "--repo", REPO, "--ref", "main", "--job", "proj/job", "--yes", "--follow")

    def end_all() -> None:
        first, second = world.buildbucket.builds
        for build, status in ((first, "FAILURE"), (second, "SUCCESS")):
            world.finish(status, build)
            world.notify(f"n{build}", build)

    ran = run(world, *words, "--json", pause=_steps(lambda: world.tick(1), end_all))
    assert ran.code == Exit.FAILED
    names = {f"proj/job/{item.id}" for item in world.invocations()}
    assert {item["name"] for item in ran.document["invocations"]} == names
    assert len(names) == 2
    # The preview resolves both names, and the request has hashes: a branch may move before it is repeated.
    assert [call for call in gitiles.calls if call.startswith("resolve")] == ["resolve main~2", "resolve main"]


def test_an_interrupt_stops_following_only(capsys: pytest.CaptureFixture[str]) -> None:
    """The build goes on, and the command says how to follow it again."""
    world, _, _ = _world()

    def interrupt() -> None:
        raise KeyboardInterrupt

    ran = run(world, "job", "trigger", "proj/job", "--follow", pause=_steps(lambda: world.tick(1), interrupt))
    (invocation,) = world.invocations()
    assert ran.code == Exit.INTERRUPTED
    assert (
        f"proj/job/{invocation.id} goes on: luci-scheduler logs --follow proj/job/{invocation.id}"
        in capsys.readouterr().err
    )
    assert invocation.status == "RUNNING"
    assert run(world, "job", "trigger", "proj/job", "--follow", pause=_steps(interrupt)).code == Exit.INTERRUPTED


def test_patience_ends() -> None:
    """A trigger that never runs, and a build that never ends."""
    world, _, _ = _world()
    words = ("job", "trigger", "proj/job", "--follow", "--patience", "9")
    assert run(world, *words).code == Exit.IMPATIENT
    world.tick(1)
    assert run(world, "logs", "proj/job", "--follow", "--patience", "9").code == Exit.IMPATIENT


def test_an_abort_of_an_ended_invocation_is_reported() -> None:
    """Nothing is aborted twice."""
    world = world_for()
    world.commit()
    name = f"proj/job/{world.invocations()[0].id}"
    assert run(world, "job", "abort", "proj/job").out == f"abort requested: {name}\n"
    assert run(world, "invocation", "abort", name).out == f"abort requested: {name}\n"
    world.tick(1)
    assert run(world, "invocation", "abort", name).out == f"nothing to abort: the invocation is over: {name}\n"
    assert run(world, "job", "abort", "proj/job").out == "nothing to abort: proj/job has no active invocation\n"
