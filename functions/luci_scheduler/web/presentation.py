"""From records to what pages show: all decisions about wording are here, templates hold none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.core.go_text import quote
from luci_scheduler.core.humanised import relative, ui_duration
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339, to_datetime
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, TaskDefinition
from luci_scheduler.core.trigger import Trigger

__all__ = [
    "InvocationView",
    "TriggerView",
    "definition_text",
    "invocation_json",
    "invocation_view",
    "job_json",
    "page_text",
]

_LABELS = {
    Status.STARTING: "default",
    Status.RETRYING: "warning",
    Status.RUNNING: "info",
    Status.SUCCEEDED: "success",
    Status.FAILED: "danger",
    Status.ABORTED: "danger",
    Status.OVERRUN: "warning",
}


@dataclass(frozen=True, slots=True)
class TriggerView:
    """One incoming trigger."""

    title: str
    url: str
    when: str
    at: str
    by: str


@dataclass(frozen=True, slots=True)
class InvocationView:
    """Everything that the invocation page shows."""

    project: str
    job: str
    invocation_id: str
    status: str
    label: str
    view_url: str
    triggered_by: str
    started: str
    started_shown: str
    finished: str
    finished_shown: str
    duration: str
    revision: str
    revision_url: str
    definition: str
    triggers: Sequence[TriggerView]
    properties: str
    tags: Sequence[str]
    attempts: int
    timers: Sequence[str]
    debug_log: str
    is_final: bool


def invocation_view(invocation: Invocation, log: str, now: Instant) -> InvocationView:
    """Return what the invocation page shows at ``now``."""
    project, job = split_job_id(invocation.job_id)
    status = invocation.status
    if status is Status.STARTING and not invocation.task.is_multistage:
        status = Status.RUNNING  # a task of one stage does its work while it starts
    return InvocationView(
        project=project,
        job=job,
        invocation_id=str(invocation.id),
        status=str(status),
        label=_LABELS[status],
        view_url=_safe_url(invocation.view_url),
        triggered_by=invocation.triggered_by.removeprefix("user:") or "-",
        started=format_rfc3339(invocation.started),
        started_shown=_shown(invocation.started),
        finished=format_rfc3339(invocation.finished) if invocation.finished else "",
        finished_shown=_shown(invocation.finished) if invocation.finished else "",
        duration=ui_duration((invocation.finished or now) - invocation.started),
        revision=invocation.revision,
        revision_url=_safe_url(invocation.revision_url),
        definition=definition_text(invocation.task),
        triggers=[_trigger_view(trigger, now) for trigger in invocation.incoming_triggers],
        properties=json.dumps(invocation.properties, indent=2, sort_keys=True, ensure_ascii=False)
        if invocation.properties
        else "",
        tags=invocation.tags,
        attempts=invocation.attempts,
        timers=[f"{_shown(timer.eta)} ({timer.title})" for timer in invocation.pending_timers],
        debug_log=log,
        is_final=invocation.status.is_final,
    )


def definition_text(task: TaskDefinition) -> str:
    """Return a task as Go prints a text proto: ``field: <`` ... ``>``."""
    lines = [f"{task.kind}: <"]
    for name, value in task.fields.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        lines += [f"  {name}: {quote(item) if isinstance(item, str) else json.dumps(item)}" for item in items]
    return "\n".join([*lines, ">"])


def invocation_json(invocation: Invocation, log: str) -> dict[str, Any]:
    """Return the JSON twin of the invocation page; 64-bit numbers are texts, times RFC 3339."""
    return {
        "job_id": invocation.job_id,
        "invocation_id": str(invocation.id),
        "status": str(invocation.status),
        "final": invocation.status.is_final,
        "started": format_rfc3339(invocation.started),
        "finished": format_rfc3339(invocation.finished) if invocation.finished else None,
        "triggered_by": invocation.triggered_by or None,
        "view_url": invocation.view_url or None,
        "revision": invocation.revision,
        "task": {invocation.task.kind: dict(invocation.task.fields)},
        "incoming_triggers": [trigger.public() for trigger in invocation.incoming_triggers],
        "properties": invocation.properties,
        "tags": list(invocation.tags),
        "attempts": invocation.attempts,
        "pending_timers": [
            {"id": timer.id, "title": timer.title, "eta": format_rfc3339(timer.eta)}
            for timer in invocation.pending_timers
        ],
        "mutations": invocation.mutations,
        "debug_log": log,
    }


def job_json(job: Job, invocations: Sequence[Invocation]) -> Mapping[str, Any]:
    """Return the JSON twin of the job page."""
    return {
        "job_id": job.id,
        "enabled": job.enabled,
        "paused": job.paused,
        "schedule": job.definition.schedule,
        "revision": job.definition.revision,
        "active_invocations": [str(identifier) for identifier in job.active_invocations],
        "invocations": [
            {
                "invocation_id": str(item.id),
                "status": str(item.status),
                "started": format_rfc3339(item.started),
                "finished": format_rfc3339(item.finished) if item.finished else None,
                "triggered_by": item.triggered_by or None,
                "view_url": item.view_url or None,
                "tags": list(item.tags),
            }
            for item in invocations
        ],
    }


def page_text(view: InvocationView) -> str:
    """Return the invocation page as text, laid out like the original's page when it is copied from a browser."""
    parts = [
        f"Status: {view.status}\nTriggered by: {view.triggered_by}\nDuration: {view.duration}",
        f"Definition (rev {view.revision})",
        view.definition,
        "Incoming triggers",
        "\n".join(
            f"  • {trigger.title} {trigger.url}" + (f" by {trigger.by}" if trigger.by else "")
            for trigger in view.triggers
        ),
    ]
    if view.properties:
        parts += ["Incoming properties", view.properties]
    if view.tags:
        parts += ["Incoming tags", "\n".join(f"  • {tag}" for tag in view.tags)]
    parts += ["Debug log (UTC)", view.debug_log]
    return "\n\n".join(parts)


def _trigger_view(trigger: Trigger, now: Instant) -> TriggerView:
    return TriggerView(
        title=trigger.title or trigger.id,
        url=_safe_url(trigger.url),
        when=relative(now - trigger.created, "ago", "from now"),
        at=format_rfc3339(trigger.created),
        by=trigger.emitted_by_user.removeprefix("user:"),
    )


def _shown(instant: Instant) -> str:
    return f"{to_datetime(instant):%Y-%m-%d %H:%M:%S} UTC"


def _safe_url(url: str) -> str:
    """Links lead to web pages only: anything else is shown as text."""
    return url if url.startswith(("https://", "http://")) else ""
