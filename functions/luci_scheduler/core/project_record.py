"""A project's config in the store."""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.identifiers import JobId

__all__ = ["LAYOUT", "ProjectRecord"]

LAYOUT = 1
"""How a project's watchers are stored: 0 in one document for all projects of a repository, 1 in one document per
project."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """The state of a project's config."""

    id: str
    revision: str = ""
    """Revision of the config in force."""
    revision_url: str = ""
    job_ids: tuple[JobId, ...] = ()
    """Jobs that the config in force defines and enables, sorted."""
    repos: tuple[str, ...] = ()
    """Repositories (normalized URLs) that its gitiles triggers watch, sorted."""
    problems: tuple[str, ...] = ()
    """The faults of a newer config that was refused: the first ones, then the number of others. Empty if the newest
    config is in force."""
    warnings: tuple[str, ...] = ()
    """Warnings about the config in force: the first ones, then the number of others."""
    warning_count: int = 0
    """The number of all warnings."""
    commits: int = 0
    """The number of commits to this record. A sync that was overtaken by another sync notices it by this number."""
    layout: int = 0
    """The `LAYOUT` of the functions that put the config in force. The next sync moves watchers from an older layout."""
