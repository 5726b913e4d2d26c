"""The files of builds: a checkout of the commit that a build names, or of the branch that its job watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.buildbucket.builds import Build
from emulator.building.workplace import Workplace
from emulator.errors import LocalCloudError
from emulator.gitiles.git import GitError, git, git_environment
from emulator.gitiles.projects import find_repository, repositories
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.watcher import Watcher

__all__ = ["Checkouts", "Remote", "checkout", "find_folder", "resolve_ref"]

Remote = Callable[[str, str], str]
"""Returns the address at which git clients reach a repository, by host and project."""

_JOB_TAG = "scheduler_job_id"
# A shared clone copies no objects and writes nothing into the repository. It also has commits that no branch has any
# more. The remote is the local server, so that `git fetch` and `git push` in a build reach no other machine.
_SCRIPT = (
    'git clone --quiet --shared --no-checkout --template= -- "$1" . '
    '&& git checkout --quiet --detach "$2" && git remote set-url origin "$3"'
)
_EMPTY = (
    "This build names no commit, and its job watches no single branch with commits. So its folder is empty: "
    "trigger the job for a commit."
)


@dataclass(frozen=True, slots=True)
class _Head:
    """The newest commit of a branch."""

    host: str
    project: str
    ref: str
    revision: str


class Checkouts:
    """Returns the workplace of a build.

    Args:
        repositories: holds a repository in ``<host>/<project>`` each.
        remote: returns the address at which git clients reach a repository, by host and project.
        watchers: returns the watchers of a job (``<project>/<job>``).
    """

    def __init__(self, repositories: Path, remote: Remote, watchers: Callable[[str], Iterable[Watcher]]) -> None:
        self._repositories = repositories
        self._remote = remote
        self._watchers = watchers

    def __call__(self, build: Build) -> Workplace:
        """Return the workplace of a build.

        A build without a commit gets the head of the branch that its job watches. If that is no single branch, its
        folder is empty, and its output says so.

        Raises:
            LocalCloudError: the local cloud does not have the repository.
        """
        commit = build.spec.gitiles_commit
        if commit:
            return checkout(
                self._repositories, self._remote, commit, f"Checkout of {commit.get('id') or commit.get('ref')}"
            )
        head = self._watched_head(dict(build.spec.tags).get(_JOB_TAG, ""))
        if head is None:
            return Workplace({}, notes=(_EMPTY,))
        found = {"host": head.host, "project": head.project, "ref": head.ref, "id": head.revision}
        note = f"This build names no commit. Checkout of {head.revision}, the head of {head.ref}"
        return checkout(self._repositories, self._remote, found, note)

    def _watched_head(self, job: str) -> _Head | None:
        """Return the head of the single branch that a job watches.

        If the job watches several branches of one repository, the branch of ``HEAD`` counts.
        """
        found: dict[tuple[str, str], _Head] = {}
        for watcher in self._watchers(job) if job else ():
            for head in self._heads(watcher):
                found.setdefault((head.host, head.project), head)
        return next(iter(found.values())) if len(found) == 1 else None

    def _heads(self, watcher: Watcher) -> Iterable[_Head]:
        try:
            url = DEFAULT_HOSTS.parse(watcher.repo)
        except BadRepoUrlError:
            return
        path = find_repository(self._repositories, f"{url.host}/{url.project}")
        refs = _branches(path) if path else {}
        watched = {ref: revision for ref, revision in refs.items() if ref in ref_set(watcher.refs)}
        main = _main_branch(path) if path else ""
        if main in watched or len(watched) == 1:
            ref = main if main in watched else next(iter(watched))
            yield _Head(url.host, url.project, ref, watched[ref])


def checkout(root: Path, remote: Remote, commit: Mapping[str, Any], note: str) -> Workplace:
    """Return the workplace of a commit.

    Args:
        root: holds a repository in ``<host>/<project>`` each.
        remote: returns the address at which git clients reach a repository.
        commit: ``host``, ``project``, and ``id`` or ``ref``; an ``id`` may also be a full ref, or ``HEAD``.
        note: the beginning of the line about the checkout.

    Raises:
        LocalCloudError: the local cloud does not have the repository or the ref.
    """
    host, project = str(commit["host"]), str(commit["project"])
    repo = f"https://{host}/{project}"
    path = find_folder(root, host, project)
    if path is None:
        raise LocalCloudError(
            f"the local cloud has no repository {repo}: push to {remote(host, project)}, "
            f"or put it into {root / host / project}"
        )
    revision = str(commit.get("id") or commit.get("ref"))
    if not (is_hash(revision) or revision.startswith("refs/") or revision == "HEAD"):
        raise LocalCloudError(f"{revision!r} is neither the whole hash of a commit nor the full name of a ref")
    if not is_hash(revision):
        revision = resolve_ref(path, revision)
    argv = ("/bin/sh", "-c", _SCRIPT, "sh", str(path.resolve()), revision, remote(host, project))
    environment = {**git_environment(), "GIT_ALLOW_PROTOCOL": "file"}  # for the clone of a folder
    return Workplace({**commit, "id": revision}, argv, environment, (f"{note}, of {repo}",))


def find_folder(root: Path, host: str, project: str) -> Path | None:
    """Return the folder of a repository, or None. Without a folder of its exact name, the case does not count."""
    if found := find_repository(root, f"{host}/{project}"):
        return found
    name = project.lower()
    others = ((path, path.relative_to(root / host).as_posix()) for path in repositories(root / host))
    return next((path for path, other in others if other.removesuffix(".git").lower() == name), None)


def _branches(path: Path) -> dict[str, str]:
    lines = git(path, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads").decode(errors="replace")
    # At line feeds only: a ref's name may contain other line separators.
    return {ref: revision for ref, _, revision in (line.rpartition(" ") for line in lines.split("\n")[:-1])}


def _main_branch(path: Path) -> str:
    try:
        return git(path, "symbolic-ref", "--quiet", "HEAD").decode(errors="replace").strip()
    except GitError:
        return ""  # HEAD is detached


def resolve_ref(path: Path, ref: str) -> str:
    """Return the hash of the commit to which a ref of a repository leads.

    Raises:
        LocalCloudError: the repository has no such ref.
    """
    try:
        return git(path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()
    except GitError as error:
        raise LocalCloudError(f"the repository {path} has no {ref}") from error
