"""The page of a project's grid: its latest commits by its jobs, loaded on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.grid import MAX_READS, Choice, Grid, GridQuery, grid_choices, grid_of
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant
from luci_scheduler.web.addresses import address, job_address
from luci_scheduler.web.grid_views import STATES, commit_row_json, css_of, row_view, words_of
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import safe_url
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageError, PageResponse

__all__ = ["grid"]


def grid(page_request: PageRequest, project: str) -> PageResponse:
    """Return the grid of a ref; without a repository, the choice of one."""
    query = GridQuery(project, *page_request.stripped("repo", "ref", "jobs", "start"))
    choices: list[Choice] = []
    found, problem = Grid(), ""
    try:
        if query.repo:
            found = grid_of(page_request.context, query)
        else:
            choices = grid_choices(page_request.context, project)
    except ApiError as error:
        if error.code is Code.NOT_FOUND and not query.repo:
            raise PageError(404, error.message) from error
        problem = error.message
    values = _values(query, found, choices, problem, page_request.now())
    values["ref_url"] = safe_url(page_request.context.runtime.hosts.ref_link(query.repo, query.ref))
    return render(page_request, "grid.html", _document(query, found, choices, problem), values, 400 if problem else 200)


def _values(query: GridQuery, found: Grid, choices: Sequence[Choice], problem: str, now: Instant) -> dict[str, Any]:
    states = {cell.state for cell in found.cells.values()}
    return {
        "project": query.project,
        "query": query,
        "problem": problem,
        "host_problem": found.problem,
        "choices": [(one, address("grid", query.project, repo=one.repo, ref=one.ref)) for one in choices],
        "reads": MAX_READS,
        "columns": [(split_job_id(job.id)[1], job_address(job.id)) for job in found.jobs],
        "rows": [row_view(query, found, place, now) for place in range(len(found.commits))],
        "unread": sum(cell.state == "UNREAD" for cell in found.cells.values()),
        "legend": [(*words_of(state), css_of(state)) for state in STATES if state in states],
        **_parts(query, found),
    }


def _parts(query: GridQuery, found: Grid) -> dict[str, str]:
    """Return the addresses of other parts of the grid; empty where there is none."""
    jobs, start = query.jobs_from, query.commits_from
    return {
        "more_jobs": _part(query, jobs=found.next_jobs, start=start) if found.next_jobs else "",
        "first_jobs": _part(query, start=start) if jobs else "",
        "older": _part(query, jobs=jobs, start=found.next_commits) if found.next_commits else "",
        "latest": _part(query, jobs=jobs) if start else "",
    }


def _part(query: GridQuery, **part: str) -> str:
    return address("grid", query.project, repo=query.repo, ref=query.ref, **part)


def _document(query: GridQuery, found: Grid, choices: Sequence[Choice], problem: str) -> dict[str, Any]:
    document: dict[str, Any] = {"project": query.project, "repo": query.repo, "ref": query.ref}
    if problem:
        return {**document, "error": problem}
    if not query.repo:
        return {**document, "choices": [{"repo": one.repo, "ref": one.ref} for one in choices]}
    return {
        **document,
        "host_problem": found.problem or None,
        "jobs": [job.id for job in found.jobs],
        "commits": [commit_row_json(found, place) for place in range(len(found.commits))],
        "next_jobs": found.next_jobs or None,
        "next_commits": found.next_commits or None,
    }
