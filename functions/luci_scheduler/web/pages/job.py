"""The page of a job: its state, its history and, on the first page of its history, everything that is pending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.errors import InvalidCursorError, NoSuchJobError
from luci_scheduler.api.overviews import JobDetails, JobOverview, get_job_overview
from luci_scheduler.core.identifiers import JobId, split_job_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Flavor, Job
from luci_scheduler.web.addresses import address, job_address
from luci_scheduler.web.charts import duration_chart
from luci_scheduler.web.job_views import PollerView, TriageView, job_view, policy_text, poller_view, triage_view
from luci_scheduler.web.notices import NO_SUCH_JOB
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import definition_text, invocation_view, job_json, safe_url, trigger_view
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse

__all__ = ["job"]


def job(page_request: PageRequest, job_id: JobId) -> PageResponse:
    """Return the page of a job; ``c`` in the query is the cursor of a later page of its history."""
    cursor, now = page_request.query.get("c", ""), page_request.now()
    overview = _read(page_request, job_id, cursor)
    document = {**job_json(overview.job, overview.page.invocations), "next_cursor": overview.page.next_cursor or None}
    values = {
        "job": job_view(page_request.context, overview.job, now),
        "revision_url": safe_url(overview.job.definition.revision_url),
        "backfill_address": _backfill_address(overview.job, overview.page.invocations),
        **_history(overview, now),
        "newest": job_address(job_id) if cursor else "",
        "first": None,
    }
    if overview.details:
        triage = triage_view(overview.job, overview.details.triage_log, overview.details.pending, now)
        poller = _poller(overview, now)
        document |= _details_document(overview.details, triage, poller)
        values["first"] = _details_values(overview, overview.details, triage, poller, now)
    return render(page_request, "job.html", document, values)


def _read(page_request: PageRequest, job_id: JobId, cursor: str) -> JobOverview:
    try:
        return get_job_overview(page_request.context, job_id, cursor)
    except NoSuchJobError as error:
        raise PageError(404, NO_SUCH_JOB) from error
    except InvalidCursorError as error:
        raise PageError(400, "Malformed cursor.") from error


def _history(overview: JobOverview, now: Instant) -> dict[str, Any]:
    """Return the template's values for active and past invocations."""
    page = overview.page
    active = [*overview.unlisted, *(item for item in page.invocations if not item.status.is_final)]
    past = [item for item in page.invocations if item.status.is_final]
    return {
        "active": [invocation_view(item, "", now) for item in sorted(active, key=lambda item: item.id)],
        "past": [invocation_view(item, "", now) for item in past],
        "chart": duration_chart(page.invocations, now),
        "older": job_address(overview.job.id, c=page.next_cursor) if page.next_cursor else "",
    }


def _poller(overview: JobOverview, now: Instant) -> PollerView | None:
    if overview.details is None or overview.details.polled is None:
        return None
    newest = overview.page.invocations[0] if overview.page.invocations else None
    return poller_view(overview.job, overview.details.polled.url, overview.details.poller, newest, now)


def _details_document(details: JobDetails, triage: TriageView, poller: PollerView | None) -> dict[str, Any]:
    """Return the members of the JSON twin that only the first page has."""
    document: dict[str, Any] = {
        "pending_triggers": [item.public() for item in details.pending],
        "last_triage": {
            "at": triage.at or None,
            "stale": bool(triage.changes),
            "changes": list(triage.changes),
            "log": triage.log,
        },
    }
    if poller:
        document["poller"] = {"repo": poller.repo, "known": dict(details.poller.known) if details.poller else {}}
    return document


def _details_values(
    overview: JobOverview, details: JobDetails, triage: TriageView, poller: PollerView | None, now: Instant
) -> dict[str, Any]:
    """Return the template's values that only the first page has."""
    return {
        "definition": definition_text(overview.job.definition.task),
        "policy": policy_text(overview.job.definition.policy),
        "triggers": details.targets,
        "triage": triage,
        "pending": [trigger_view(item, now) for item in details.pending],
        "more_pending": details.has_more_pending,
        "poller": poller,
    }


def _backfill_address(record: Job, invocations: Sequence[Invocation]) -> str:
    """Return the address of the backfill form, filled in with the latest commit's ref; empty for a job that polls."""
    if record.definition.flavor is Flavor.TRIGGER:
        return ""
    return address("backfill", *split_job_id(record.id), **_latest_ref(invocations))


def _latest_ref(invocations: Sequence[Invocation]) -> dict[str, str]:
    """Return repository and ref of the first commit among the triggers of these invocations."""
    for item in invocations:
        for trigger in item.incoming_triggers:
            if trigger.is_commit:
                return {"repo": str(trigger.payload.get("repo", "")), "ref": str(trigger.payload.get("ref", ""))}
    return {}
