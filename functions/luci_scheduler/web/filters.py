"""Filters of a project's jobs by state, and the addresses of filtered lists."""

from __future__ import annotations

from collections.abc import Mapping

from luci_scheduler.core.public_state import JobState
from luci_scheduler.web.addresses import address

__all__ = ["FILTERS", "filters_of", "known_filter", "list_start", "project_address"]

FILTERS: Mapping[str, tuple[JobState, ...]] = {
    "running": (JobState.RUNNING,),
    "scheduled": (JobState.SCHEDULED,),
    "waiting": (JobState.WAITING, JobState.DISABLED),
    "paused": (JobState.PAUSED,),
}
"""Name of a filter → the states of the jobs that pass it."""

_MAX_DIGITS = 6  # of a position in a list: no project has a million jobs


def filters_of(state: JobState) -> list[str]:
    """Return the filters that a job in this state passes."""
    return [name for name, states in FILTERS.items() if state in states]


def known_filter(text: str) -> str:
    """Return the filter with this name, or an empty text if there is none."""
    return text if text in FILTERS else ""


def list_start(text: str) -> int:
    """Return the position in a list that a query value names; 0 if it is not a position."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0


def project_address(name: str, wanted: str, start: int | str, **more: str) -> str:
    """Return the address of a part of a project's page; an unknown filter or start is omitted."""
    position = list_start(str(start))
    query = {"filter": known_filter(wanted), "from": str(position) if position else ""}
    return address("jobs", name, **query, **more)
