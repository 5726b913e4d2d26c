"""The functions that an instance runs: today's, or those of another release."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from emulator.memory.store import MemoryStore
from emulator.storm.release import Release
from luci_scheduler.ports import (
    CreateInvocation,
    CreateTrigger,
    DeleteDeferred,
    PutDeferred,
    PutJob,
    PutPaused,
    PutPoller,
    PutProject,
    UpdateInvocation,
    UpdateTrigger,
    Write,
)

__all__ = ["Code", "todays"]


@dataclass(frozen=True, slots=True)
class Code:
    """The modules of a release of the functions; None: today's."""

    release: Release | None = None

    def module(self, name: str) -> Any:
        """Return a module of ``luci_scheduler``."""
        full = f"luci_scheduler.{name}"
        return importlib.import_module(full) if self.release is None else self.release.module(full)

    def store(self, store: MemoryStore) -> MemoryStore:
        """Return a store for the records of the release, on the documents of ``store``."""
        if self.release is None:
            return store
        shared: MemoryStore = self.release.share(store)
        return shared


def todays(write: Any, store: MemoryStore) -> Write:
    """Return a write of any release in today's classes, as the store has it after its commit."""
    name = type(write).__name__
    match name:
        case "CreateInvocation" | "UpdateInvocation":
            invocation = _value(store.invocation(write.invocation.job_id, write.invocation.id))
            log = write.log
            return CreateInvocation(invocation, log) if name[0] == "C" else UpdateInvocation(invocation, None, log)
        case "PutJob":
            return PutJob(_value(store.job(write.job.id)), None)
        case "CreateTrigger" | "UpdateTrigger":
            record = _value(store.trigger(write.record.job_id, write.record.trigger.id))
            return CreateTrigger(record) if name[0] == "C" else UpdateTrigger(record, None)
        case "PutProject":
            return PutProject(_value(store.project(write.record.id)), None)
        case "PutPoller":
            return PutPoller(_value(store.poller(write.record.job_id)), None)
        case "PutDeferred":
            return PutDeferred(_value(store.deferred(write.record.id)), None)
        case "DeleteDeferred":
            return DeleteDeferred(write.id, None)
        case "PutPaused":
            return PutPaused(write.repo, write.trigger_job_id, write.paused)
    found: Write = write  # watchers: nothing reads them
    return found


def _value(found: Any) -> Any:
    return found.value
