"""The golden build, counted in a replay: half an hour with 28 status checks, from its commit to its last timer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import emulator.memory.ports
from emulator.replay import memory, player
from emulator.replay.scenario import load_scenario
from tests.unit.engine.world import CountingStore

BUDGET = {
    "documents read": 34,
    "documents written": 36,
    "commits": 33,
    "created tasks": 29,
    "operations of Cloud Tasks": 58,  # a task is billed when it is created and when it is delivered
    "function calls": 32,
    "requests for the build": 1,
    "reads of the build": 30,
}
"""What the build may cost. Lower a number together with the code that saves; raise one only with a good reason."""


def test_the_golden_build_stays_in_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more read, write, task or call anywhere on a build's way changes a number."""
    store, tasks, counts = CountingStore(), Counter[str](), Counter[str]()
    enqueue, sync, result = memory._Queue.enqueue, player.sync_project, player._Player.result

    def count_task(queue: Any, task: Any) -> None:
        tasks[task.kind] += 1
        enqueue(queue, task)

    def forget_sync(*args: Any, **named: Any) -> Any:
        answer = sync(*args, **named)
        store.counts.clear()
        tasks.clear()
        return answer

    def note_counts(played: Any) -> Any:
        counts.update(store.counts)  # the result reads the invocations for its reader
        return result(played)

    monkeypatch.setattr(emulator.memory.ports, "MemoryStore", lambda: store)
    monkeypatch.setattr(memory._Queue, "enqueue", count_task)
    monkeypatch.setattr(player, "sync_project", forget_sync)
    monkeypatch.setattr(player._Player, "result", note_counts)
    played = player.play(load_scenario(Path("tests/golden/tint-mac-rel/scenario.json")))
    methods = Counter(request.method for request in played.requests)
    assert {
        "documents read": counts["R"],
        "documents written": counts["W"],
        "commits": counts["c"],
        "created tasks": tasks.total(),
        "operations of Cloud Tasks": 2 * tasks.total(),
        "function calls": len(played.answers),
        "requests for the build": methods["v1.put"],
        "reads of the build": methods["v1.get"],
    } == BUDGET
