"""The form of a backfill, with a preview of its triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.api.access import Permission
from luci_scheduler.api.backfill import Backfill, BackfillPlan, backfill_commits
from luci_scheduler.api.errors import ApiError, HostUnavailableError, NoSuchJobError
from luci_scheduler.api.service import get_job
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.job import Job
from luci_scheduler.web.addresses import invocation_address
from luci_scheduler.web.job_views import job_view
from luci_scheduler.web.notices import FORBIDDEN, NO_SUCH_JOB
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import safe_url, shown
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse

__all__ = ["FIELDS", "backfill", "wanted_backfill"]

FIELDS = ("repo", "ref", "from", "to")
"""The fields of the form."""


@frozen
class _Row:
    """A commit of the range."""

    revision: str
    short: str
    subject: str
    author: str
    when: str
    at: str
    invocation: str
    """The invocation that has taken the commit; empty if there is none."""
    invocation_address: str
    is_filtered: bool
    """Whether the job's path filter excludes the commit."""


def backfill(page_request: PageRequest, job_id: JobId) -> PageResponse:
    """Return the form of a backfill and, if the range is filled in, a preview."""
    record = _read_job(page_request, job_id)
    fields = dict(zip(FIELDS, page_request.stripped(*FIELDS), strict=True))
    plan, problem, status = _preview(page_request, job_id, fields)
    rows = [_row(job_id, plan, place) for place in range(len(plan.commits))] if plan else []
    document: dict[str, Any] = {"job_id": job_id, **fields}
    document |= {"error": problem} if problem else _document(rows)
    exact = {**fields, "from": plan.from_revision, "to": plan.to_revision} if plan else fields
    hosts = page_request.context.runtime.hosts
    values = {
        "job": job_view(page_request.context, record, page_request.now()),
        "fields": fields,
        "exact": exact,
        "ran": sum(bool(row.invocation) for row in rows),
        "filtered": sum(row.is_filtered for row in rows),
        "problem": problem,
        "plan": plan,
        "note": plan.notes.get(job_id, "") if plan else "",
        "rows": rows,
        "range_url": safe_url(hosts.range_link(fields["repo"], exact["from"], exact["to"])),
    }
    return render(page_request, "backfill.html", document, values, status)


def _row(job_id: JobId, plan: BackfillPlan, place: int) -> _Row:
    item = plan.commits[place]
    invocation = plan.ran.get(job_id, {}).get(item.id)
    return _Row(
        revision=item.id,
        short=item.id[:8],
        subject=item.subject,
        author=item.author,
        when=shown(item.committed),
        at=format_rfc3339(item.committed),
        invocation=str(invocation or ""),
        invocation_address=invocation_address(job_id, invocation) if invocation else "",
        is_filtered=item.id in plan.filtered.get(job_id, ()),
    )


def _document(rows: Sequence[_Row]) -> dict[str, Any]:
    return {
        "commits": [row.revision for row in rows],
        "details": [
            {
                "revision": row.revision,
                "subject": row.subject,
                "author": row.author,
                "committed": row.at,
                "invocation_id": row.invocation or None,
                "path_filtered": row.is_filtered,
            }
            for row in rows
        ],
    }


def wanted_backfill(job_id: JobId, fields: Mapping[str, str]) -> Backfill:
    """Return the backfill that the form's fields describe."""
    return Backfill((job_id,), fields["repo"], fields["ref"], fields["from"], fields["to"])


def _read_job(page_request: PageRequest, job_id: JobId) -> Job:
    try:
        record = get_job(page_request.context, job_id)
    except NoSuchJobError as error:
        raise PageError(404, NO_SUCH_JOB) from error
    if not page_request.context.may(Permission.TRIGGER, record):
        raise PageError(403, FORBIDDEN)
    return record


def _preview(
    page_request: PageRequest, job_id: JobId, fields: Mapping[str, str]
) -> tuple[BackfillPlan | None, str, int]:
    """Return the plan of the backfill, or why there is none; neither without a range. Also return the page's status."""
    if not fields["from"] and not fields["to"]:
        return None, "", 200
    try:
        return backfill_commits(page_request.context, wanted_backfill(job_id, fields), preview=True), "", 200
    except ApiError as error:
        return None, error.message, 400
    except HostUnavailableError as error:
        return None, str(error), 503
