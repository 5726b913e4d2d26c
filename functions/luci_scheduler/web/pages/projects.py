"""The page of all projects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.service import get_jobs, state_of
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.job import Job
from luci_scheduler.web.addresses import address
from luci_scheduler.web.filters import FILTERS, filters_of
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageResponse

__all__ = ["projects"]

_ALL = "all"
_Counts = Mapping[str, Counter[str]]
"""Project → filter → number of jobs; `_ALL` counts every job."""


@dataclass(frozen=True, slots=True)
class _CountView:
    """The jobs of a project in one state."""

    filter: str
    number: int
    words: str
    address: str


@dataclass(frozen=True, slots=True)
class _ProjectView:
    """A project and its jobs by state."""

    name: str
    address: str
    counts: tuple[_CountView, ...]


def projects(page_request: PageRequest) -> PageResponse:
    """Return the page of all projects in which the caller sees a job."""
    counts = _counts(get_jobs(page_request.context))
    views = [_project_view(name, counts[name]) for name in sorted(counts)]
    return render(page_request, "projects.html", _document(counts), {"projects": views})


def _counts(jobs: Iterable[Job]) -> _Counts:
    counts: dict[str, Counter[str]] = {}
    for job in jobs:
        counts.setdefault(project_of(job.id), Counter()).update([*filters_of(state_of(job)), _ALL])
    return counts


def _document(counts: _Counts) -> dict[str, Any]:
    return {"projects": [{"project": name, **dict(counts[name])} for name in sorted(counts)]}


def _project_view(name: str, counts: Counter[str]) -> _ProjectView:
    cells = [
        _CountView(label, counts[label], _jobs_in_words(counts[label]), address("jobs", name, filter=label))
        for label in FILTERS
    ]
    return _ProjectView(name, address("jobs", name), tuple(cells))


def _jobs_in_words(number: int) -> str:
    return {0: "NONE", 1: "1 JOB"}.get(number, f"{number} JOBS")
