"""Exports on the real stack, and of a simulated day: every replay gives the same log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from emulator.replay.emulators import Emulators
from emulator.replay.player import play
from emulator.replay.scenario import read_scenario
from luci_scheduler.api.export import Facts, to_scenario
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Invocation
from tests.exports import Kept, exported, same
from tests.simulation import scheduler
from tests.simulation.project import make_script
from tests.unit.api.test_export_kinds import KINDS

pytestmark = pytest.mark.timeout(120)

ON_EMULATORS = (
    "batch of many kinds",
    "function that dies twice",
    "abort during a launch",
)
"""Kinds whose deliveries differ between the stacks: requests, deaths, and parallel deliveries."""


@pytest.mark.emulators
def test_exports_play_on_the_emulators(firestore_emulator: Any, pubsub_emulator: Any) -> None:
    """The same exports lead to the same logs on the official emulators, with HTTP between all parts."""
    emulators = Emulators(firestore_emulator.address, pubsub_emulator.address)
    for name in ON_EMULATORS:
        kept = KINDS[name].kept()
        files = exported(kept)
        (found,) = play(read_scenario(json.loads(files["scenario"]), files["config"]), emulators).invocations
        assert same(Kept(*found), kept)


EVERY, SEED = 15, 5
"""Every fifteenth invocation of the day is replayed."""


def test_invocations_of_a_simulated_day_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All faults occur: lost and late tasks and notifications, refused and unanswered calls, deaths."""
    settings = scheduler.Settings
    monkeypatch.setattr(scheduler, "Settings", lambda **given: settings(**{**given, "project": "cloud-project"}))
    simulation = scheduler.play(make_script(SEED, days=1, jobs=8), SEED, scheduler.ALL_FAULTS)
    kinds: set[tuple[str, int]] = set()
    for invocation, log, facts in list(_invocations(simulation))[::EVERY]:
        files = to_scenario(invocation, log, facts)
        (found,) = play(read_scenario(json.loads(files.scenario), files.config)).invocations
        assert same(Kept(*found), Kept(invocation, log))
        kinds.add((invocation.task.kind, min(2, invocation.attempts)))
    assert len(kinds) > 4


def _invocations(simulation: scheduler.Simulation) -> Iterator[tuple[Invocation, str, Facts]]:
    store = simulation.store
    project = store.project("p")
    for job_id in project.value.job_ids if project else ():
        job, poller = store.job(JobId(job_id)), store.poller(JobId(job_id))
        assert job is not None
        known = poller.value.known if poller else {}
        for item in store.invocations(job_id, 1000):
            found = store.invocation_with_log(job_id, item.id)
            assert found is not None
            facts = Facts(job.value.definition.policy, simulation.runtime.era_of(item.task), known)
            yield found[0].value, found[1], facts
