"""Work that one request or one project may cause: every count has a limit before the work begins."""

from __future__ import annotations

import json

import pytest

from luci_scheduler.api import requested
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.requested import MAX_TRIGGERS, get_names, get_triggers
from luci_scheduler.api.triggering import MAX_EMITTED, Batch, emit_triggers
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.parsing import MAX_BYTES, MAX_DEFINITIONS
from luci_scheduler.config.reader import read_config
from luci_scheduler.config.validator import validate
from luci_scheduler.core.trigger import Trigger
from tests.unit.api.support import OWNER, context, world_for
from tests.unit.engine.world import JOB, World, config


def _refused(world: World) -> None:
    assert world.counted() == "0R/0W/0c"
    assert world.queue.tasks == []


def test_the_triggers_of_a_request() -> None:
    """Counted once for each job, before one of them is read."""
    world = world_for()
    trigger = Trigger("t", world.clock.now(), "noop")
    for batches in ([Batch(trigger, (JOB,) * (MAX_EMITTED + 1))], [Batch(trigger, (JOB,))] * (MAX_EMITTED + 1)):
        with pytest.raises(ApiError, match="too many for one request") as raised:
            emit_triggers(context(world), batches)
        assert raised.value.code is Code.INVALID_ARGUMENT
    _refused(world)


def test_the_outcomes_of_a_request() -> None:
    """A read each."""
    world = world_for()
    with pytest.raises(ApiError, match=f"1 to {MAX_TRIGGERS}"):
        get_triggers(context(world), JOB, [f"t{number}" for number in range(MAX_TRIGGERS + 1)])
    _refused(world)


def test_the_jobs_that_a_list_of_names_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who sees one realm of a project makes a read for each of its first jobs only."""
    monkeypatch.setattr(requested, "_MAX_READ", 3)
    grant = {"project": "proj", "realm": "@legacy", "role": "READER", "to": [f"user:{OWNER}"]}
    names = tuple(f"j{number}" for number in range(9))
    world = World(config(names), access=json.dumps({"version": 1, "grants": [grant]}))
    world.store.counts.clear()
    found, is_cut = get_names(context(world), "proj")
    assert (found, is_cut) == (["j0", "j1", "j2"], True)
    assert world.store.counts["R"] == 4


def test_the_invocations_and_triggers_of_a_project() -> None:
    """A config that may have too many invocations at a time is refused; its pending triggers share one limit."""
    rules = ConfigRules(max_active_invocations=10, max_pending_triggers=64)
    jobs = "".join(
        f'job {{ id: "j{number}" noop {{}} triggering_policy {{ max_concurrent_invocations: 4 }} }}\n'
        for number in range(3)
    )
    assert [str(problem) for problem in validate(jobs, rules=rules).errors if "at most 10 are allowed" in str(problem)]
    fine = "".join(f'job {{ id: "j{number}" noop {{}} }}\n' for number in range(4))
    shares = [job.max_pending for job in read_config("proj", fine, rules=rules).jobs.values()]
    assert shares == [16] * 4


def test_the_bytes_of_a_config() -> None:
    """A larger file is refused before it is parsed."""
    (problem,) = validate(b"#" * (MAX_BYTES + 1)).errors
    assert f"at most {MAX_BYTES} are allowed" in str(problem)


def test_the_definitions_of_a_config() -> None:
    """They are counted in each spelling: the text format also has lists."""
    jobs = ", ".join(f'{{ id: "j{number}" noop {{}} }}' for number in range(MAX_DEFINITIONS + 1))
    (problem,) = validate(f"job: [{jobs}]").errors
    assert f"has {MAX_DEFINITIONS + 1} jobs and triggers, at most {MAX_DEFINITIONS} are allowed" in str(problem)
