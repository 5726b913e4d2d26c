"""The page of an invocation: its state, its timeline and its debug log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.access import Permission
from luci_scheduler.api.causes import cause_of, commit_of
from luci_scheduler.api.commit_titles import Titles, titles_of
from luci_scheduler.api.errors import NoSuchInvocationError, NoSuchJobError
from luci_scheduler.api.service import InvocationLog, get_invocation_log
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.web.addresses import parse_invocation_id
from luci_scheduler.web.notices import NO_SUCH_INVOCATION, NO_SUCH_JOB
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import facts_of, invocation_json, invocation_view
from luci_scheduler.web.reasons import why_of
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse
from luci_scheduler.web.result_views import cause_view, commit_json, commit_view
from luci_scheduler.web.timeline import Event, EventKind, count, events, legend, marks

__all__ = ["invocation"]

_Cost = Sequence[tuple[str, int]]


def invocation(page_request: PageRequest, job_id: JobId, text: str) -> PageResponse:
    """Return the page of an invocation; ``text`` is the invocation ID in the path."""
    found = _read(page_request, job_id, text)
    timeline = events(found.invocation, found.log)
    cost = _cost(found, timeline)
    titles = titles_of(page_request.context, [commit_of(found.invocation)])
    document = _document(found, timeline, cost, titles)
    values = {**_values(page_request, found, timeline, titles), "cost": cost}
    return render(page_request, "invocation.html", document, values)


def _read(page_request: PageRequest, job_id: JobId, text: str) -> InvocationLog:
    try:
        return get_invocation_log(page_request.context, job_id, parse_invocation_id(text))
    except NoSuchJobError as error:
        raise PageError(404, NO_SUCH_JOB) from error
    except NoSuchInvocationError as error:
        raise PageError(404, NO_SUCH_INVOCATION) from error


def _cost(found: InvocationLog, timeline: Sequence[Event]) -> _Cost:
    return [
        ("Commits", found.invocation.commits),
        ("Saves", found.invocation.mutations),
        ("Launch attempts", found.invocation.attempts),
        ("Status checks", count(timeline, EventKind.CHECK)),
        ("Notifications", count(timeline, EventKind.NOTIFICATION)),
        ("Bytes of log", len(found.log.encode())),
    ]


def _document(found: InvocationLog, timeline: Sequence[Event], cost: _Cost, titles: Titles) -> dict[str, Any]:
    invocation = found.invocation
    next_due = invocation.next_due if invocation.status is Status.RETRYING else None
    return {
        **invocation_json(invocation, found.log),
        "summary": invocation.summary or None,
        "next_attempt": format_rfc3339(next_due) if next_due is not None else None,
        "abort_requested_by": invocation.abort_requested_by or None,
        "abort_reason": invocation.abort_reason or None,
        "commit": commit_json(commit_of(invocation), titles),
        "timeline": [[event.kind, format_rfc3339(event.at)] for event in timeline],
        "cost": {name.lower().replace(" ", "_"): number for name, number in cost},
    }


def _values(
    page_request: PageRequest, found: InvocationLog, timeline: Sequence[Event], titles: Titles
) -> dict[str, Any]:
    context, now = page_request.context, page_request.now()
    return {
        "view": invocation_view(found.invocation, found.log, now),
        "marks": marks(timeline, now),
        "legend": legend(timeline),
        "why": why_of(found.invocation, now),
        "commit": commit_view(commit_of(found.invocation), titles),
        "cause": cause_view(cause_of(context, found.invocation)),
        "facts": facts_of(found.invocation),
        "paused": found.job.paused,
        "may_abort": context.may(Permission.ABORT, found.job),
        "may_trigger": context.may(Permission.TRIGGER, found.job),
    }
