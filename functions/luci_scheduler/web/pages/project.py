"""The page of a project: its jobs, all or those in one state, and the state of its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.overviews import ProjectOverview, get_project_overview, latest_invocations
from luci_scheduler.api.service import state_of
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.job import Job
from luci_scheduler.web.addresses import address
from luci_scheduler.web.filters import FILTERS, known_filter, list_start, project_address
from luci_scheduler.web.job_views import JobView, ResultView, job_order, job_view, result_view, row_json
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import safe_url
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse

__all__ = ["project"]

_JOBS_ON_PAGE = 50
_TREND = 8  # results of each job

_Rows = Sequence[tuple[JobView, Sequence[ResultView]]]


@dataclass(frozen=True, slots=True)
class _Selection:
    """The part of a project's jobs that a page shows."""

    jobs: Sequence[Job]
    """The jobs on the page."""
    wanted: str
    """The filter; empty: all jobs."""
    start: int
    """The position of the first job on the page."""
    total: int
    """The number of jobs that pass the filter."""

    @property
    def previous(self) -> int | None:
        """The start of the previous page; None on the first page."""
        return max(0, self.start - _JOBS_ON_PAGE) if self.start else None

    @property
    def next(self) -> int | None:
        """The start of the next page; None on the last page."""
        following = self.start + _JOBS_ON_PAGE
        return following if following < self.total else None


def project(page_request: PageRequest, name: str) -> PageResponse:
    """Return the page of a project; ``filter`` and ``from`` in the query select jobs."""
    overview = get_project_overview(page_request.context, name)
    if overview is None:
        raise PageError(404, "No such project or no permission to view any of its jobs.")
    query = page_request.query
    selection = _select(overview.jobs, query.get("filter", ""), query.get("from", ""))
    rows = _rows(page_request, selection.jobs)
    values = {
        **_values(name, overview, selection, rows),
        "done_to": _known_name(overview.jobs, query.get("job", "")),
    }
    return render(page_request, "project.html", _document(name, overview, rows), values)


def _select(jobs: Sequence[Job], filter_text: str, start_text: str) -> _Selection:
    wanted, start = known_filter(filter_text), list_start(start_text)
    chosen = [job for job in sorted(jobs, key=job_order) if not wanted or state_of(job) in FILTERS[wanted]]
    return _Selection(chosen[start : start + _JOBS_ON_PAGE], wanted, start, len(chosen))


def _rows(page_request: PageRequest, jobs: Sequence[Job]) -> _Rows:
    context, now = page_request.context, page_request.now()
    trends = latest_invocations(context, jobs, _TREND)
    return [
        (job_view(context, job, now), [result_view(item, now) for item in trend])
        for job, trend in zip(jobs, trends, strict=True)
    ]


def _known_name(jobs: Sequence[Job], name: str) -> str:
    """Return the name of a job if the project has it, so that the page repeats only this text of its address."""
    return next((name for job in jobs if split_job_id(job.id)[1] == name), "")


def _document(name: str, overview: ProjectOverview, rows: _Rows) -> dict[str, Any]:
    return {
        "project": name,
        "revision": overview.revision,
        "has_problems": overview.has_problems,
        "problems": list(overview.problems),
        "warnings": list(overview.warnings),
        "warning_count": overview.warning_count,
        "jobs": [row_json(view, results) for view, results in rows],
    }


def _values(name: str, overview: ProjectOverview, selection: _Selection, rows: _Rows) -> dict[str, Any]:
    return {
        "name": name,
        "overview": overview,
        "revision_url": safe_url(overview.revision_url),
        "rows": rows,
        "total": selection.total,
        "wanted": selection.wanted,
        "filters": [(label, address("jobs", name, filter=label)) for label in FILTERS],
        "all_address": address("jobs", name),
        "previous": _part_address(name, selection.wanted, selection.previous),
        "next": _part_address(name, selection.wanted, selection.next),
        "may_act": any(view.may_act_in_row for view, _ in rows),
        "back": {"page": "project", "filter": selection.wanted, "from": selection.start},
    }


def _part_address(name: str, wanted: str, start: int | None) -> str:
    return "" if start is None else project_address(name, wanted, start)
