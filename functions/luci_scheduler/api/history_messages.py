"""Messages about invocations, their triggers and their commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.api.history import Described, NamedCommit, cause_of, commit_of
from luci_scheduler.api.messages import invocation_message, microseconds
from luci_scheduler.api.schema import message_class
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.trigger import Trigger, sort_key

__all__ = ["invocation_details", "trigger_details"]

_MAX_TRIGGERS = 50  # in the details of an invocation: the newest ones


def trigger_details(trigger: Trigger) -> Any:
    """Return a trigger with its cause; its commit has no subject."""
    commit = {"commit": _commit(commit_of(trigger))} if trigger.is_commit else {}
    return message_class("TriggerDetails")(
        id=trigger.id,
        title=trigger.title,
        url=trigger.url,
        kind=str(trigger.kind),
        created_ts=microseconds(trigger.created),
        cause=cause_of(trigger),
        **commit,
    )


def invocation_details(found: Described, *, all_triggers: bool = False) -> Any:
    """Return an invocation with its commit and cause.

    Args:
        found: the invocation.
        all_triggers: whether the newest triggers are listed, not only the cause of the newest one.
    """
    item = found.invocation
    triggers = sorted(item.incoming_triggers, key=sort_key, reverse=True)
    reply = message_class("InvocationDetails")(
        invocation=invocation_message(item),
        commit_count=found.commit_count,
        cause=cause_of(triggers[0]) if triggers else "",
        summary=item.summary,
        attempts=item.attempts,
        next_attempt_ts=microseconds(item.next_due) if item.status is Status.RETRYING else 0,
        abort_requested_by=item.abort_requested_by,
        abort_reason=item.abort_reason,
        trigger_count=len(triggers),
    )
    if found.commit:
        reply.commit.MergeFrom(message_class("Commit")(**_commit(found.commit)))
    if all_triggers:
        reply.triggers.extend(map(trigger_details, triggers[:_MAX_TRIGGERS]))
    return reply


def _commit(commit: NamedCommit) -> Mapping[str, str]:
    return {
        "repo": commit.repo,
        "ref": commit.ref,
        "revision": commit.revision,
        "subject": commit.subject,
        "author": commit.author,
    }
