"""The page of all projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.overviews import MAX_COUNT, ProjectSummary, get_project_summaries
from luci_scheduler.core.frozen import frozen
from luci_scheduler.web.addresses import address
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageResponse

__all__ = ["CountView", "count_views", "number_text", "projects"]


@frozen
class CountView:
    """The jobs of a project that pass a filter."""

    filter: str
    number: int
    words: str
    """The number, with a plus sign if there may be more."""
    address: str


@frozen
class _ProjectView:
    """A project with the numbers of its jobs."""

    name: str
    address: str
    jobs: str
    counts: Sequence[CountView]
    has_problems: bool
    is_complete: bool


def projects(page_request: PageRequest) -> PageResponse:
    """Return the page of all projects in which the caller sees a job: those with failures or problems come first."""
    found = sorted(get_project_summaries(page_request.context), key=_order)
    views = [
        _ProjectView(
            name=item.project,
            address=address("jobs", item.project),
            jobs=number_text(item.jobs),
            counts=count_views(item),
            has_problems=item.has_problems,
            is_complete=item.is_complete,
        )
        for item in found
    ]
    values = {"projects": views, "version": "", "news": _news(found)}
    return render(page_request, "projects.html", _document(found), values)


def _news(found: Sequence[ProjectSummary]) -> str:
    """Return the bad news of the tab's title: the number of failing jobs, and of projects with a refused config."""
    failing = sum(item.counts["failing"] for item in found)
    is_more = any(item.counts["failing"] == MAX_COUNT for item in found)
    problems = sum(item.has_problems for item in found)
    jobs = f"{failing:,}{'+' if is_more else ''} failing" if failing else ""
    return ", ".join(
        filter(None, (jobs, f"{problems} config problem{'' if problems == 1 else 's'}" if problems else ""))
    )


def _is_bad(item: ProjectSummary) -> bool:
    return item.has_problems or item.counts["failing"] > 0


def _order(item: ProjectSummary) -> tuple[bool, str]:
    return not _is_bad(item), item.project


def count_views(summary: ProjectSummary) -> list[CountView]:
    """Return the counts of a project as pages show them, each with the address of the counted jobs."""
    return [
        CountView(name, number, number_text(number), address("jobs", summary.project, filter=name))
        for name, number in summary.counts.items()
    ]


def number_text(number: int) -> str:
    """Return a number of jobs: ``1,000+`` stands for the largest count, or more."""
    return f"{MAX_COUNT:,}+" if number == MAX_COUNT else f"{number:,}"


def _document(found: Sequence[ProjectSummary]) -> dict[str, Any]:
    return {
        "projects": [
            {
                "project": item.project,
                "jobs": item.jobs,
                **item.counts,
                "has_problems": item.has_problems,
                "complete": item.is_complete,
            }
            for item in found
        ]
    }
