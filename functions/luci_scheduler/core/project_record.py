"""A project's config as the store keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from luci_scheduler.core.identifiers import JobId

__all__ = ["LAYOUT", "ProjectRecord"]

LAYOUT = 1
"""How a project's watchers are stored: 0 in one document for all projects of a repository, 1 in a document for each project."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """What is known of a project's config."""

    id: str
    revision: str = ""
    """Revision of the config that is in force."""
    revision_url: str = ""
    job_ids: tuple[JobId, ...] = ()
    """Jobs that the config in force defines and enables, sorted."""
    repos: tuple[str, ...] = ()
    """Repositories (normalised URLs) that its gitiles triggers watch, sorted."""
    problems: tuple[str, ...] = ()
    """What is wrong with a newer config that was not put in force; empty if the newest is. The first ones, then how many more."""
    warnings: tuple[str, ...] = ()
    """What should be changed in the config that is in force; the first ones, then how many more."""
    warning_count: int = 0
    """How many warnings there are in all."""
    commits: int = 0
    """Raised by every commit that touches the record: by this a sync notices that another sync was quicker."""
    layout: int = 0
    """The `LAYOUT` of the functions that put the config in force; the next sync moves watchers that are stored in an older one."""
