"""Subjects and authors of commits, for lists: cached, bounded, and left out when the repository's host is slow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from luci_scheduler.api.causes import CommitRef
from luci_scheduler.api.context import Context
from luci_scheduler.budget import limited, time_left
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl
from luci_scheduler.ports import GitCommit, Gitiles, GitilesError

__all__ = ["MAX_CALLS", "Titles", "commit_titles", "remember_titles", "titles_of"]

MAX_CALLS = 8
"""The largest number of calls to repository hosts for one page."""

_SECONDS = 1.5  # for all calls of a page together
_PAGE = 50  # commits of one call: lists usually show neighbors in the history
_CACHED = 5000  # commits of one process, with less than a kilobyte each
_REPOS = 500  # repositories whose watching projects a process remembers
_LASTS = 10 * MINUTE  # how long it remembers them
_PATIENCE = 30 * SECOND  # until a failed question is asked again

Titles = Mapping[tuple[str, str], GitCommit]
"""Repository as a list spells it, and hash → the commit. Commits that are not known are missing."""

_Key = tuple[str, str]  # repository (normalized URL) and hash


class _Memory:
    """The commits that one client of Gitiles has seen, and its latest failures. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[_Key, GitCommit] = OrderedDict()
        self._failed: OrderedDict[_Key, Instant] = OrderedDict()
        self._projects: OrderedDict[str, tuple[Instant, frozenset[str]]] = OrderedDict()

    def known(self, key: _Key) -> GitCommit | None:
        """Return a commit; None if it must be asked for."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def keep(self, repo: str, commits: Iterable[GitCommit]) -> None:
        """Remember commits; the least recently used ones make room."""
        with self._lock:
            for commit in commits:
                self._known[(repo, commit.id)] = commit
            _cut(self._known, _CACHED)

    def fail(self, key: _Key, now: Instant) -> None:
        """Remember a failure; an empty hash stands for the whole repository."""
        with self._lock:
            self._failed[key] = now
            _cut(self._failed, _CACHED)

    def may_ask(self, key: _Key, now: Instant) -> bool:
        """Whether neither the commit nor its repository has failed in the last 30 seconds."""
        with self._lock:
            return all(now - self._failed.get(one, -_PATIENCE) >= _PATIENCE for one in (key, (key[0], "")))

    def projects(self, context: Context, repo: str, *, may_read: bool) -> frozenset[str] | None:
        """Return the projects that watch a repository; None if that must be read and may not."""
        now = context.runtime.clock.now()
        with self._lock:
            since, found = self._projects.get(repo, (None, frozenset()))
        if since is not None and now - since < _LASTS:
            return found
        if not may_read:
            return None
        found = frozenset(project_of(item.job_id) for item in context.runtime.store.watchers(repo))
        with self._lock:
            self._projects[repo] = (now, found)
            _cut(self._projects, _REPOS)
        return found


_memories: WeakKeyDictionary[Gitiles, _Memory] = WeakKeyDictionary()
_memories_lock = Lock()


def commit_titles(context: Context, wanted: Sequence[tuple[str, str]], watched: Collection[str] = ()) -> Titles:
    """Return the commits of a list that are known, or that the repositories' hosts return quickly.

    A commit never changes, so a process asks for it once. One call also covers its ancestors. All calls of a page
    together are at most `MAX_CALLS` and take at most 1.5 seconds; failed questions are not repeated for 30 seconds.
    Costs one read for each project that watches a repository, for up to eight repositories whose projects the process
    has not read in the last ten minutes.

    Args:
        context: the caller's context. The answer has only commits of repositories that a project watches in which the
            caller sees jobs: the scheduler reads repositories under its own account, and the cache has commits that
            other callers have seen.
        wanted: pairs of repository, in any spelling, and hash; the newest first, because one call covers older ones.
        watched: repositories (normalized URLs) that a project watches in which the caller sees jobs: no read is needed.

    Returns:
        The found commits by the pairs in ``wanted``. Missing pairs are shown by their hash alone.
    """
    memory, keys = _memory(context.runtime.gitiles), _keys(wanted, context.runtime.hosts)
    repos: Collection[str] = ()
    try:
        repos = _visible(context, memory, dict.fromkeys(repo for repo, _ in keys.values()), watched)
        if missing := _askable(context, memory, dict.fromkeys(keys.values()), repos):
            with limited(time_left(_SECONDS)):
                _ask(context, memory, missing)
    except SchedulerError:
        pass  # the store or the budget: a list without titles is better than no list
    found = {pair: memory.known(key) for pair, key in keys.items() if key[0] in repos}
    return {pair: commit for pair, commit in found.items() if commit is not None}


def titles_of(context: Context, commits: Iterable[CommitRef | None], watched: Collection[str] = ()) -> Titles:
    """Return the commits of a list whose subjects are known or quickly found.

    The arguments and the costs are those of `commit_titles`; None stands for an entry without a commit.
    """
    return commit_titles(context, [(one.repo, one.revision) for one in commits if one is not None], watched)


def remember_titles(context: Context, repo: RepoUrl, commits: Sequence[GitCommit]) -> None:
    """Keep commits that a page has read anyway, so that lists need not ask for them."""
    _memory(context.runtime.gitiles).keep(str(repo), commits)


def _memory(gitiles: Gitiles) -> _Memory:
    with _memories_lock:
        return _memories.setdefault(gitiles, _Memory())


def _keys(wanted: Sequence[tuple[str, str]], hosts: CommitHosts) -> Mapping[tuple[str, str], _Key]:
    keys: dict[tuple[str, str], _Key] = {}
    for repo, revision in wanted:
        try:
            if is_hash(revision):
                keys[(repo, revision)] = (str(hosts.parse(repo)), revision)
        except BadRepoUrlError:
            continue  # an emitted trigger may hold any text
    return keys


def _visible(context: Context, memory: _Memory, repos: Iterable[str], watched: Collection[str]) -> set[str]:
    """Return the repositories that a project watches in which the caller sees jobs; reads for up to eight of them."""
    visible, reads = set(watched), 0
    for repo in repos:
        if repo in visible:
            continue
        projects = memory.projects(context, repo, may_read=False)
        if projects is None and reads < MAX_CALLS:
            reads += 1
            projects = memory.projects(context, repo, may_read=True)
        if any(map(context.sees_some, projects or ())):
            visible.add(repo)
    return visible


def _askable(context: Context, memory: _Memory, keys: Iterable[_Key], repos: Collection[str]) -> list[_Key]:
    """Return the commits that are not known and may be asked for now."""
    now = context.runtime.clock.now()
    return [key for key in keys if key[0] in repos and memory.known(key) is None and memory.may_ask(key, now)]


def _ask(context: Context, memory: _Memory, missing: Sequence[_Key]) -> None:
    """Ask for the first commit of each repository, whose call may cover others; then for the rest."""
    first = list({repo: (repo, revision) for repo, revision in reversed(missing)}.values())[::-1][:MAX_CALLS]
    _ask_at_once(context, memory, first)
    now = context.runtime.clock.now()
    rest = [key for key in missing if memory.known(key) is None and memory.may_ask(key, now)]
    _ask_at_once(context, memory, rest[: MAX_CALLS - len(first)])


def _ask_at_once(context: Context, memory: _Memory, keys: Sequence[_Key]) -> None:
    if not keys:
        return
    with ThreadPoolExecutor(len(keys), thread_name_prefix="title") as pool:
        # The copied context carries the time limit into the threads.
        futures = [pool.submit(copy_context().run, _ask_one, context, memory, key) for key in keys]
    for future in futures:
        future.result()


def _ask_one(context: Context, memory: _Memory, key: _Key) -> None:
    repo, revision = key
    now = context.runtime.clock.now()
    try:
        page = context.runtime.gitiles.log(RepoUrl.read_back(repo), revision, limit=_PAGE)
    except GitilesError as error:
        memory.fail((repo, "" if error.transient else revision), now)
        return
    except SchedulerError:  # no time is left
        memory.fail((repo, ""), now)
        return
    memory.keep(repo, page.commits)
    if all(commit.id != revision for commit in page.commits):
        memory.fail(key, now)


def _cut(kept: OrderedDict[Any, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
