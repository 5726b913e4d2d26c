"""The store of builds: keys, order, and the changes that a build allows."""

import dataclasses
from typing import Any

import pytest

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, BuildSpec, BuildStore, Outcome
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.testing import ScriptedEntropy
from emulator.clock import SteppedClock
from luci_scheduler.core.instants import MILLISECOND, MINUTE, SECOND

START = 1_700_000_000 * SECOND
BUILDER = BuilderId("p", "ci", "linux")
SPEC = BuildSpec("v2", BUILDER, "project:p", BuilderConfig())


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands."""
    return SteppedClock(START)


@pytest.fixture
def store(clock: SteppedClock) -> BuildStore:
    """An empty store whose builds have no numbers."""
    return BuildStore(clock, ScriptedEntropy(), lambda _builder: None)


def create(store: BuildStore, **fields: Any) -> Build:
    """Create a build."""
    build, _ = store.create(SPEC, **fields)
    return build


def test_a_new_build_is_scheduled_now(store: BuildStore) -> None:
    build = create(store)
    assert (build.status, build.ended, build.create_time, build.update_time) == ("SCHEDULED", False, START, START)
    assert (len(build.task_id), build.task_id[-1]) == (16, "0")
    assert store.get(build.id) == build


def test_a_key_returns_the_same_build_for_a_while(store: BuildStore, clock: SteppedClock) -> None:
    first, is_new = store.create(SPEC, key="k", memory=MINUTE)
    assert is_new
    store.start(first.id, START)
    clock.advance(MINUTE - 1)
    again, is_new = store.create(SPEC, key="k", memory=MINUTE)
    assert (again.id, again.status, is_new) == (first.id, "STARTED", False)
    clock.advance(1)
    assert store.create(SPEC, key="k", memory=MINUTE)[1]


def test_a_key_without_a_limit_is_remembered_until_it_is_forgotten(store: BuildStore, clock: SteppedClock) -> None:
    first = create(store, key="k")
    clock.advance(10**6 * SECOND)
    assert create(store, key="k").id == first.id
    store.forget_keys()
    assert create(store, key="k").id != first.id


def test_an_empty_key_never_matches(store: BuildStore) -> None:
    first, second = create(store), create(store)
    store.remember("", first)
    assert first.id != second.id
    assert store.remembered("", None) is None


def test_a_reserved_id_is_unused(clock: SteppedClock) -> None:
    """Equal random bits at the same millisecond are drawn again."""
    store = BuildStore(clock, ScriptedEntropy(5, 1, 5, 6), lambda _builder: None)
    first = create(store)
    assert store.reserve_id("v2") == first.id + (1 << 4)


def test_a_build_takes_a_reserved_id(store: BuildStore) -> None:
    identifier = store.reserve_id("v2")
    assert create(store, build_id=identifier).id == identifier


def test_a_build_is_found_by_its_number(clock: SteppedClock) -> None:
    numbers = iter([4, 5])
    store = BuildStore(clock, ScriptedEntropy(), lambda _builder: next(numbers))
    first, second = create(store), create(store)
    assert store.get_by_number(BUILDER, 4) == first
    assert store.get_by_number(BUILDER, 5) == second
    assert store.get_by_number(BUILDER, 6) is None
    assert store.get_by_number(dataclasses.replace(BUILDER, builder="mac"), 4) is None


def test_builds_are_listed_newest_first(store: BuildStore, clock: SteppedClock) -> None:
    ids = []
    for _ in range(3):
        ids.append(create(store).id)
        clock.advance(MILLISECOND)
    assert [build.id for build in store.newest_first()] == ids[::-1]
    assert [build.id for build in store.newest_first(after=ids[2])] == [ids[1], ids[0]]


def test_a_build_starts_once(store: BuildStore) -> None:
    build = create(store)
    started = store.start(build.id, START + 1)
    assert started is not None
    assert (started.status, started.start_time, started.status_changed_time) == ("STARTED", START + 1, START + 1)
    assert store.start(build.id, START + 2) is None
    assert store.start(1, START) is None


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "INFRA_FAILURE", "CANCELED"])
def test_a_build_ends_once(store: BuildStore, status: str) -> None:
    build = create(store)
    ended = store.end(build.id, START + SECOND, Outcome(status), reported_ago=SECOND // 2)
    assert ended is not None
    assert (ended.ended, ended.status, ended.end_time) == (True, status, START + SECOND // 2)
    assert ended.status_changed_time == START + SECOND
    assert store.end(build.id, START + 2 * SECOND, Outcome("SUCCESS")) is None
    assert store.start(build.id, START) is None


def test_a_status_that_is_not_final_is_an_error(store: BuildStore) -> None:
    with pytest.raises(ValueError, match="'STARTED' is not an end status"):
        store.end(create(store).id, START, Outcome("STARTED"))


def test_only_the_first_cancellation_is_recorded(store: BuildStore) -> None:
    build = create(store)
    canceled = store.request_cancel(build.id, START + 1, "user:a@b", "why")
    assert canceled is not None
    assert (canceled.status, canceled.cancel_time, canceled.canceled_by) == ("SCHEDULED", START + 1, "user:a@b")
    assert canceled.cancellation_markdown == "why"
    assert store.request_cancel(build.id, START + 2, "user:c@d", "") is None
    store.end(build.id, START + 3, Outcome("CANCELED"))
    assert store.request_cancel(build.id, START + 4, "user:c@d", "") is None
