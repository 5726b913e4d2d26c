"""One project never harms another: hostile patterns, watchers that fill a document, and limits of a project."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.config.sync import ConfigFile, sync_project
from luci_scheduler.core import commit_filters
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.discards import TOO_COSTLY
from luci_scheduler.core.errors import PermanentError, StoreConflictError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.pattern_budget import PATH_UNITS, QUICK_UNITS
from luci_scheduler.core.project_record import LAYOUT, ProjectRecord
from luci_scheduler.engine import commit as commit_module
from luci_scheduler.engine.commit import on_commit, on_commits
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.ports import CreateTrigger, PutProject, Versioned
from tests.unit.core.test_commit_filters import FILES, GROUPS, LARGE
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"


def hostile(*lines: str, jobs: int = 1) -> str:
    """Return a config with a trigger of these lines for some jobs."""
    targets = " ".join(f'triggers: "j{n}"' for n in range(jobs))
    definitions = " ".join(f'job {{ id: "j{n}" noop {{}} }}' for n in range(jobs))
    gitiles = f'gitiles {{ repo: "{REPO}" {" ".join(lines)} }}'
    return f'trigger {{ id: "p" schedule: "triggered" {gitiles} {targets} }}\n{definitions}'


def sync(world: World, project: str, text: str) -> ProjectRecord:
    """Sync a project's config and return its record."""
    sync_project(world.runtime, ConfigFile(project, text, "r1"), "s")
    world.store.counts.clear()
    found: Versioned[ProjectRecord] | None = world.store.project(project)
    assert found is not None
    world.store.counts.clear()
    return found.value


def deliver(world: World, revision: str, ref: str = MAIN) -> None:
    on_commit(world.runtime, CommitEvent(REPO, ref, revision), world.clock.now(), "commit-m1")


def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the real limits, which take seconds to reach, with smaller ones."""
    monkeypatch.setattr(commit_filters, "QUICK_UNITS", QUICK_UNITS // 100)
    monkeypatch.setattr(commit_filters, "PATH_UNITS", PATH_UNITS // 1000)


def test_many_groups_delay_no_other_project() -> None:
    """Nine patterns of 1,990 characters with 796 groups each stop no commit.

    `make bench` measures that they delay none.
    """
    git = MemoryGitiles()
    world = World(config(), git)
    lines = " ".join(f'path_regexps: "{pattern}"' for pattern in GROUPS)
    assert sync(world, "evil", hostile(f'refs: "{MAIN}"', lines)).revision == "r1"
    (commit,) = git.push(MAIN, diff=FILES)
    deliver(world, commit)
    assert len(world.invocations()) == 1
    assert len(world.invocations(JobId("evil/j0"))) == 1


def test_costly_paths_leave_out_their_project_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other project has its build; each job of the costly project has a discarded trigger, and the log says so."""
    small_budgets(monkeypatch)
    git = MemoryGitiles()
    world = World(config(), git)
    sync(world, "evil", hostile(f'refs: "{MAIN}"', f'path_regexps: "{LARGE}c"', jobs=3))
    (commit,) = git.push(MAIN, diff=[("", "b" * 100)] * 10)
    with capture_logs() as logs:
        deliver(world, commit)
    assert len(world.invocations()) == 1
    for name in ("j0", "j1", "j2"):
        marker = world.store.trigger(JobId(f"evil/{name}"), f"{REPO}/+/{MAIN}@{commit}")
        assert marker is not None
        assert (marker.value.discarded, marker.value.refused) == (TOO_COSTLY, True)
        assert world.invocations(JobId(f"evil/{name}")) == []
    (logged,) = [line for line in logs if line["event"] == "patterns_too_costly"]
    assert (logged["project"], logged["jobs"], logged["revision"], logged["log_level"]) == (
        "evil",
        3,
        commit,
        "warning",
    )


def test_costly_refs_leave_out_their_project_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of the repository pays for them, even events that only the costly project may watch.

    The writes to jobs are limited.
    """
    monkeypatch.setattr(commit_module, "_MAX_DISCARDED", 2)
    world = World(config(), MemoryGitiles())
    sync(world, "evil", hostile(f'refs: "regexp:refs/heads/{LARGE}{LARGE}{LARGE}{LARGE}x"', jobs=3))
    pause_job(world.runtime, JobId("evil/p"), "user:a@b.c", "why", "k")
    ref = "refs/heads/" + "b" * 3000
    deliver(world, "a" * 40, ref)
    assert world.store.trigger(JobId("evil/j0"), f"{REPO}/+/{ref}@{'a' * 40}") is None  # its trigger is paused
    world.tick()
    sync(world, "bad", hostile(f'refs: "regexp:refs/heads/{LARGE}{LARGE}{LARGE}{LARGE}x"', jobs=3))
    with capture_logs() as logs:
        deliver(world, "a" * 40, ref)
    markers = [world.store.trigger(JobId(f"bad/j{n}"), f"{REPO}/+/{ref}@{'a' * 40}") for n in range(3)]
    assert [marker.value.discarded if marker else "" for marker in markers] == [TOO_COSTLY, TOO_COSTLY, ""]
    assert "commit_unwatched" not in [line["event"] for line in logs]


def test_a_skipped_project_is_recorded_although_the_store_is_contended() -> None:
    """A refused commit may have collided with another: the next delivery records the discarded trigger."""
    world = World(config(), MemoryGitiles())
    sync(world, "evil", hostile(f'refs: "regexp:refs/heads/{LARGE}{LARGE}{LARGE}{LARGE}x"'))
    ref, refused = "refs/heads/" + "b" * 3000, []

    def contend(writes: list[Any]) -> None:
        if isinstance(writes[0], CreateTrigger) and not refused:
            refused.append(True)
            raise StoreConflictError("ABORTED: too much contention")

    world.store.before_commit = contend
    with pytest.raises(StoreConflictError):
        deliver(world, "a" * 40, ref)
    deliver(world, "a" * 40, ref)
    marker = world.store.trigger(JobId("evil/j0"), f"{REPO}/+/{ref}@{'a' * 40}")
    assert marker is not None
    assert marker.value.discarded == TOO_COSTLY


def fast_and_slow(monkeypatch: pytest.MonkeyPatch) -> tuple[World, str]:
    """Return a world with a project whose patterns match fast and a project whose patterns do not, and a commit."""
    monkeypatch.setattr(commit_filters, "QUICK_UNITS", QUICK_UNITS // 100)
    git = MemoryGitiles()
    world = World(config(), git)
    sync(world, "slow", hostile(f'refs: "{MAIN}"', f'path_regexps: "{LARGE}c"', 'path_regexps: "b+"'))
    (commit,) = git.push(MAIN, diff=[("", "b" * 100)] * 10)
    return world, commit


@pytest.mark.parametrize("error", [PermanentError("never"), TransientError("later")])
def test_the_failure_of_a_fast_project_does_not_block_a_slow_one(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """This holds even for a permanent error, which ends the deliveries."""
    world, commit = fast_and_slow(monkeypatch)
    fan_out = commit_module.fan_out

    def failing(runtime: Any, batches: Any, *args: Any) -> bool:
        if JOB in batches:
            raise error
        return fan_out(runtime, batches, *args)

    monkeypatch.setattr(commit_module, "fan_out", failing)
    with pytest.raises(type(error)):
        deliver(world, commit)
    assert len(world.invocations(JobId("slow/j0"))) == 1


def test_a_permanent_error_of_one_project_does_not_hide_another_projects_transient_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A permanent error is acknowledged: the other project's trigger would be lost with it."""
    world, commit = fast_and_slow(monkeypatch)

    def failing(_: Any, batches: Any, *__: Any) -> bool:
        raise PermanentError("never") if JOB in batches else TransientError("later")

    monkeypatch.setattr(commit_module, "fan_out", failing)
    with pytest.raises(TransientError, match="later"):
        deliver(world, commit)


def test_watchers_cost_one_read_for_each_project() -> None:
    """A single project costs one read."""
    world = World()
    world.commit("a")
    assert world.counted() == "2R/5W/3c"
    for number, project in enumerate(("a", "b", "c"), 2):
        sync(world, project, hostile('refs: "refs/heads/other"'))
        world.commit("bcd"[number - 2], f"m{number}")
        cost = world.counted()
        assert cost.startswith(f"{number + 2}R/"), cost


def test_a_project_fills_no_other_projects_document() -> None:
    """Its own config is refused with its own name; the other project's config is activated, and its commits run."""
    world = World(config())
    triggers = "\n".join(
        hostile('refs: "refs/heads/x"', f'path_regexps: "{n}{"y" * 1950}"').split("\n")[0].replace('"p"', f'"p{n}"')
        for n in range(510)
    )
    record = sync(world, "evil", f'{triggers}\njob {{ id: "j0" noop {{}} }}')
    assert record.revision == ""
    (problem,) = record.problems
    assert f"the watchers that project evil has of {REPO} would take " in problem
    assert "use fewer or shorter refs, patterns and targets" in problem
    nearly = "\n".join(triggers.split("\n")[:480])
    assert sync(world, "evil", f'{nearly}\njob {{ id: "j0" noop {{}} }}').problems == ()
    lines = " ".join(f'refs: "refs/heads/release-{n}-{"z" * 60}"' for n in range(800))
    world.sync(config(("job", "other")).replace('refs: "refs/heads/main"', f'refs: "refs/heads/main" {lines}'))
    found = world.store.project("proj")
    assert found is not None
    assert (found.value.problems, found.value.revision) == ((), "rev2")
    world.commit("a")
    assert len(world.invocations()) == 1


def test_watchers_of_an_older_layout_are_moved_by_the_next_sync() -> None:
    """They are moved once, although the config did not change. This sync also reads the watchers, for their marks."""
    world = World()
    found = world.store.project("proj")
    assert found is not None
    assert found.value.layout == LAYOUT
    world.store.commit([PutProject(replace(found.value, layout=0), found.version)])
    world.counted()
    for cost in ("4R/2W/1c", "1R/0W/0c"):
        sync_project(world.runtime, ConfigFile("proj", config(), "rev1"), "s")
        assert world.counted() == cost
    moved = world.store.project("proj")
    assert moved is not None
    assert moved.value.layout == LAYOUT


def test_a_project_keeps_its_share_of_pending_triggers() -> None:
    """The next triage discards the oldest above it, and the reason has the number."""
    world = World()
    text = config()
    app = replace(world.app, settings=replace(world.app.settings, project_pending_triggers=9))

    class Source:
        def configs(self, active_revision: Any) -> list[ConfigFile]:
            active_revision("proj")
            return [ConfigFile("proj", text + "# changed", "rev2")]

    replace(app, config_sources=[Source()]).sync("k")
    job = world.store.job(JOB)
    assert job is not None
    assert job.value.definition.max_pending == 4  # half of nine, rounded down to a power of two
    for n, digit in enumerate("0123456"):
        world.commit(digit, f"m{n}")
    world.finish()
    world.notify("n1")
    world.tick(1)
    newest, _ = world.invocations()
    assert [trigger.title for trigger in newest.incoming_triggers] == [digit * 40 for digit in "3456"]
    marker = world.store.trigger(JOB, f"{REPO}/+/{MAIN}@{'1' * 40}")
    assert marker is not None
    assert marker.value.discarded == "more than 4 triggers were pending"


def test_costly_refs_do_not_hold_up_a_message_of_many_refs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event pays for them, and a message has thousands: a deferred task decides each later event."""
    git = MemoryGitiles()
    world = World(config().replace(f'refs: "{MAIN}"', 'refs: "regexp:refs/heads/r.+"'), git)
    patterns = " ".join(f'refs: "regexp:refs/heads/[a-z]*{n}x"' for n in range(800))
    assert sync(world, "evil", hostile(patterns)).revision == "r1"
    events = [CommitEvent(REPO, f"refs/heads/r{n}", git.push(f"refs/heads/r{n}")[0]) for n in range(100)]
    events += [CommitEvent(REPO, f"refs/heads/x{n}", "1" * 40) for n in range(100)]
    decided: list[str] = []
    find = commit_module.find_watching
    monkeypatch.setattr(
        commit_module, "find_watching", lambda event, known: decided.append(event.ref) or find(event, known)
    )
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert len(decided) < 60
    assert len(world.works()) == 200 - world.runtime.limits.events_at_once
    world.tick(10)
    assert world.works() == []
    (invocation,) = world.invocations()
    waiting = [found.value.trigger for found in world.store.pending_triggers(JOB, 1000)]
    assert len((*invocation.incoming_triggers, *waiting)) == 100


def test_a_message_of_many_refs_is_deferred_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts limit the memory of a delivery."""
    monkeypatch.setattr(commit_module, "_DEFERRED_AT_ONCE", 7)
    sizes: list[int] = []
    defer_all = commit_module.defer_all
    monkeypatch.setattr(
        commit_module, "defer_all", lambda runtime, works: sizes.append(len(works)) or defer_all(runtime, works)
    )
    world = World(config().replace(f'refs: "{MAIN}"', 'refs: "regexp:refs/heads/r.+"'), MemoryGitiles())
    events = [CommitEvent(REPO, f"refs/heads/r{n}", "1" * 40) for n in range(30 + world.runtime.limits.events_at_once)]
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")
    assert sizes == [7, 7, 7, 7, 2]
