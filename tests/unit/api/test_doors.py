"""Every entrance has the same rule: the way in which a commit arrives does not decide whether it may be built."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.api.backfill import Backfill, backfill_commits
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.triggering import Batch, emit_triggers
from luci_scheduler.core.commit_event import gitiles_trigger, parse_commit_events
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.engine.commit import on_commits
from luci_scheduler.engine.jobs import pause_job
from tests.unit.api.support import context, world_for
from tests.unit.engine.world import JOB, REPO, World, config

MAIN = "refs/heads/main"
DELETED = "0" * 40
POLLER = JobId("proj/poller")


def _publish(world: World, document: dict[str, object]) -> None:
    events = parse_commit_events(json.dumps(document).encode())
    on_commits(world.runtime, events, world.clock.now(), "commit-m1")


def _plain(world: World, ref: str, revision: str, _base: str) -> None:
    _publish(world, {"repo": REPO, "ref": ref, "revision": revision})


def _gerrit(world: World, ref: str, revision: str, _base: str) -> None:
    update = {"refName": ref, "updateType": "UPDATE_NON_FAST_FORWARD", "newId": revision}
    _publish(world, {"url": REPO, "refUpdateEvent": {"refUpdates": {ref: update}}})


def _poll(world: World, _ref: str, _revision: str, _base: str) -> None:
    world.tick(31)


def _emit(world: World, ref: str, revision: str, _base: str) -> None:
    emit_triggers(context(world), [Batch(gitiles_trigger(REPO, ref, revision, world.clock.now()), (JOB,))])


def _backfill(world: World, ref: str, revision: str, base: str) -> None:
    wanted = Backfill((JOB,), REPO, ref, base, revision)
    backfill_commits(context(world), wanted, preview=False, request_id="r")


DOORS: dict[str, Callable[[World, str, str, str], None]] = {
    "plain event": _plain,
    "Gerrit event": _gerrit,
    "poll": _poll,
    "EmitTriggers": _emit,
    "backfill": _backfill,
}


def _landed(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return MAIN, git.push(MAIN)[0]


def _deleted(git: MemoryGitiles, _: World) -> tuple[str, str]:
    del git.heads[MAIN]
    return MAIN, DELETED


def _not_on_ref(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return MAIN, git.push("refs/changes/01/1/1", parents=[git.heads[MAIN]])[0]


def _not_served(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return MAIN, "f" * 40


def _not_watched(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return "refs/heads/other", git.push("refs/heads/other")[0]


def _no_ref(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return "refs/heads/a..b", git.push("refs/heads/a..b")[0]


def _filtered(git: MemoryGitiles, _: World) -> tuple[str, str]:
    return MAIN, git.push(MAIN, diff=[("docs/a", "docs/a")])[0]


def _paused(git: MemoryGitiles, world: World) -> tuple[str, str]:
    pause_job(world.runtime, POLLER, "user:a@example.com", "stop", "k")
    return MAIN, git.push(MAIN)[0]


ALL = set(DOORS)
BY_NAME = {"EmitTriggers", "backfill"}
"""Entrances at which the caller names the jobs and has the permission to trigger them."""

RULES: dict[str, tuple[Callable[[MemoryGitiles, World], tuple[str, str]], set[str]]] = {
    "a landed commit": (_landed, ALL),
    "a deleted ref": (_deleted, set()),
    "a commit that is not on the ref": (_not_on_ref, set()),
    "a commit that the host does not serve": (_not_served, set()),
    "a name that git allows for no ref": (_no_ref, set()),
    "a ref that the job does not watch": (_not_watched, {"EmitTriggers"}),
    "a commit that the path filter leaves out": (_filtered, BY_NAME),
    "a paused trigger": (_paused, BY_NAME),
}
"""Rule → a function that makes a case of it, and the entrances that let the commit through."""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_at_each_door(rule: str, door: str) -> None:
    """The commit starts a build exactly at the entrances in the table."""
    git = MemoryGitiles()
    (base,) = git.push(MAIN, diff=[("a.c", "a.c")])
    text = config().replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: ".+\\\\.c|file"')
    if door == "poll":
        text = text.replace('schedule: "triggered"', 'schedule: "with 30s interval"')
    world = world_for(text, git)
    if door == "poll":
        world.tick(31)  # from here on the poller knows the refs
    case, lets_through = RULES[rule]
    ref, revision = case(git, world)
    try:
        DOORS[door](world, ref, revision, base)
    except (ApiError, MalformedError):
        assert door not in lets_through
    for _ in range(20):
        world.tick(MINUTE // 10**9)
        for build in list(world.buildbucket.builds):
            world.finish(build_id=build)
    started = [trigger.title for item in world.invocations() for trigger in item.incoming_triggers]
    assert started.count(revision) == (1 if door in lets_through else 0)


def test_an_emitted_trigger_waits_for_its_commit() -> None:
    """A landed commit is triggered at once. The others wait until the ref leads to them."""
    git = MemoryGitiles()
    (base,) = git.push(MAIN)
    (review,) = git.push("refs/changes/01/1/1", parents=[base])
    world = world_for(config(), git)
    now = world.clock.now()
    batches = [Batch(gitiles_trigger(REPO, MAIN, revision, now), (JOB,)) for revision in (base, review)]
    emit_triggers(context(world), batches)
    world.tick()
    assert [trigger.title for item in world.invocations() for trigger in item.incoming_triggers] == [base]
    (work,) = world.works()
    assert [item["title"] for item in work.payload["triggers"]] == [review]
    git.push(MAIN, parents=[base, review])
    world.tick(20)
    assert [item.value.trigger.title for item in world.store.pending_triggers(JOB, 10)] == [review]
    assert world.works() == []


def test_emitted_commits_that_do_not_exist_cost_few_lookups() -> None:
    """A request may name a thousand commits that have not landed; they delay a landed commit only briefly."""
    git = MemoryGitiles()
    (landed,) = git.push(MAIN)
    world = world_for(config(), git, commit_wait_seconds=3600)
    now = world.clock.now()
    revisions = [*(f"{n + 1:040x}" for n in range(99)), landed]
    emit_triggers(context(world), [Batch(gitiles_trigger(REPO, MAIN, name, now), (JOB,)) for name in revisions])
    world.tick()
    assert len(git.calls) == 20
    for _ in range(5):
        world.tick(320)
    assert len(git.calls) == 20 + 5 * 20 + 1
    assert [trigger.title for item in world.invocations() for trigger in item.incoming_triggers] == [landed]
    for _ in range(15):
        world.tick(600)
    assert world.works() == []
    assert sum(bool(world.store.trigger(JOB, f"{REPO}/+/{MAIN}@{name}")) for name in revisions) == 100


def test_a_commit_named_by_many_emitted_triggers_is_looked_up_once() -> None:
    """Triggers with different IDs may name the same commit."""
    git = MemoryGitiles()
    git.push(MAIN)
    world = world_for(config(), git)
    trigger = gitiles_trigger(REPO, MAIN, "f" * 40, world.clock.now())
    emit_triggers(context(world), [Batch(replace(trigger, id=f"t{n}"), (JOB,)) for n in range(1000)])
    world.tick()
    assert len(git.calls) == 1
    assert len(world.works()[0].payload["triggers"]) == 1000


def test_an_emitted_trigger_whose_commit_never_lands_is_discarded() -> None:
    """The trigger is visibly discarded after the same time as a commit event."""
    git = MemoryGitiles()
    (base,) = git.push(MAIN)
    (review,) = git.push("refs/changes/01/1/1", parents=[base])
    world = world_for(config(), git, commit_wait_seconds=3600)
    trigger = gitiles_trigger(REPO, MAIN, review, world.clock.now())
    emit_triggers(context(world), [Batch(trigger, (JOB,))])
    for _ in range(20):
        world.tick(300)
    found = world.store.trigger(JOB, trigger.id)
    assert found is not None
    assert found.value.discarded.startswith("the commit is not on the ref that is named with it")
    assert world.invocations() == []
    assert world.works() == []


@pytest.mark.parametrize("settings", [{"trust_commit_publishers": True}, {"commit_wait_seconds": 0}])
def test_trusted_callers_cause_no_query_of_the_host(settings: dict[str, int]) -> None:
    """With either setting, emitted triggers cause no query of the host."""
    git = MemoryGitiles()
    world = world_for(config(), git, **settings)
    emit_triggers(context(world), [Batch(gitiles_trigger(REPO, MAIN, "f" * 40, world.clock.now()), (JOB,))])
    world.tick()
    assert len(world.invocations()) == 1
    assert git.calls == []
