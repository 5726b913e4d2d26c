"""The grid of commits by jobs: its cells, its bounds, and its cost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters.gitiles import GitilesClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.api import commit_host
from luci_scheduler.api import grid as grid_module
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.grid import MAX_READS, Grid, GridQuery, grid_choices, grid_of
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.job import Job
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.ports import GitilesError, PutWatchers
from tests.outside_calls import OUTSIDE_CALLS, SERVERS
from tests.unit.api.support import OWNER, READER, STRANGER, context, put_job, world_for
from tests.unit.engine.world import HOST, REPO, World, config

MAIN = "refs/heads/main"
JOB = JobId("proj/job")


def _grid(world: World, who: str = READER, **part: str) -> Grid:
    return grid_of(context(world, who), GridQuery("proj", REPO, MAIN, **part))


def _row(grid: Grid, revision: str) -> dict[str, str]:
    return {job.id.partition("/")[2]: grid.cells[(revision, job.id)].state for job in grid.jobs}


def _announce(world: World, revision: str, number: int = 0) -> None:
    world.clock.advance(SECOND)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), f"k-{revision}-{number}")


def test_every_kind_of_cell() -> None:
    """Results, running, waiting and discarded commits, filtered ones, and commits without a trigger."""
    gitiles = MemoryGitiles()
    text = (
        config(("job", "held"))
        + f"""
    trigger {{
      id: "docs-poller" schedule: "triggered"
      gitiles {{ repo: "{REPO}" refs: "{MAIN}" path_regexps: "docs/.*" }} triggers: "docs"
    }}
    job {{ id: "docs" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "docs" }} }}
    """
    )
    world = world_for(text, gitiles)
    old, first, second = (gitiles.push(MAIN)[0] for _ in range(3))
    (third,) = gitiles.push(MAIN, diff=[("", "docs/x")])
    pause_job(world.runtime, JobId("proj/held"), f"user:{OWNER}", "red", "k")
    _announce(world, first)
    world.finish("FAILURE")
    world.notify("n1")
    _announce(world, second)
    _announce(world, third)
    grid = _grid(world)
    assert [commit.id for commit in grid.commits] == [third, second, first, old]
    assert [job.id for job in grid.jobs] == ["proj/docs", "proj/held", "proj/job"]
    assert _row(grid, first) == {"docs": "FILTERED", "held": "DISCARDED", "job": "FAILED"}
    assert _row(grid, second) == {"docs": "FILTERED", "held": "DISCARDED", "job": "RUNNING"}
    assert _row(grid, third) == {"docs": "RUNNING", "held": "DISCARDED", "job": "PENDING"}
    assert _row(grid, old) == {"docs": "FILTERED", "held": "NONE", "job": "NONE"}
    newest, failed = (item.id for item in world.invocations())
    assert grid.cells[(first, JOB)].invocation_id == failed
    assert grid.cells[(second, JOB)].invocation_id == newest


def test_results_that_the_job_no_longer_keeps() -> None:
    """The markers of their triggers lead to the invocations."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 3)
    world = world_for(config(), gitiles)
    for number, revision in enumerate(hashes):
        _announce(world, revision)
        world.finish()
        world.notify(f"n{number}")
    found = world.store.job(JOB)
    assert found is not None
    put_job(world, replace(found.value, recent=found.value.recent[:1]))
    grid = _grid(world)
    assert [_row(grid, revision)["job"] for revision in hashes] == ["SUCCEEDED"] * 3
    assert {grid.cells[(revision, JOB)].invocation_id for revision in hashes} == {
        item.id for item in world.invocations()
    }


def _crowd(number: int, gitiles: MemoryGitiles) -> World:
    """Return a world with this many jobs, none of which has a result."""
    world = world_for(config(), gitiles)
    found, watcher = world.store.job(JOB), world.store.watchers(REPO)[0]
    assert found is not None
    ids = [JobId(f"proj/j{place:05d}") for place in range(number)]
    for job_id in ids:
        put_job(world, Job(job_id, found.value.definition))
    world.store.commit([PutWatchers(REPO, "proj", tuple(replace(watcher, job_id=job_id) for job_id in ids))])
    gitiles.calls.clear()
    world.counted()
    return world


@pytest.mark.parametrize("number", [50, 500, 3000])
def test_the_cost_does_not_depend_on_the_number_of_jobs(number: int) -> None:
    """One read for the watchers, one for each of the 20 columns and of the 400 cells; one call to the host."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN, 60)
    world = _crowd(number, gitiles)
    grid = _grid(world)
    assert world.counted() == f"{1 + 20 + 400}R/0W/0c"
    assert MAX_READS == 20 + 400 + 100
    assert len(gitiles.calls) == 1
    assert (len(grid.commits), len(grid.jobs), len(grid.cells)) == (20, 20, 400)
    states = [cell.state for cell in grid.cells.values()]
    assert (states.count("NONE"), states.count("UNREAD")) == (400, 0)
    assert (grid.next_jobs, bool(grid.next_commits)) == ("proj/j00020", True)


def test_cells_beyond_the_limit_are_not_read() -> None:
    """Two spellings of the repository double the markers of a cell: the newest commits get the reads."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 20)
    world = _crowd(20, gitiles)
    watchers = world.store.watchers(REPO)
    both = (*watchers, *(replace(watcher, repo=f"{REPO}.git") for watcher in watchers))
    world.store.commit([PutWatchers(REPO, "proj", both)])
    world.counted()
    grid = _grid(world)
    assert world.counted() == f"{1 + 20 + 400}R/0W/0c"
    assert [set(_row(grid, revision).values()) for revision in reversed(hashes)] == [{"NONE"}] * 10 + [{"UNREAD"}] * 10


def test_a_disabled_job_is_no_column() -> None:
    """Its last config may have watched the ref."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = world_for(config(("job", "other")), gitiles)
    found = world.store.job(JOB)
    assert found is not None
    put_job(world, replace(found.value, enabled=False))
    assert [job.id for job in _grid(world).jobs] == ["proj/other"]


def test_pages_cover_all_jobs_and_commits() -> None:
    """Each job and each commit is on one page."""
    gitiles = MemoryGitiles()
    hashes = gitiles.push(MAIN, 45)
    world = _crowd(90, gitiles)
    jobs, part = [], ""
    for _ in range(5):
        grid = _grid(world, jobs_from=part)
        jobs += [job.id for job in grid.jobs]
        part = grid.next_jobs
    assert jobs == sorted(set(jobs))
    assert (len(jobs), part) == (90, "")
    commits, part = [], ""
    for _ in range(3):
        grid = _grid(world, commits_from=part)
        commits += [commit.id for commit in grid.commits]
        part = grid.next_commits
    assert (commits, part) == (hashes[::-1], "")


def test_the_host_may_fail() -> None:
    """The answer says why there are no commits."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = world_for(config(), gitiles)

    def down(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "down", transient=True)

    gitiles.before_call = down
    grid = _grid(world)
    assert (grid.problem, grid.commits, len(grid.jobs)) == ("UNAVAILABLE: down", (), 1)


def test_refused_questions() -> None:
    """Refs that no visible job watches are not read."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    gitiles.push("refs/heads/secret")
    world = world_for(config(), gitiles)
    for who, repo, ref in (
        (STRANGER, REPO, MAIN),
        (READER, REPO, "refs/heads/secret"),
        (READER, "https://r.googlesource.com/other", MAIN),
        (READER, "nonsense", MAIN),
        (READER, REPO, "main"),
    ):
        with pytest.raises(ApiError):
            grid_of(context(world, who), GridQuery("proj", repo, ref))
    assert gitiles.calls == []


def test_a_caller_who_sees_a_realm_learns_nothing_of_other_jobs() -> None:
    """Neither commits, as long as no visible job watches the ref, nor the names of hidden jobs."""
    gitiles = MemoryGitiles()
    gitiles.push(MAIN)
    world = _crowd(90, gitiles)
    grants = [{"project": "proj", "realm": "public", "role": "READER", "to": [f"user:{READER}"]}]
    access = json.dumps({"version": 1, "grants": grants})
    world.app = replace(world.app, settings=replace(world.app.settings, access=access))
    with pytest.raises(ApiError):
        _grid(world)
    assert gitiles.calls == []
    for number in range(1, 90, 2):
        found = world.store.job(JobId(f"proj/j{number:05d}"))
        assert found is not None
        put_job(world, replace(found.value, definition=replace(found.value.definition, realm="public")))
    first = _grid(world)
    second = _grid(world, jobs_from=first.next_jobs)
    third = _grid(world, jobs_from=second.next_jobs)
    assert [first.next_jobs, second.next_jobs, third.next_jobs] == ["proj/j00041", "proj/j00081", ""]
    assert [job.id for job in (*first.jobs, *second.jobs, *third.jobs)] == [
        f"proj/j{number:05d}" for number in range(1, 90, 2)
    ]


def test_choices() -> None:
    """The refs that the project's jobs watch by name; a caller who sees only a realm gets none."""
    world = world_for(config(("job", "b")).replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" refs: "regexp:refs/heads/x.*"'))
    world.counted()
    found = grid_choices(context(world, READER), "proj")
    generated = world_for(config(("job", "b")).replace(f'"{MAIN}"', f'"regexp:{MAIN}"'))
    assert grid_choices(context(generated, READER), "proj") == found
    assert [(one.repo, one.ref, one.watchers) for one in found] == [(REPO, MAIN, 2)]
    assert world.counted() == "2R/0W/0c"
    with pytest.raises(ApiError):
        grid_choices(context(world, STRANGER), "proj")
    grants = [{"project": "proj", "realm": "ci", "role": "READER", "to": [f"user:{READER}"]}]
    partly = world_for(config(), access=json.dumps({"version": 1, "grants": grants}))
    assert grid_choices(context(partly, READER), "proj") == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_silent_host_costs_little_time(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid and the explanation of a commit have their own limits, even if the client's is longer."""
    monkeypatch.setattr(grid_module, "_SECONDS", 0.2)
    monkeypatch.setattr(commit_host, "_COMMIT_SECONDS", 0.2)
    (call,) = (item for item in OUTSIDE_CALLS if item.name == "Gitiles: log")
    with SERVERS[server](call) as address:
        opened = sessions(authenticated=False)
        gitiles = GitilesClient(
            lambda _: f"http://{address}", opened, 600 * SECOND, authenticated=False, clock=world_for().clock
        )
        world = world_for(config(), gitiles)
        assert _grid(world).problem
        answer = explain_commit(context(world, READER), REPO, "a" * 40)
        assert answer.facts.problem
        assert "could not be queried" in answer.explanations[0].sentence
