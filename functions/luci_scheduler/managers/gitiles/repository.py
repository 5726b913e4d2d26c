"""What a gitiles job polls, what is known of it, and what it looks like now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.path_filter import PathFilter, path_filter
from luci_scheduler.core.pattern_budget import POLL_REF_UNITS, PatternBudget, PatternCostError
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url
from luci_scheduler.managers.controller import Controller
from luci_scheduler.ports import Gitiles, GitilesError, Pollers, Version, Versioned

__all__ = ["Known", "Watched", "current_refs", "known_refs", "missing_refs", "watched"]

_RESOLVE_LIMIT = MINUTE
"""For all listings of a poll together (the original's)."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a gitiles task watches."""

    repo: str
    """As configured; it is part of trigger IDs."""
    url: RepoUrl
    entries: tuple[str, ...]
    """The refs, as configured."""
    refs: RefSet
    paths: PathFilter


@dataclass(frozen=True, slots=True)
class Known:
    """What the job knew when the poll began; a record of another repository counts for nothing."""

    record: PollerRecord
    version: Version | None


def watched(task: TaskDefinition) -> Watched:
    """Read a gitiles task.

    Raises:
        PermanentError: its repository is no Gitiles repository, or a pattern is not valid.
    """
    repo = str(task.fields.get("repo", ""))
    names = ("refs", "path_regexps", "path_regexps_exclude")
    entries, include, exclude = (tuple(task.fields.get(name, ())) for name in names)
    try:
        return Watched(repo, parse_repo_url(repo), entries, ref_set(entries), path_filter(include, exclude))
    except (BadRepoUrlError, BadRegexpError) as error:
        raise PermanentError(f"the repository {repo} cannot be polled: {error}") from error


def known_refs(controller: Controller, pollers: Pollers, what: Watched) -> Known:
    """Read what the job knows: one read.

    Raises:
        TransientError: the store failed.
    """
    job_id, repo = controller.invocation.job_id, str(what.url)
    # Not asked through ``call_once``: after a lost race the record may be another one.
    found: Versioned[PollerRecord] | None = pollers.poller(job_id)
    if found is None:
        return Known(PollerRecord(job_id, repo), None)
    record = found.value
    if record.repo != repo:
        record = PollerRecord(job_id, repo, commits=record.commits)
    return Known(record, found.version)


def current_refs(controller: Controller, gitiles: Gitiles, what: Watched) -> Mapping[str, str]:
    """List the watched refs as they are now, ref → hash; asked once per delivery, one call for each folder of refs.

    Raises:
        GitilesError: a listing failed.
        PermanentError: to compare the refs with the patterns costs too much.
    """
    begun, found = controller.clock.now(), {}
    budget = PatternBudget(POLL_REF_UNITS)
    for prefix in what.refs.prefixes:
        if controller.clock.now() - begun > _RESOLVE_LIMIT:
            raise GitilesError("DEADLINE_EXCEEDED", "the refs could not be listed within a minute", transient=True)
        listed: Mapping[str, str] = controller.call_once(f"refs {prefix}", partial(gitiles.refs, what.url, prefix))
        try:
            found.update({ref: revision for ref, revision in listed.items() if what.refs.covers(ref, budget)})
        except PatternCostError as error:
            raise _too_costly(what) from error
    return found


def missing_refs(what: Watched, current: Mapping[str, str]) -> tuple[str, ...]:
    """Return the entries that no ref fits.

    Raises:
        PermanentError: to compare the refs with the patterns costs too much.
    """
    try:
        return what.refs.missing(current, PatternBudget(POLL_REF_UNITS))
    except PatternCostError as error:
        raise _too_costly(what) from error


def _too_costly(what: Watched) -> PermanentError:
    return PermanentError(f"the patterns of 'refs' cost too much for the refs of {what.repo}: simplify them")
