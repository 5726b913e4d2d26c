"""Shared by the tests of exports: an invocation is exported through the API, replayed, and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from emulator.replay.player import play
from emulator.replay.scenario import read_scenario
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.ports import CreateInvocation
from tests.unit.api.support import Client, put_job, world_for

__all__ = ["HOST", "REPO", "Kept", "exported", "played", "replayed", "same"]

HOST = "cr-buildbucket.appspot.com"
REPO = "https://r.googlesource.com/repo"
_FIELDS = (
    "id", "job_id", "status", "started", "finished", "attempts", "mutations", "task", "triggered_by", "properties",
    "tags", "incoming_triggers", "outgoing_triggers", "view_url", "task_data", "abort_requested_by", "abort_reason",
)  # fmt: skip
"""The members of a record that a replay must repeat."""


@dataclass(frozen=True)
class Kept:
    """An invocation as the store has it."""

    invocation: Invocation
    log: str


def played(document: dict[str, Any], config: str, configs: dict[str, str] | None = None) -> list[Kept]:
    """Play a scenario in memory; return its invocations, the oldest first."""
    found = play(read_scenario(document, config, configs)).invocations
    return [Kept(invocation, log) for invocation, log in found]


def exported(kept: Kept, policy: TriggeringPolicy | None = None) -> dict[str, str]:
    """Export an invocation through the API."""
    project, name = split_job_id(kept.invocation.job_id)
    world = world_for(f'job {{ id: "{name}" noop {{}} }}')
    job = world.store.job(kept.invocation.job_id)
    assert job is not None
    assert project == "proj"
    definition = replace(job.value.definition, task=kept.invocation.task, policy=policy or TriggeringPolicy())
    put_job(world, replace(job.value, definition=definition))
    world.store.commit([CreateInvocation(kept.invocation, kept.log)])
    ref = {"jobRef": {"project": project, "job": name}, "invocationId": str(kept.invocation.id)}
    reply: dict[str, str] = Client(world).call("ExportInvocation", ref, service="scheduler.Operator")
    return reply


def replayed(files: dict[str, str]) -> Kept:
    """Play an export; it leads to one invocation."""
    (kept,) = played(json.loads(files["scenario"]), files["config"])
    return kept


def same(again: Kept, kept: Kept) -> bool:
    """Check that a replay gives the same log, byte for byte, and the same record."""
    assert again.log == kept.log
    for name in _FIELDS:
        assert getattr(again.invocation, name) == getattr(kept.invocation, name), name
    return True
