"""``ports.Gitiles`` over GitHub's REST API: refs, and the first-parent line of a revision.

A merged pull request is one commit of the line. Its inner commits were never the head of the branch. The difference of
a merge is that to its first parent, so it has all changes of the merge.

A process keeps answers that never change, such as comparisons of two hashes, and each folder's refs with their ETag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote

from luci_scheduler.adapters.commit_answers import AnswerTooLargeError, broken
from luci_scheduler.adapters.github_api import (
    MOST_UNCHANGED,
    Answer,
    EmptyRepositoryError,
    GitHubApi,
    GitHubError,
)
from luci_scheduler.adapters.github_objects import (
    LinkedCommit,
    changes,
    linked,
    linked_list,
    refs_below,
    target,
)
from luci_scheduler.adapters.kept import Kept
from luci_scheduler.budget import limited, time_left
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import GitCommit, GitilesError, LogPage

__all__ = ["MAX_FILES", "GitHubClient"]

MAX_FILES = 3000
"""The files of a commit that GitHub lists at most."""

_MAX_PATHS = 800_000
"""The characters of the paths of one commit that are read, give or take a page. A path has up to 4,096 characters, and
3,000 long ones of each commit of a log would not fit into a function's memory."""

_LIMIT = 60.0
"""Seconds for all requests of one call together."""
_PAGE = 100  # entries, the most that GitHub gives
_MAX_PAGES = 100
"""Pages of one comparison, or of one list of commits, that one call reads."""
_MAX_FALLBACK_PAGES = 10
"""Pages of the list of commits that are read if GitHub cannot compare."""
_MAX_REF_PAGES = 100
_MAX_TAG_DEPTH = 5
_ALL_REFS = ("refs/heads", "refs/tags")
"""The folders that stand for all refs: the API lists refs by a prefix, and has no empty one."""
_LINE = 0
"""The number of the page that stands for a whole line, where GitHub cannot compare."""
_STEP = re.compile(r"([~^])(\d*)")

_KEPT_REFS = 200_000  # of all folders together; each takes about 200 bytes, and a long name more
_KEPT_TAGS = 100_000
_KEPT_COMMITS = 20_000  # of comparisons; each takes about 600 bytes
_KEPT_CHANGES = 200_000  # of commits with their changes, in units of about 100 bytes
_COMMIT_WEIGHT = 10

T = TypeVar("T")
_Commits = Sequence[LinkedCommit]


@dataclass(slots=True)
class _Folder:
    """The refs of a folder, as the host listed them last."""

    etag: str
    refs: Mapping[str, str]
    left: int = MOST_UNCHANGED
    """The number of times that the host may still say that nothing has changed."""

    def take_etag(self) -> str:
        """Return the ETag for the next request; empty if the refs must be listed again."""
        self.left -= 1
        return self.etag if self.left >= 0 else ""


@frozen
class _Comparison:
    """A page of a comparison, or the whole of a line that stands for it."""

    total: int
    commits: tuple[LinkedCommit, ...]


class GitHubClient:
    """``ports.Gitiles`` for the repositories of GitHub hosts. A call may need several requests. Thread-safe."""

    def __init__(self, api: GitHubApi, limit: float = _LIMIT) -> None:
        """Make a client; ``limit`` bounds all requests of one call together, in seconds."""
        self._api = api
        self._limit = limit
        self._folders = Kept[tuple[str, str], _Folder](_KEPT_REFS)
        self._tags = Kept[str, str | None](_KEPT_TAGS)
        """Hash of a tag object → hash of its commit; empty if it is a tag of no commit, None if that is unknown."""
        self._comparisons = Kept[tuple[str, str, str, int], _Comparison](_KEPT_COMMITS)
        self._details = Kept[tuple[str, str], LinkedCommit](_KEPT_CHANGES)

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        """Return the refs below a folder: one request. If nothing has changed, it costs nothing of the limit."""
        folders = _ALL_REFS if prefix == "refs" else (prefix,)
        found = self._bounded(lambda: [self._refs(repo, folder) for folder in folders])
        return found[0] if len(found) == 1 else {name: sha for part in found for name, sha in part.items()}

    def resolve(self, repo: RepoUrl, expression: str) -> str:
        """Return the hash of the commit that an expression names.

        One request resolves the name before the first ``~`` or ``^``. The steps follow the parents, 100 at a time.
        """
        return self._bounded(lambda: self._resolve(repo, expression))

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        """Return up to ``limit`` commits of the first-parent line of ``revision``, newest first.

        With ``exclude``, the line ends before the first commit that leads to it, as in ``git log --first-parent
        exclude..revision``. A tag of something that is no commit has an empty log.
        """

        def page() -> LogPage:
            head = self._commit_of(repo, revision)
            base = self._commit_of(repo, exclude) if exclude else ""
            if not head or head == base:
                return LogPage(())
            if not base and limit == 1:
                return self._single(repo, start or head, diffs=diffs)
            found = self._range(repo, base, head, limit, start) if base else self._whole(repo, start or head, limit)
            return self._detailed(repo, found) if diffs else found

        return self._bounded(page)

    def _bounded(self, call: Callable[[], T]) -> T:
        left = time_left(self._limit)
        try:
            with limited(left):
                return call()
        except TransientError as error:
            raise GitilesError("DEADLINE_EXCEEDED", "GitHub's answers took too long", transient=True) from error

    def _get(self, repo: RepoUrl, path: str, **query: str | int) -> Answer:
        parameters = [(name, str(value)) for name, value in query.items()]
        return self._api.get(repo.host, f"/repos/{quote(repo.project)}/{path}", parameters)

    # Refs

    def _refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        if not {"", ".", ".."}.isdisjoint(prefix.split("/")):
            return {}  # git allows no such name, and its address would be that of another object
        kept = self._folders.get((str(repo), prefix)) or _Folder("", {}, 0)
        etag = kept.take_etag()
        path = f"/repos/{quote(repo.project)}/git/matching-refs/{quote(prefix.removeprefix('refs/'))}"
        try:
            answer = self._api.get(repo.host, path, etag=etag)
        except EmptyRepositoryError:
            return {}
        if answer.is_unchanged and etag:
            return kept.refs
        found, tags = refs_below(prefix, answer.document)
        for page in self._following(repo, answer):
            more, more_tags = refs_below(prefix, page.document)
            found |= more
            tags += more_tags
        for tag in tags:
            if self._tags.get(tag) is None:
                self._tags.put(tag, None)
        # The ETag of a page says nothing about the pages after it.
        kept = _Folder("" if answer.next else answer.etag, found)
        self._folders.put((str(repo), prefix), kept, 1 + len(found) + sum(map(len, found)) // 200)
        return found

    def _following(self, repo: RepoUrl, answer: Answer) -> Iterator[Answer]:
        """Yield the pages of a list of refs after its first one.

        Raises:
            GitilesError: there are too many. A part of the refs must not be taken for all of them.
        """
        for _ in range(_MAX_REF_PAGES):
            if not answer.next:
                return
            answer = self._api.get(repo.host, answer.next)
            yield answer
        if answer.next:
            raise broken("the list of refs does not end")

    def _commit_of(self, repo: RepoUrl, name: str) -> str:
        """Return the commit that a hash or a ref names; empty if it is a tag of something else."""
        sha = name if is_hash(name) else self._refs(repo, name).get(name)
        if sha is None:
            raise GitilesError("NOT_FOUND", f"the repository has no ref {name}", transient=False)
        return self._peeled(repo, sha) if sha in self._tags else sha

    def _peeled(self, repo: RepoUrl, tag: str) -> str:
        """Return the commit of a tag object, empty if it has none. The object may be a tag again."""
        known = self._tags.get(tag)
        if known is not None:
            return known
        aim = target(self._get(repo, f"git/tags/{tag}").document)
        for _ in range(_MAX_TAG_DEPTH - 1):
            if aim.type != "tag":
                break
            aim = target(self._get(repo, f"git/tags/{aim.id}").document)
        commit = aim.id if aim.type == "commit" else ""
        self._tags.put(tag, commit)
        return commit

    # Logs

    def _single(self, repo: RepoUrl, sha: str, *, diffs: bool) -> LogPage:
        found = self._with_changes(repo, sha) if diffs else linked(self._commit(repo, sha).document)
        return LogPage((found.commit,), found.first_parent)

    def _whole(self, repo: RepoUrl, head: str, limit: int) -> LogPage:
        """Return the beginning of a line that has no end but its first commit."""
        return _Line(self._listed(repo, head, _MAX_PAGES)).page(head, limit)

    def _range(self, repo: RepoUrl, base: str, head: str, limit: int, start: str) -> LogPage:
        try:
            line = self._compared(repo, base, head)
        except GitHubError as error:
            if error.code == "NOT_FOUND" and error.message.startswith("No common ancestor"):
                return self._whole(repo, start or head, limit)
            if error.code == "NOT_FOUND" and base not in self._tags and self._is_tag(repo, base):
                return self.log(repo, head, limit=limit, exclude=base, start=start)
            if error.code != "UNAVAILABLE":
                raise
            line = self._listed_line(repo, base, head, error)
        except AnswerTooLargeError as error:  # the patches of up to 300 files
            line = self._listed_line(repo, base, head, error)
        return line.page(head, limit, stop=base, start=start)

    def _is_tag(self, repo: RepoUrl, sha: str) -> bool:
        """Whether a hash is that of a tag object, which a restarted process does not know; note it, if so."""
        try:
            self._peeled(repo, sha)
        except GitHubError as error:
            if error.code == "NOT_FOUND":
                return False
            raise
        return True

    def _compared(self, repo: RepoUrl, base: str, head: str) -> _Line:
        """Return the line of ``head`` among the commits that do not lead to ``base``.

        A comparison lists the oldest commits first, so the pages are read from the last to the first. The first page is
        read in any case, because it holds the number of commits.
        """
        first = self._comparisons.get((str(repo), base, head, _LINE)) or self._comparison(repo, base, head, 1)
        return _Line(self._comparison_pages(repo, base, head, first))

    def _comparison_pages(self, repo: RepoUrl, base: str, head: str, first: _Comparison) -> Iterator[_Commits | None]:
        yield first.commits
        left, requests = first.total - len(first.commits), 1
        for number in range(-(-first.total // _PAGE), 1, -1):
            if (str(repo), base, head, number) not in self._comparisons:
                requests += 1
            if requests > _MAX_PAGES:
                yield None
                return
            page = self._comparison(repo, base, head, number)
            left -= len(page.commits)
            yield page.commits
        if left > 0:  # the line may go on among them
            raise broken(f"the comparison lacks {left} of its {first.total} commits")

    def _comparison(self, repo: RepoUrl, base: str, head: str, number: int) -> _Comparison:
        """Return a page of a comparison. Both ends are hashes, so it never changes."""
        key = (str(repo), base, head, number)
        if kept := self._comparisons.get(key):
            return kept
        document = self._get(repo, f"compare/{base}...{head}", per_page=_PAGE, page=number).document
        total = document.get("total_commits") if isinstance(document, dict) else None
        if not isinstance(total, int) or total < 0:
            raise broken("the answer is not a comparison")
        page = _Comparison(total, tuple(linked_list(document.get("commits"))))
        if total and not page.commits:
            raise broken("a page of the comparison is empty")
        self._comparisons.put(key, page, len(page.commits) + 1)
        return page

    def _listed_line(self, repo: RepoUrl, base: str, head: str, failure: GitilesError) -> _Line:
        """Return the line from ``head`` to ``base``, out of the list of commits: GitHub cannot compare the two.

        Raises:
            GitilesError: ``failure``, because the line is too long or does not lead to ``base``.
        """
        commits = []
        for found in _Line(self._listed(repo, head, _MAX_FALLBACK_PAGES)).walk(head):
            commits.append(found)
            if found.first_parent == base:
                self._comparisons.put((str(repo), base, head, _LINE), _Comparison(0, tuple(commits)), len(commits))
                return _Line(iter([commits]))
        raise failure

    def _listed(self, repo: RepoUrl, head: str, most: int) -> Iterator[_Commits | None]:
        """Yield pages of the commits that lead to a commit; None if there are more than ``most`` pages."""
        for number in range(1, most + 1):
            answer = self._get(repo, "commits", sha=head, per_page=_PAGE, page=number)
            commits = linked_list(answer.document)
            yield commits
            if len(commits) < _PAGE and not answer.next:
                return
        yield None

    # Changes

    def _detailed(self, repo: RepoUrl, page: LogPage) -> LogPage:
        return replace(page, commits=tuple(self._with_changes(repo, commit.id).commit for commit in page.commits))

    def _with_changes(self, repo: RepoUrl, sha: str) -> LinkedCommit:
        """Return a commit with its changes: one request for each 100 of them.

        If GitHub or a function cannot handle so large a commit, none of its changes are known. Otherwise one commit
        would stop its ref forever.
        """
        if kept := self._details.get((str(repo), sha)):
            return kept
        try:
            detailed = self._read_changes(repo, sha)
        except GitilesError as error:
            if error.code != "UNAVAILABLE" and not isinstance(error, AnswerTooLargeError):
                raise
            found = linked(self._commit(repo, sha).document)  # the error again, if GitHub has an outage
            detailed = replace(found, commit=replace(found.commit, diff_cut=True))
        paths = detailed.commit.diff
        self._details.put((str(repo), sha), detailed, _COMMIT_WEIGHT + len(paths) + _characters(paths) // 100)
        return detailed

    def _read_changes(self, repo: RepoUrl, sha: str) -> LinkedCommit:
        answer = self._commit(repo, sha, _PAGE)
        found, paths = linked(answer.document), changes(sha, answer.document)
        for number in range(2, MAX_FILES // _PAGE + 1):
            is_last = not answer.next and len(paths) < (number - 1) * _PAGE
            if is_last or _characters(paths) > _MAX_PATHS:
                break
            answer = self._commit(repo, sha, _PAGE, number)
            paths += changes(sha, answer.document)
        is_cut = len(paths) >= MAX_FILES or _characters(paths) > _MAX_PATHS
        return replace(found, commit=replace(found.commit, diff=tuple(paths), diff_cut=is_cut))

    def _commit(self, repo: RepoUrl, name: str, size: int = 1, number: int = 1) -> Answer:
        return self._get(repo, f"commits/{quote(name)}", per_page=size, page=number)

    # Names

    def _resolve(self, repo: RepoUrl, expression: str) -> str:
        name = re.split("[~^]", expression)[0]
        place = linked(self._commit(repo, name.removeprefix("refs/")).document)
        for sign, digits in _STEP.findall(expression[len(name) :]):
            number = int(digits) if digits else 1
            place = self._parent(repo, place, number) if sign == "^" else self._ancestor(repo, place, number)
        return place.commit.id

    def _parent(self, repo: RepoUrl, place: LinkedCommit, number: int) -> LinkedCommit:
        """Return a parent, counted from 1; 0 is the commit itself."""
        if number == 0:
            return place
        if number > len(place.parents):
            raise _too_far(place)
        return linked(self._commit(repo, place.parents[number - 1]).document)

    def _ancestor(self, repo: RepoUrl, place: LinkedCommit, number: int) -> LinkedCommit:
        """Return the commit that is ``number`` steps before another one on its line."""
        line = _Line(self._listed(repo, place.commit.id, _MAX_PAGES))
        for step, found in enumerate(line.walk(place.commit.id)):
            if step == number:
                return found
        raise _too_far(place)


class _Line:
    """The first-parent line of a commit. Its commits are found in pages, which are read as they are needed."""

    def __init__(self, pages: Iterator[_Commits | None]) -> None:
        """Make a line; ``pages`` may end with None, if more pages exist that must not be read now."""
        self._pages = pages
        self._known: dict[str, LinkedCommit] = {}
        self._left = ""

    def page(self, head: str, limit: int, *, stop: str = "", start: str = "") -> LogPage:
        """Return ``limit`` commits of the line, from ``start`` on, which is a commit of the line, or from its head."""
        commits: list[GitCommit] = []
        for found in self.walk(head, stop):
            if not commits and start not in ("", found.commit.id):
                continue
            if len(commits) == limit:
                return LogPage(tuple(commits), found.commit.id)
            commits.append(found.commit)
        return LogPage(tuple(commits), self._left)

    def walk(self, head: str, stop: str = "") -> Iterator[LinkedCommit]:
        """Yield the commits of the line, newest first, down to the one before ``stop``."""
        place, seen = head, set[str]()
        while place and place != stop and (found := self._find(place)):
            if place in seen:
                raise broken("a commit of the answer leads to itself")
            seen.add(place)
            yield found
            place = found.first_parent
        if place == head and self._known:
            raise broken("the answer lacks the commit that it is about")

    def _find(self, sha: str) -> LinkedCommit | None:
        while sha not in self._known:
            try:
                page = next(self._pages)
            except StopIteration:
                return None
            if page is None:
                self._left = sha
                return None
            self._known |= {found.commit.id: found for found in page}
        return self._known[sha]


def _characters(paths: Sequence[tuple[str, str]]) -> int:
    return sum(len(old) + len(new) for old, new in paths)


def _too_far(place: LinkedCommit) -> GitilesError:
    return GitilesError("NOT_FOUND", f"{place.commit.id} has no such ancestor", transient=False)
