"""The page of a project: a part of its jobs, failing jobs first, and the state of its config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.causes import result_commit
from luci_scheduler.api.commit_titles import Titles, titles_of
from luci_scheduler.api.errors import NoSuchJobError
from luci_scheduler.api.overviews import FILTERS, ProjectOverview, get_project_overview, is_project_unchanged
from luci_scheduler.api.service import get_job
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.job import Job
from luci_scheduler.web.addresses import address
from luci_scheduler.web.filters import known_cursor, known_filter, project_address
from luci_scheduler.web.job_views import JobView, job_view, row_json
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.pages.projects import count_views, number_text
from luci_scheduler.web.presentation import safe_url
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse, unchanged
from luci_scheduler.web.result_views import ResultView, result_view

__all__ = ["project"]

_Rows = Sequence[tuple[JobView, Sequence[ResultView]]]


@frozen
class _Part:
    """The wanted part of a project's jobs."""

    name: str
    wanted: str
    """The filter; empty: all jobs."""
    after: str
    """The cursor; empty: the first part."""


def project(page_request: PageRequest, name: str) -> PageResponse:
    """Return the page of a project; ``filter`` and ``after`` in the query select jobs."""
    query = page_request.query
    part = _Part(name, known_filter(query.get("filter", "")), known_cursor(query.get("after", "")))
    if (seen := query.get("seen", "")) and is_project_unchanged(
        page_request.context, name, part.wanted, part.after, seen
    ):
        return unchanged()
    overview = get_project_overview(page_request.context, name, part.wanted, part.after)
    if overview is None:
        raise PageError(404, "No such project or no permission to view any of its jobs.")
    titles = _titles(page_request, overview)
    rows = _rows(page_request, overview.page.jobs, titles)
    values = {**_values(part, overview, rows), "done_to": _known_name(page_request, name)}
    return render(page_request, "project.html", _document(name, overview, titles), values)


def _titles(page_request: PageRequest, overview: ProjectOverview) -> Titles:
    latest = [result_commit(job.recent[0]) for job in overview.page.jobs if job.recent]
    return titles_of(page_request.context, latest, overview.repos)


def _rows(page_request: PageRequest, jobs: Sequence[Job], titles: Titles) -> _Rows:
    context, now = page_request.context, page_request.now()
    return [(job_view(context, job, now), [result_view(job, item, titles, now) for item in job.recent]) for job in jobs]


def _known_name(page_request: PageRequest, project_name: str) -> str:
    """Return the name of the job of the previous action, so that the page repeats only this text of its address."""
    name = page_request.query.get("job", "")
    try:
        return name if name and get_job(page_request.context, JobId(f"{project_name}/{name}")) else ""
    except NoSuchJobError:
        return ""


def _document(name: str, overview: ProjectOverview, titles: Titles) -> dict[str, Any]:
    return {
        "project": name,
        "revision": overview.revision,
        "has_problems": overview.summary.has_problems,
        "problems": list(overview.problems),
        "warnings": list(overview.warnings),
        "warning_count": overview.warning_count,
        "complete": overview.summary.is_complete,
        "counts": {"jobs": overview.summary.jobs, **overview.summary.counts},
        "jobs": [row_json(job, titles) for job in overview.page.jobs],
        "next_cursor": overview.page.next_cursor or None,
    }


def _values(part: _Part, overview: ProjectOverview, rows: _Rows) -> dict[str, Any]:
    name, following = part.name, overview.page.next_cursor
    counts = {item.filter: item.words for item in count_views(overview.summary)}
    return {
        "name": name,
        "overview": overview,
        "revision_url": safe_url(overview.revision_url),
        "rows": rows,
        "failing": counts["failing"],
        "total": number_text(overview.summary.jobs),
        "wanted": part.wanted,
        "filters": [(label, address("jobs", name, filter=label), counts.get(label, "")) for label in FILTERS],
        "all_address": address("jobs", name),
        "first": project_address(name, part.wanted, "") if part.after else "",
        "next": project_address(name, part.wanted, following) if following else "",
        "may_act": any(view.may_act_in_row for view, _ in rows),
        "back": {"page": "project", "filter": part.wanted, "after": part.after},
        "version": overview.page.version,
    }
