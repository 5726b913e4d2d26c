"""Turns inside a process: one after the other, with a bounded wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.adapters.turns import ProcessTurns
from luci_scheduler.budget import limited
from luci_scheduler.core.errors import StoreConflictError, TransientError
from luci_scheduler.ports import PutJob
from tests.unit.engine.world import JOB, World

THREADS, CHANGES = 8, 20


def test_changes_of_a_job_in_one_process_lose_no_race() -> None:
    """Each change reads the job, decides and commits in its own turn. Without turns most of them would conflict."""
    world, conflicts = World(), []
    commit = world.store.commit

    def counting(writes: Any) -> Any:
        try:
            return commit(writes)
        except StoreConflictError:
            conflicts.append(writes)
            raise

    world.store.commit = counting  # type: ignore[method-assign]
    runtime = replace(world.runtime, turns=ProcessTurns(patience=60))
    started = world.store.job(JOB)
    assert started is not None

    def change(_: int) -> None:
        def attempt(found: Any) -> None:
            threading.Event().wait(0.0001)  # other threads run between the read and the commit
            runtime.store.commit([PutJob(replace(found.value, commits=found.value.commits + 1), found.version)])

        runtime.update_job(JOB, "count", attempt)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(list(pool.map(change, range(CHANGES)))) == CHANGES
    ended = world.store.job(JOB)
    assert ended is not None
    assert ended.value.commits == started.value.commits + CHANGES
    assert conflicts == []


def test_a_turn_is_awaited_for_a_bounded_time() -> None:
    """A delivery that never ends stops no other. The store's preconditions still decide between the two."""
    turns, entered, done = ProcessTurns(patience=0.01), threading.Event(), threading.Event()

    def hold() -> None:
        with turns.of("job a"):
            entered.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(60)
    with turns.of("job a"):
        assert not done.is_set()
    done.set()
    holder.join(60)
    assert turns._turns == {}


def test_a_turn_may_be_taken_inside_itself() -> None:
    """A triage that is repeated inside a triage of the same job does not wait for itself."""
    turns = ProcessTurns(patience=60)
    with turns.of("job a"), turns.of("job a"), turns.of("job b"):
        assert set(turns._turns) == {"job a", "job b"}
    assert turns._turns == {}


def test_the_wait_is_part_of_the_budget() -> None:
    """A delivery without time left takes no turn, and leaves none behind."""
    turns = ProcessTurns()
    with limited(0.0), pytest.raises(TransientError, match="time budget"), turns.of("job a"):
        raise AssertionError("no turn is left")
    assert turns._turns == {}


def test_an_error_ends_the_turn() -> None:
    """The next delivery gets it at once."""
    turns = ProcessTurns(patience=60)
    with pytest.raises(StoreConflictError), turns.of("job a"):
        raise StoreConflictError("lost")
    assert turns._turns == {}
