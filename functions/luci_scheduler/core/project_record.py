"""A project's config in the store."""

from __future__ import annotations

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId

__all__ = ["JOB_LAYOUT", "LAYOUT", "ProjectRecord"]

LAYOUT = 1
"""How a project's watchers are stored: 0 in one document for all projects of a repository, 1 in one document per
project."""
JOB_LAYOUT = 1
"""How a project's jobs are stored: 0 without, 1 with the fields that lists query, and with their latest results."""


@frozen
class ProjectRecord:
    """The state of a project's config."""

    id: str
    revision: str = ""
    """Revision of the active config."""
    revision_url: str = ""
    job_ids: tuple[JobId, ...] = ()
    """Jobs that the active config defines and enables, sorted."""
    repos: tuple[str, ...] = ()
    """Repositories (normalized URLs) that its gitiles triggers watch, sorted."""
    problems: tuple[str, ...] = ()
    """The problems of a newer config that was refused: the first ones, then the number of the others. Empty if the
    newest config is active."""
    warnings: tuple[str, ...] = ()
    """Warnings about the active config: the first ones, then the number of others."""
    warning_count: int = 0
    """The number of all warnings."""
    commits: int = 0
    """The number of commits to this record. A sync that was overtaken by another sync notices it by this number."""
    layout: int = 0
    """The `LAYOUT` of the functions that activated the config. The next sync moves watchers from an older layout."""
    job_layout: int = 0
    """The `JOB_LAYOUT` of all jobs of the project. The next sync moves jobs from an older layout."""
