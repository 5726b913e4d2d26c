"""The repository that a gitiles job polls: its configuration, its known refs and its current refs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.path_filter import PathFilter, path_filter
from luci_scheduler.core.pattern_budget import POLL_REF_UNITS, PatternBudget, PatternCostError
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl
from luci_scheduler.managers.controller import Controller
from luci_scheduler.ports import Gitiles, GitilesError, Pollers, Version, Versioned

__all__ = ["Known", "WatchedRepo", "current_refs", "known_refs", "missing_refs", "read_watched"]

_RESOLVE_LIMIT = MINUTE
"""The time limit for all ref listings of a poll together (the original's)."""


@frozen
class WatchedRepo:
    """The repository, refs and paths of a gitiles task."""

    repo: str
    """The URL as configured, which is part of trigger IDs."""
    url: RepoUrl
    entries: tuple[str, ...]
    """The refs, as configured."""
    refs: RefSet
    paths: PathFilter


@frozen
class Known:
    """The job's record at the start of the poll. A record of another repository counts as empty."""

    record: PollerRecord
    version: Version | None


def read_watched(task: TaskDefinition, hosts: CommitHosts) -> WatchedRepo:
    """Read a gitiles task.

    Raises:
        PermanentError: the URL is not a repository of a commit host, or a pattern is invalid.
    """
    repo = str(task.fields.get("repo", ""))
    names = ("refs", "path_regexps", "path_regexps_exclude")
    entries, include, exclude = (tuple(task.fields.get(name, ())) for name in names)
    try:
        return WatchedRepo(repo, hosts.parse(repo), entries, ref_set(entries), path_filter(include, exclude))
    except (BadRepoUrlError, BadRegexpError) as error:
        raise PermanentError(f"the repository {repo} cannot be polled: {error}") from error


def known_refs(controller: Controller, pollers: Pollers, watched: WatchedRepo) -> Known:
    """Read the job's record: one read.

    Raises:
        TransientError: the store failed.
    """
    job_id, repo = controller.invocation.job_id, str(watched.url)
    # Not through ``call_once``: after a lost race the record may have changed.
    found: Versioned[PollerRecord] | None = pollers.poller(job_id)
    if found is None:
        return Known(PollerRecord(job_id, repo), None)
    record = found.value
    if record.repo != repo:
        record = PollerRecord(job_id, repo, commits=record.commits)
    return Known(record, found.version)


def current_refs(controller: Controller, gitiles: Gitiles, watched: WatchedRepo) -> Mapping[str, str]:
    """Return the current hash of each watched ref: one request for each folder of refs, once per delivery.

    Raises:
        GitilesError: a listing failed.
        PermanentError: comparing the refs with the patterns costs too much.
    """
    begun, found = controller.clock.now(), {}
    budget = PatternBudget(POLL_REF_UNITS)
    for prefix in watched.refs.prefixes:
        if controller.clock.now() - begun > _RESOLVE_LIMIT:
            raise GitilesError("DEADLINE_EXCEEDED", "the refs could not be listed within a minute", transient=True)
        listed: Mapping[str, str] = controller.call_once(f"refs {prefix}", partial(gitiles.refs, watched.url, prefix))
        try:
            found.update({ref: revision for ref, revision in listed.items() if watched.refs.covers(ref, budget)})
        except PatternCostError as error:
            raise _too_costly(watched) from error
    return found


def missing_refs(watched: WatchedRepo, current: Mapping[str, str]) -> tuple[str, ...]:
    """Return the configured entries that match no ref.

    Raises:
        PermanentError: comparing the refs with the patterns costs too much.
    """
    try:
        return watched.refs.missing(current, PatternBudget(POLL_REF_UNITS))
    except PatternCostError as error:
        raise _too_costly(watched) from error


def _too_costly(watched: WatchedRepo) -> PermanentError:
    return PermanentError(f"the patterns of 'refs' cost too much for the refs of {watched.repo}: simplify them")
