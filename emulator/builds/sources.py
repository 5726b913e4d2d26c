"""The sources of Cloud Build builds: checkouts of repositories of the local cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emulator.building.workplace import Workplace
from emulator.builds.checkouts import Remote, checkout, find_folder, resolve_ref
from emulator.cloud_build.builds import Build
from emulator.errors import LocalCloudError
from luci_scheduler.core.git_names import BRANCHES, TAGS, is_hash

__all__ = ["Sources"]

_EMPTY = "This build has no source, so its folder is empty."
_REPOSITORY = "_REPOSITORY"


class Sources:
    """Returns the workplace of a build: a checkout of its source.

    The substitution ``_REPOSITORY`` names a connected repository: the local cloud has no connections.

    Args:
        repositories: holds a repository in ``<host>/<project>`` each.
        remote: returns the address at which git clients reach a repository, by host and project.
    """

    def __init__(self, repositories: Path, remote: Remote) -> None:
        self._repositories = repositories
        self._remote = remote

    def __call__(self, build: Build) -> Workplace:
        """Return the workplace of a build.

        Raises:
            LocalCloudError: the local cloud does not have the repository or the revision.
        """
        source: Mapping[str, Any] = build.body.get("source", {})
        if not source:
            return Workplace({}, notes=(_EMPTY,))
        (kind, wanted), *_ = source.items()
        url = str(wanted.get("url", "")) if kind == "gitSource" else build.substitutions.get(_REPOSITORY, "")
        if not url:
            raise LocalCloudError(
                f"the local cloud has no connected repositories: give the job a commit, or a gitSource (it has {kind})"
            )
        host, project = _host_and_project(url)
        revision = str(wanted.get("revision", "")) or "HEAD"
        if not is_hash(revision) and revision != "HEAD":
            revision = self._full_ref(host, project, revision)
        commit = {"host": host, "project": project, "id": revision}
        return checkout(self._repositories, self._remote, commit, f"Checkout of {revision}")

    def resolve(self, repository: str, ref: str) -> str:
        """Return the hash to which a full ref of a repository (https address) leads; empty if it is not known."""
        try:
            path = find_folder(self._repositories, *_host_and_project(repository))
            return resolve_ref(path, ref) if path else ""
        except LocalCloudError:
            return ""

    def _full_ref(self, host: str, project: str, revision: str) -> str:
        """Return the full name of a branch or a tag; a name that is neither is returned as it is."""
        names = [revision] if revision.startswith("refs/") else [f"{BRANCHES}{revision}", f"{TAGS}{revision}"]
        return next((name for name in names if self.resolve(f"https://{host}/{project}", name)), names[0])


def _host_and_project(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc, parts.path.strip("/").removesuffix(".git")
