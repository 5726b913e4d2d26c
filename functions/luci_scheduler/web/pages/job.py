"""The page of a job: its state, its history and, on the first page of its history, everything that is pending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.api.causes import commit_of
from luci_scheduler.api.commit_titles import Titles, titles_of
from luci_scheduler.api.errors import InvalidCursorError, NoSuchJobError
from luci_scheduler.api.overviews import JobDetails, JobOverview, get_job_overview, is_job_unchanged
from luci_scheduler.core.identifiers import JobId, split_job_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Flavor
from luci_scheduler.core.ref_validation import named_ref
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.web.addresses import address, job_address
from luci_scheduler.web.charts import duration_chart
from luci_scheduler.web.job_views import (
    PollerView,
    TriageView,
    job_json,
    job_view,
    policy_text,
    poller_view,
    triage_view,
)
from luci_scheduler.web.notices import NO_SUCH_JOB
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.pages.projects import number_text
from luci_scheduler.web.presentation import definition_text, safe_url, trigger_view
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse, unchanged
from luci_scheduler.web.result_views import invocation_result

__all__ = ["job"]

_RESULTS: Mapping[str, Status] = {
    "failed": Status.FAILED,
    "succeeded": Status.SUCCEEDED,
    "aborted": Status.ABORTED,
}
"""Name of a filter of the history → the status."""


def job(page_request: PageRequest, job_id: JobId) -> PageResponse:
    """Return the page of a job.

    In the query, ``c`` is the cursor of a later page of its history, ``result`` the name of a filter of the history.
    """
    query = page_request.query
    cursor, wanted = query.get("c", ""), query.get("result", "")
    wanted = wanted if wanted in _RESULTS else ""
    if _is_unchanged(page_request, job_id):
        return unchanged()
    overview = _read(page_request, job_id, cursor, _RESULTS.get(wanted))
    titles = titles_of(page_request.context, [commit_of(item) for item in _shown(overview)])
    now = page_request.now()
    document = {
        **job_json(page_request.context, overview.job, overview.page.invocations, titles),
        "failed": overview.failed,
        "next_cursor": overview.page.next_cursor or None,
    }
    values = {**_values(page_request, overview, titles, now), **_history_links(overview, wanted, cursor), "first": None}
    if overview.details:
        triage = triage_view(overview.job, overview.details.triage_log, overview.details.pending, now)
        poller = _poller(overview, now)
        document |= _details_document(overview.details, triage, poller)
        values["first"] = _details_values(overview, overview.details, triage, poller, now)
    return render(page_request, "job.html", document, values)


def _is_unchanged(page_request: PageRequest, job_id: JobId) -> bool:
    seen = page_request.query.get("seen", "")
    try:
        return bool(seen) and is_job_unchanged(page_request.context, job_id, seen)
    except NoSuchJobError:
        return False  # the whole page has the right error


def _read(page_request: PageRequest, job_id: JobId, cursor: str, status: Status | None) -> JobOverview:
    try:
        return get_job_overview(page_request.context, job_id, cursor, status)
    except NoSuchJobError as error:
        raise PageError(404, NO_SUCH_JOB) from error
    except InvalidCursorError as error:
        raise PageError(400, "Malformed cursor.") from error


def _shown(overview: JobOverview) -> Sequence[Invocation]:
    return (*overview.unlisted, *overview.page.invocations)


def _values(page_request: PageRequest, overview: JobOverview, titles: Titles, now: Instant) -> dict[str, Any]:
    """Return the template's values for the job and its invocations."""
    context, page, active = page_request.context, overview.page, overview.active
    past = [item for item in page.invocations if item.status.is_final]
    is_first = overview.version != ""
    return {
        "job": job_view(context, overview.job, now, len(active) if is_first else None),
        "revision_url": safe_url(overview.job.definition.revision_url),
        "backfill_address": _backfill_address(overview),
        "has_work": bool(active or overview.job.active_invocations or overview.job.triggers_wait),
        "active": [invocation_result(context, item, titles, now) for item in active],
        "past": [invocation_result(context, item, titles, now) for item in past],
        "chart": duration_chart(page.invocations, now),
        "failed": number_text(overview.failed),
        "version": overview.version,
    }


def _history_links(overview: JobOverview, wanted: str, cursor: str) -> dict[str, Any]:
    """Return the template's values for the filters and the pages of the history."""
    following, job_id = overview.page.next_cursor, overview.job.id
    return {
        "wanted": wanted,
        "results": [(name, job_address(job_id, result=name), "") for name in _RESULTS],
        "all_address": job_address(job_id),
        "older": job_address(job_id, c=following, result=wanted) if following else "",
        "newest": job_address(job_id, result=wanted) if cursor else "",
    }


def _poller(overview: JobOverview, now: Instant) -> PollerView | None:
    if overview.details is None or overview.details.polled is None:
        return None
    newest = overview.page.invocations[0] if overview.page.invocations else None
    return poller_view(overview.job, overview.details.polled.url, overview.details.poller, newest, now)


def _details_document(details: JobDetails, triage: TriageView, poller: PollerView | None) -> dict[str, Any]:
    """Return the members of the JSON twin that only the first page has."""
    document: dict[str, Any] = {
        "triggered_by_jobs": [item.id for item in details.sources],
        "triggers_jobs": list(details.targets),
        "pending_triggers": [item.public() for item in details.pending],
        "last_triage": {
            "at": triage.at or None,
            "stale": bool(triage.changes),
            "changes": list(triage.changes),
            "log": triage.log,
        },
    }
    if poller:
        document["poller"] = {
            "repo": poller.repo,
            "known": dict(details.poller.known) if details.poller else {},
            "next_poll": poller.next_poll,
            "last_failure": poller.reason or None,
        }
    return document


def _details_values(
    overview: JobOverview, details: JobDetails, triage: TriageView, poller: PollerView | None, now: Instant
) -> dict[str, Any]:
    """Return the template's values that only the first page has."""
    return {
        "definition": definition_text(overview.job.definition.task),
        "policy": policy_text(overview.job.definition.policy),
        "triggers": details.targets,
        "sources": [item.id for item in details.sources],
        "triage": triage,
        "pending": [trigger_view(item, now) for item in details.pending],
        "more_pending": details.has_more_pending,
        "poller": poller,
    }


def _backfill_address(overview: JobOverview) -> str:
    """Return the address of the backfill form, filled in with repository and ref; empty for a job without commits.

    A job runs for commits if a job that polls triggers it, or if one of its listed invocations has a commit.
    """
    job_id, flavor = overview.job.id, overview.job.definition.flavor
    latest = _latest_ref(_shown(overview)) or _polled_ref(overview.details)
    if flavor is Flavor.TRIGGER or not latest:
        return ""
    return address("backfill", *split_job_id(job_id), **latest)


def _latest_ref(invocations: Sequence[Invocation]) -> dict[str, str]:
    """Return repository and ref of the first commit among the triggers of these invocations."""
    commits = (commit_of(item) for item in invocations)
    return next(({"repo": commit.repo, "ref": commit.ref} for commit in commits if commit is not None), {})


def _polled_ref(details: JobDetails | None) -> dict[str, str]:
    """Return the repository, and the ref unless it is a pattern, that a triggering job polls."""
    tasks = [item.definition.task for item in details.sources] if details else []
    for repo in (kind_of(task).polled_repo(task) for task in tasks):
        if repo is not None:
            return {"repo": repo.url, "ref": next(filter(None, map(named_ref, repo.refs)), "")}
    return {}
