"""The GitHub server without HTTP: repositories, pushes with their webhooks, and commits that a test makes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from werkzeug.wrappers import Request, Response

from emulator.errors import LocalCloudError
from emulator.github.deliveries import Delivery
from emulator.github.faults import HeldRefs
from emulator.github.names import Found, Names
from emulator.github.payloads import ping_payload, push_payloads
from emulator.github.state import GitHubState
from emulator.gitiles.git import GitError
from emulator.gitiles.git_service import GitService, missing_advice
from emulator.gitiles.projects import is_read_only, read_only_sentence
from emulator.gitiles.refs import Push, read_refs, read_typed_refs, ref_changes
from emulator.gitiles.repository import Repository
from emulator.gitiles.smart_http import Limits, refused
from emulator.gitiles.state import Surroundings

__all__ = ["GitHubService"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""``owner/name`` of a new repository. Folders with a leading dot are not served."""


@dataclass(frozen=True, slots=True)
class _GitSide:
    """The view that the service for git clients has of the server's state."""

    around: Surroundings
    state: GitHubState

    @property
    def limits(self) -> Limits:
        return self.state.limits


class GitHubService:
    """The repositories of one host, and their events.

    Args:
        root: the folder with a folder for each host.
        site: the host.
        state: the server's state.
    """

    def __init__(self, root: Path, site: str, state: GitHubState) -> None:
        self.root = root
        self.site = site
        self.state = state
        self.names = Names(root, site)
        around = Surroundings(self._pushed, self._watched, self._missing)
        self._git = GitService(root, _GitSide(around, state), lambda _host, name: name)

    def serve_git(self, request: Request, path: str, endpoint: str) -> Response:
        """Answer a git client; ``path`` is the path of the repository."""
        name = path.strip("/").removesuffix(".git")
        if name.count("/") != 1:
            return refused(f"the address of a repository is {request.host_url}OWNER/NAME.git, not /{name}", 404)
        number = self.names.moved(name)
        found = self.names.find(name) or (self.names.by_id(number) if number else None)
        return self._git.answer(request, self.site, found.name if found else self._as_watched(name), endpoint)

    def advice(self, url: str, name: str) -> str:
        """Return the sentence about a repository that is not there: where to put it, and how to push it.

        Args:
            url: the base address of the server.
            name: ``owner/name``.
        """
        return missing_advice(self.root, url, self.site, name, lambda _host, path: f"{path}.git")

    def report_missing(self, url: str, name: str) -> None:
        """Let the local cloud know that a client of the API wanted a repository that is not there; see `advice`."""
        spelled = self._as_watched(name)
        self._missing(f"https://{self.site}/{spelled}", self.advice(url, spelled))

    def commit(
        self, name: str, branch: str, message: str, files: dict[str, str | None], parents: Sequence[str] | None
    ) -> str:
        """Add a commit to a branch, send its webhooks as for a push, and return its hash.

        Args:
            name: ``owner/name``; a repository that does not exist is made.
            branch: the branch's short name, which is made if necessary.
            message: the whole message.
            files: contents by path; None deletes a file.
            parents: the parents' hashes; by default the branch's tip.

        Raises:
            ValueError: the name is not one of a repository.
            LocalCloudError: the repository belongs to its user, or git refuses the commit.
        """
        repository, before = self._writable(name)
        revision = repository.commit(message, files, branch, at=self.state.clock.now(), parents=parents)
        self._report(name, repository, before)
        return revision

    def move_ref(self, name: str, ref: str, revision: str) -> None:
        """Point a ref at a revision, or delete it if that is empty, and send the webhooks of a forced push.

        Raises:
            ValueError: the name is not one of a repository.
            LocalCloudError: the repository belongs to its user, or git refuses the change.
        """
        repository, before = self._writable(name)
        if revision:
            repository.force_push(ref, revision)
        else:
            repository.delete_ref(ref)
        self._report(name, repository, before)

    def send_push(self, push: Push) -> list[Delivery]:
        """Send the webhooks of a push, and return them."""
        found = self.names.find(push.name)
        if found is None or push.host != self.site:
            return []
        payloads = push_payloads(found, self.site, push.changes, self.state.clock.now())
        sent = (self.state.deliveries.send("push", found.id, payload) for payload in payloads)
        return [delivery for delivery in sent if delivery]

    def send_ping(self) -> None:
        """Send the event that GitHub sends when a webhook is made."""
        hook = self.state.deliveries.webhook
        if hook:
            self.state.deliveries.send("ping", 0, ping_payload(hook.url))

    def rename(self, old: str, new: str) -> None:
        """Rename a repository; see `GitHubServer.rename`."""
        before, after = self.names.rename(old, new)
        self.state.statuses.rename(before.name, after.name)

    def hold_refs(self, name: str, times: int | None) -> None:
        """Show the present refs of a repository for a while; see `GitHubServer.hold_refs`."""
        self.state.faults.hold(HeldRefs(name.lower(), read_typed_refs(self._existing(name).path), times))

    def _existing(self, name: str) -> Found:
        found = self.names.find(name)
        if found is None:
            raise ValueError(f"no repository {name} on {self.site}")
        return found

    def _writable(self, name: str) -> tuple[Repository, dict[str, str]]:
        """Return a repository and its refs; it is made if there is none."""
        found = self.names.find(name)
        if found is None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"not the name of a repository: {name}")
            place = self.root / self.site / name
            if is_read_only(place, self.root):
                raise LocalCloudError(read_only_sentence(place))
            return Repository.create(place), {}
        return Repository(found.path, self.root), read_refs(found.path)

    def _report(self, name: str, repository: Repository, before: dict[str, str]) -> None:
        changes = ref_changes(before, read_refs(repository.path))
        if changes:
            self._pushed(Push(self.site, name, repository.path, changes))

    def _pushed(self, push: Push) -> None:
        """Send the webhooks of a push that git has taken. A webhook that cannot be made does not refuse the push."""
        try:
            self.send_push(push)
        except GitError as error:
            self.state.around.delivered(Delivery("", "push", "", 0, "", answer=str(error)))
        self.state.around.pushed(push)

    def _watched(self) -> Collection[str]:
        return self.state.around.watched()

    def _missing(self, repo: str, advice: str) -> None:
        self.state.around.missing(repo, advice)

    def _as_watched(self, name: str) -> str:
        """Return the spelling of a repository's name in the configs; the name itself if none has it."""
        prefix = f"https://{self.site}/"
        spelled = (repo for repo in self._watched() if repo.lower() == f"{prefix}{name}".lower())
        return next(spelled, prefix + name)[len(prefix) :]
