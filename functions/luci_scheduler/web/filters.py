"""Addresses of filtered lists of jobs."""

from __future__ import annotations

from luci_scheduler.api.overviews import FILTERS
from luci_scheduler.web.addresses import address

__all__ = ["known_cursor", "known_filter", "project_address"]

_MAX_CURSOR = 300  # characters: a group and the name of a job


def known_filter(text: str) -> str:
    """Return the filter with this name, or an empty text if there is none."""
    return text if text in FILTERS else ""


def known_cursor(text: str) -> str:
    """Return the cursor of a list of jobs, or an empty text if no job can have this place."""
    return text if len(text) <= _MAX_CURSOR and text.isprintable() else ""


def project_address(name: str, wanted: str, after: str, **more: str) -> str:
    """Return the address of a part of a project's page, which starts after a cursor; an unknown filter is omitted."""
    return address("jobs", name, filter=known_filter(wanted), after=known_cursor(after), **more)
