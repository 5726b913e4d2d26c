"""The source of a build with inline steps: which repository, at which revision. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.managers.cloud_build.commit import Commit, Log, repository_problem, same_repository

__all__ = ["builds_commit", "source_of"]

_CONNECTED = {
    "connected_repository": ("connectedRepository", "repository"),
    "git_repository_link": ("developerConnectConfig", "gitRepositoryLink"),
}
"""Field of a definition → the member of the request's ``source``, and the member inside that names the repository."""


def builds_commit(fields: Mapping[str, Any], commit: Commit) -> bool:
    """Whether a definition's source is the commit's repository, so that the commit is built."""
    repo = fields.get("repo", "")
    return not repo or not commit.repository or same_repository(repo, commit.repository)


def source_of(fields: Mapping[str, Any], commit: Commit | None, log: Log) -> dict[str, Any] | None:
    """Return the source of a build; None for a build without a source.

    Args:
        fields: the ``source`` of the definition; empty if it has none.
        commit: the commit of the invocation.
        log: gets a line if the commit is one of another repository.

    Raises:
        PermanentError: neither the invocation nor the definition names a revision, or a repository.
    """
    if fields.get("none") or not (fields or commit):
        return None
    revision = _revision(fields, commit, log)
    for field, (member, name) in _CONNECTED.items():
        if field in fields:
            return {member: _members({name: fields[field]}, fields, revision)}
    url = fields.get("repo") or (commit.repository if commit else "")
    if not url:
        raise PermanentError("no repository to build: the invocation brings no commit and 'source.repo' is not set")
    if problem := repository_problem(url):
        raise PermanentError(f"no repository to build: {quote(url)} - {problem}")
    return {"gitSource": _members({"url": url}, fields, revision)}


def _members(repository: dict[str, str], fields: Mapping[str, Any], revision: str) -> dict[str, str]:
    folder = {"dir": fields["dir"]} if fields.get("dir") else {}
    return {**repository, **folder, "revision": revision}


def _revision(fields: Mapping[str, Any], commit: Commit | None, log: Log) -> str:
    if commit and builds_commit(fields, commit):
        return commit.revision
    revision = str(fields.get("revision", ""))
    if not revision:
        raise PermanentError("no commit to build: the invocation brings none and 'source.revision' is not set")
    if commit:
        about = {"repository": commit.repository, "source": fields["repo"], "revision": revision}
        log(log_lines.OTHER_REPOSITORY.format(**about))
    return revision
