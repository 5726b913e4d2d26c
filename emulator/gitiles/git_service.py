"""Serves git clients: finds or makes the repository, refuses writes into watched ones, and reports pushes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from werkzeug.wrappers import Request, Response

from emulator.gitiles.git import GitError, git
from emulator.gitiles.projects import find_repository, is_read_only, read_only_sentence, repository_path
from emulator.gitiles.refs import Push, read_refs, ref_changes
from emulator.gitiles.repository import Repository
from emulator.gitiles.smart_http import Limits, refused, run_backend, service_of

if TYPE_CHECKING:
    from emulator.gitiles.state import Surroundings

__all__ = ["GitService", "Serving", "missing_advice"]

_PUSH = "git-receive-pack"


class Serving(Protocol):
    """The part of a server's state that answers to git clients depend on."""

    @property
    def around(self) -> Surroundings:
        """The local cloud around the server."""

    @property
    def limits(self) -> Limits:
        """The limits of one request."""


def _below_host(host: str, name: str) -> str:
    return f"{host}/{name}"


def missing_advice(root: Path, url: str, host: str, name: str, path_of: Callable[[str, str], str] = _below_host) -> str:
    """Return the sentence about a repository that is not there: where to put it, and how to push it.

    Args:
        root: the folder of all hosts.
        url: the base address of the server.
        host: the repository's host.
        name: its name on the host.
        path_of: returns the path of a host's repository on the server.
    """
    return (
        f"no repository {name} on {host} in the local cloud: put it into {root.resolve() / host / name}, "
        f"or git push {url.rstrip('/')}/{path_of(host, name)} main"
    )


class GitService:
    """Answers ``git clone``, ``git fetch`` and ``git push``.

    Args:
        root: the folder of all hosts.
        state: the server's state.
        path_of: returns the path of a host's repository on the server.
    """

    def __init__(self, root: Path, state: Serving, path_of: Callable[[str, str], str] = _below_host) -> None:
        self._root = root
        self._state = state
        self._path_of = path_of

    def answer(self, request: Request, host: str, name: str, endpoint: str) -> Response:
        """Answer a git client's request.

        Args:
            request: the request.
            host: the repository's host; empty for a repository directly below the root.
            name: the repository's name.
            endpoint: the end of the path, from `split_service`.
        """
        service = service_of(request, endpoint)
        if not service:
            return refused("the local cloud speaks git's smart protocol only: use git 1.6.6 or later", 403)
        try:
            return self._serve(request, host, name, endpoint, is_push=service == _PUSH)
        except GitError as error:
            return refused(str(error), 500)

    def _serve(self, request: Request, host: str, name: str, endpoint: str, *, is_push: bool) -> Response:
        repository = find_repository(self._root / host, name)
        place = repository or repository_path(self._root / host, name)
        if is_push and place is not None and is_read_only(place, self._root):
            return refused(read_only_sentence(place), 403)
        if repository is None and is_push:
            repository = self._create(host, name)
        if repository is None:
            return refused(self._missing(request, host, name, is_push=is_push), 404)
        if endpoint != _PUSH:
            return run_backend(request, repository, endpoint, self._state.limits)
        before = read_refs(repository)
        response = run_backend(request, repository, endpoint, self._state.limits)
        self._report(host, name, repository, before)
        return response

    def _create(self, host: str, name: str) -> Path | None:
        """Make an empty bare repository if a config watches it, and return its folder."""
        path = repository_path(self._root / host, name)
        if not host or path is None or path.exists() or f"https://{host}/{name}" not in self._state.around.watched():
            return None
        return Repository.create(path).path

    def _missing(self, request: Request, host: str, name: str, *, is_push: bool) -> str:
        if not host:
            return f"there is no repository {name}: a path is /<host>/<repository>, such as /sample.googlesource.com/x"
        if not is_push:
            advice = missing_advice(self._root, request.host_url, host, name, self._path_of)
            self._state.around.missing(f"https://{host}/{name}", advice)
            return advice
        return (
            f"no config watches https://{host}/{name}, so a push does not make it: name it in a gitiles trigger "
            f"and push again, or put a repository into {self._root.resolve() / host / name}"
        )

    def _report(self, host: str, name: str, repository: Path, before: dict[str, str]) -> None:
        after = read_refs(repository)
        changes = ref_changes(before, after)
        if not changes:
            return
        _point_head(repository, after)
        self._state.around.pushed(Push(host, name, repository, changes))


def _point_head(repository: Path, refs: dict[str, str]) -> None:
    """Let ``HEAD`` of a fresh repository name a branch that exists, so that clones check it out."""
    branches = [ref for ref in refs if ref.startswith("refs/heads/")]
    target = git(repository, "symbolic-ref", "HEAD").decode(errors="replace").strip() if branches else ""
    if branches and target not in refs:
        git(repository, "symbolic-ref", "HEAD", branches[0])
