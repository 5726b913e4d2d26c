"""The engine against the naive model, on a virtual clock: first without faults, then with all of them."""

from __future__ import annotations

from typing import Any

from emulator.memory.topic import MemoryTopic
from luci_scheduler.core.instants import HOUR
from tests.simulation.compare import differences, violations
from tests.simulation.model import Model
from tests.simulation.project import START, make_script
from tests.simulation.scheduler import ALL_FAULTS, LISTING, play

SEED = 2


def test_without_faults_the_engine_equals_the_naive_model() -> None:
    """Each invocation of 40 jobs in a day starts at exactly the model's instant, with exactly the model's triggers."""
    script = make_script(SEED, days=1, jobs=40)
    model = Model(script, SEED, LISTING)
    model.run(START)
    history = play(script, SEED).history
    assert differences(model, history) == []
    assert violations(history, script) == []
    assert sum(map(len, history.starts.values())) > 400
    assert sum(map(len, history.discards.values())) > 10


def test_invariants_hold_with_all_faults() -> None:
    """Tasks and notifications are late, early, repeated and lost.

    Calls and commits fail before and after their effect.
    """
    script = make_script(SEED, days=1, jobs=40)
    history = play(script, SEED, ALL_FAULTS).history
    assert violations(history, script) == []
    assert sum(map(len, history.starts.values())) > 400
    assert min(history.counts[what] for what in ("tasks lost", "tasks swept", "deliveries repeated")) > 10


def test_no_announcement_is_lost() -> None:
    """The topic fails as well. Each end is announced at least once, and copies of a message are equal."""
    script, topic = make_script(5, days=1, jobs=8), MemoryTopic()
    history = play(script, 5, ALL_FAULTS, topic=topic).history
    by_id: dict[str, list[Any]] = {}
    for attributes, data in topic.messages:
        by_id.setdefault(attributes["event_id"], []).append(data)
    assert all(copies == copies[:1] * len(copies) for copies in by_id.values())
    assert len(topic.messages) > len(by_id) > 100, "some messages come twice"
    before = script.end - 2 * HOUR
    ends = {
        f"p/{job}/{end.identifier}/ended" for job, ended in history.ends.items() for end in ended if end.at < before
    }
    assert ends - by_id.keys() == set()
    assert len(ends) > 50
    statuses = {f"p/{job}/{end.identifier}/ended": end.status for job, ended in history.ends.items() for end in ended}
    ended = {name: copies[0]["status"] for name, copies in by_id.items() if name.endswith("/ended")}
    assert ended.items() <= statuses.items()
    began = {f"p/{job}/{start.identifier}/started" for job, started in history.starts.items() for start in started}
    announced = {name for name in by_id if name.endswith("/started")}
    assert announced <= began
    built = {name for name, copies in by_id.items() if name.endswith("/ended") and "buildLink" in copies[0]}
    assert {name.replace("/ended", "/started") for name in built} - announced == set()
    assert len(built) > 20


def test_a_seed_gives_the_same_run() -> None:
    """A failure can be reproduced by its seed."""
    script = make_script(3, days=1, jobs=8)
    first, second = (play(script, 3, ALL_FAULTS).history for _ in range(2))
    assert first.counts == second.counts
    assert first.starts == second.starts
