"""Invocations and triggers as pages show them. Wording is decided here, not in templates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.core.cleanup import BUILD_LIFE
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.humanized import exact_duration, relative, ui_duration
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339, to_datetime
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.display import displayed
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.managers.task_kind import Fact
from luci_scheduler.web.addresses import address, invocation_address, job_address

__all__ = [
    "InvocationView",
    "TriggerView",
    "ago",
    "definition_text",
    "facts_of",
    "invocation_json",
    "invocation_view",
    "label_of",
    "page_text",
    "safe_url",
    "shown",
    "status_of",
    "trigger_view",
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


@frozen
class TriggerView:
    """One incoming trigger."""

    title: str
    url: str
    when: str
    at: str
    by: str
    explain: str = ""
    """Address of the page that explains the outcome of the commit; empty if the trigger is not a commit."""


@frozen
class InvocationView:
    """An invocation as its page shows it."""

    project: str
    job: str
    invocation_id: str
    address: str
    job_address: str
    status: str
    label: str
    view_url: str
    triggered_by: str
    started: str
    started_shown: str
    finished: str
    finished_shown: str
    duration: str
    """As in the original, rounded down to one unit."""
    took: str
    """The same to the second, or to the millisecond."""
    revision: str
    revision_url: str
    definition: str
    triggers: Sequence[TriggerView]
    outgoing: Sequence[TriggerView]
    properties: str
    tags: Sequence[str]
    attempts: int
    timers: Sequence[str]
    debug_log: str
    is_final: bool
    abort_note: str
    """The user who requested the abort, and the reason; empty if there was no request."""
    cleanup_note: str
    """A sentence about a build that may still run after the invocation ended; empty if there is none."""


def invocation_view(invocation: Invocation, log: str, now: Instant) -> InvocationView:
    """Return an invocation as its page shows it at ``now``."""
    project, job = split_job_id(invocation.job_id)
    status = status_of(invocation)
    return InvocationView(
        project=project,
        job=job,
        invocation_id=str(invocation.id),
        address=invocation_address(invocation.job_id, invocation.id),
        job_address=job_address(invocation.job_id),
        status=str(status),
        label=label_of(status),
        view_url=safe_url(invocation.view_url),
        triggered_by=invocation.triggered_by.removeprefix("user:") or "-",
        started=format_rfc3339(invocation.started),
        started_shown=shown(invocation.started),
        finished=format_rfc3339(invocation.finished) if invocation.finished else "",
        finished_shown=shown(invocation.finished) if invocation.finished else "",
        duration=ui_duration((invocation.finished or now) - invocation.started),
        took=exact_duration((invocation.finished or now) - invocation.started),
        revision=invocation.revision,
        revision_url=safe_url(invocation.revision_url),
        definition=definition_text(invocation.task),
        triggers=[trigger_view(trigger, now) for trigger in invocation.incoming_triggers],
        outgoing=[trigger_view(trigger, now) for trigger in invocation.outgoing_triggers],
        properties=_properties_text(invocation),
        tags=invocation.tags,
        attempts=invocation.attempts,
        timers=[f"{shown(timer.eta)} ({timer.title})" for timer in invocation.pending_timers],
        debug_log=log,
        is_final=invocation.status.is_final,
        abort_note=_abort_note(invocation),
        cleanup_note=_cleanup_note(invocation),
    )


def _properties_text(invocation: Invocation) -> str:
    if not invocation.properties:
        return ""
    return json.dumps(invocation.properties, indent=2, sort_keys=True, ensure_ascii=False)


def status_of(invocation: Invocation) -> Status:
    """Return the status that pages show."""
    if invocation.status is Status.STARTING and not kind_of(invocation.task).is_multistage:
        return Status.RUNNING  # a single-stage task does its work in the launch
    return invocation.status


def label_of(status: Status) -> str:
    """Return the CSS class of a status's label."""
    return _LABELS[status]


def _abort_note(invocation: Invocation) -> str:
    if not invocation.abort_requested_by:
        return ""
    reason = f": {invocation.abort_reason}" if invocation.abort_reason else ""
    return f"Abort requested by {invocation.abort_requested_by.removeprefix('user:')}{reason}"


def _cleanup_note(invocation: Invocation) -> str:
    cleanup = invocation.cleanup
    if cleanup is None:
        return ""
    noun, given_up = kind_of(invocation.task).noun, shown(Instant(cleanup.since + BUILD_LIFE))
    return (
        f"A {noun} of this invocation may still be running, because the {noun} service did not respond. "
        f"The scheduler cancels the {noun} as soon as the service responds. "
        f"Next attempt: {shown(cleanup.next_try)}. Last attempt: {given_up}."
    )


def definition_text(task: TaskDefinition) -> str:
    """Return a task as its kind shows it, usually as Go prints a text proto."""
    return kind_of(task).definition_text(task)


def facts_of(invocation: Invocation) -> list[Fact]:
    """Return the summary rows of the invocation's task kind, without empty rows and unsafe links."""
    facts = [replace(fact, url=safe_url(fact.url)) for fact in kind_of(invocation.task).facts(invocation)]
    return [fact for fact in facts if fact.text or fact.url]


def invocation_json(invocation: Invocation, log: str) -> dict[str, Any]:
    """Return the JSON twin of the invocation page; 64-bit numbers are strings, and times are in RFC 3339."""
    return {
        "job_id": invocation.job_id,
        "invocation_id": str(invocation.id),
        "status": str(invocation.status),
        "final": invocation.status.is_final,
        "started": format_rfc3339(invocation.started),
        "finished": format_rfc3339(invocation.finished) if invocation.finished else None,
        "triggered_by": invocation.triggered_by or None,
        "view_url": displayed(invocation.view_url) or None,
        "revision": invocation.revision,
        "task": {invocation.task.kind: dict(invocation.task.fields)},
        "incoming_triggers": [_trigger_json(trigger) for trigger in invocation.incoming_triggers],
        "properties": invocation.properties,
        "tags": list(invocation.tags),
        "attempts": invocation.attempts,
        "cleanup_next_try": format_rfc3339(invocation.cleanup.next_try) if invocation.cleanup else None,
        "pending_timers": [
            {"id": timer.id, "title": timer.title, "eta": format_rfc3339(timer.eta)}
            for timer in invocation.pending_timers
        ],
        "mutations": invocation.mutations,
        "debug_log": log,
    }


def _trigger_json(trigger: Trigger) -> dict[str, Any]:
    document = trigger.public()
    return {**document, **({"url": displayed(trigger.url)} if trigger.url else {})}


def page_text(view: InvocationView) -> str:
    """Return the invocation page as text, in the layout of the original's page when it is copied from a browser."""
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


def trigger_view(trigger: Trigger, now: Instant) -> TriggerView:
    """Return a trigger as pages list it at ``now``."""
    return TriggerView(
        title=trigger.title or trigger.id,
        url=safe_url(trigger.url),
        when=ago(trigger.created, now),
        at=format_rfc3339(trigger.created),
        by=trigger.emitted_by_user.removeprefix("user:"),
        explain=_explain(trigger),
    )


def _explain(trigger: Trigger) -> str:
    names = [trigger.payload.get(name) for name in ("repo", "revision", "ref")]
    if not trigger.is_commit or not all(isinstance(name, str) for name in names):
        return ""
    repo, revision, ref = (str(name) for name in names)
    return address("commits", repo=repo, revision=revision, ref=ref)


def ago(instant: Instant, now: Instant) -> str:
    """Return the time from an instant to ``now`` as text, such as "2 hours ago"."""
    return relative(now - instant, "ago", "from now")


def shown(instant: Instant) -> str:
    """Return an instant as pages show it, in UTC."""
    return f"{to_datetime(instant):%Y-%m-%d %H:%M:%S} UTC"


def safe_url(url: str) -> str:
    """Return the link for a URL if it is a web page's, otherwise an empty text: pages link to no other scheme."""
    return displayed(url) if url.lower().startswith(("https://", "http://")) else ""
