"""The inside view of an installation for ``luci-scheduler doctor``: the caller, the configs, and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.core.probe import Probe
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.queue_tasks import ProbeTask
from luci_scheduler.ports import PutProbe, QueueTask

__all__ = ["get_probe", "inspect", "start_probe"]


def inspect(context: Context) -> Sequence[ProjectRecord]:
    """Return the record of every project, sorted by project; costs one read for each.

    A project that the settings name has a record without a revision until a sync has read its config.

    Raises:
        ApiError: PERMISSION_DENIED: the caller is not an administrator.
    """
    context.require_admin()
    records = {name: ProjectRecord(name) for name in context.installation.config_projects}
    records |= {record.id: record for record in context.runtime.store.projects()}
    return [records[name] for name in sorted(records)]


def start_probe(context: Context) -> Probe:
    """Make a probe, and enqueue the task that marks it; costs one write.

    Functions mark it for ten minutes. Firestore deletes it later.

    Raises:
        ApiError: PERMISSION_DENIED: the caller is not an administrator.
        TransientError: the store or the queue failed.
    """
    context.require_admin()
    runtime = context.runtime
    probe = Probe(f"{runtime.entropy.nonce():016x}", runtime.clock.now())
    runtime.store.commit([PutProbe(probe, None)])
    runtime.queue.enqueue(QueueTask.of(ProbeTask(probe.id), probe.created))
    context.audit("scheduler.probes.start", probe=probe.id)
    return probe


def get_probe(context: Context, probe_id: str) -> Probe:
    """Return a probe without the tokens in its marks; costs one read.

    Raises:
        ApiError: PERMISSION_DENIED: the caller is not an administrator; NOT_FOUND.
    """
    context.require_admin()
    found = context.runtime.store.probe(probe_id) if probe_id else None
    if found is None:
        raise ApiError(Code.NOT_FOUND, "no such probe")
    marks = {name: replace(mark, token="") for name, mark in found.value.marks.items()}
    return replace(found.value, marks=marks)
