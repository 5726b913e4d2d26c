"""Writes that replace a whole document."""

from __future__ import annotations

from typing import Any

from luci_scheduler.adapters.documents.ids import document_id
from luci_scheduler.adapters.documents.records import (
    encode_deferred,
    encode_job,
    encode_poller,
    encode_project,
    encode_trigger,
)
from luci_scheduler.ports import CreateTrigger, PutDeferred, PutJob, PutPoller, PutProject, UpdateTrigger, WriteWhole

__all__ = ["encode_write"]


def encode_write(write: WriteWhole) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the path of a replaced document (collection and ID in turn), and its fields.

    Raises:
        PermanentError: its name is empty or not valid Unicode.
    """
    path, document = _path_and_fields(write)
    document_id(path[-1])
    return path, document


def _path_and_fields(write: WriteWhole) -> tuple[tuple[str, ...], dict[str, Any]]:
    match write:
        case PutJob(job, _, None):
            return ("jobs", job.id), encode_job(job)
        case PutJob(job, _, triage_log):
            return ("jobs", job.id), {**encode_job(job), "triage_log": triage_log}
        case CreateTrigger(record) | UpdateTrigger(record):
            return ("jobs", record.job_id, "triggers", record.trigger.id), encode_trigger(record)
        case PutProject(project):
            return ("projects", project.id), encode_project(project)
        case PutPoller(poller):
            return ("pollers", poller.job_id), encode_poller(poller)
        case PutDeferred(record):
            return ("deferred", record.id), encode_deferred(record)
