"""The repositories that the configs of a local cloud watch, and how to push to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emulator.branches import HEADS, WatchedRepo, watched_repos
from emulator.gitiles.projects import find_repository, is_read_only, read_only_sentence
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.local_configs import valid_configs
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS

__all__ = ["look_at_repositories", "push_command", "read_only", "watched"]


def watched(cloud: LocalCloud) -> list[WatchedRepo]:
    """Return the repositories that the valid configs watch, sorted by URL."""

    def existing(repo: str) -> Sequence[str]:
        path = _folder(cloud, repo)
        return Repository(path).branches() if path else []

    return watched_repos(valid_configs(cloud.configs, cloud.options.config_rules), existing)


def read_only(cloud: LocalCloud, repo: str) -> str:
    """Return why the local cloud does not write into a repository, as a sentence; empty if it does."""
    path = _folder(cloud, repo)
    return read_only_sentence(path) if path is not None and is_read_only(path, cloud.repositories) else ""


def _folder(cloud: LocalCloud, repo: str) -> Path | None:
    url = DEFAULT_HOSTS.parse(repo)
    return find_repository(cloud.repositories / url.host, url.project)


def look_at_repositories(cloud: LocalCloud) -> None:
    """Have each watched repository polled now, not at its next schedule: commits may have come while nothing ran."""
    for item in watched(cloud):
        path = _folder(cloud, item.repo)
        if path is None:
            continue
        current = Repository(path).head()
        ref = current if item.watches(current) else next(iter(item.branches), "")
        cloud.commit_events.look(item.repo, path, ref)


def push_command(cloud: LocalCloud, repos: Sequence[WatchedRepo]) -> str:
    """Return the command that pushes the current branch to the first repository that takes pushes; empty if none."""
    for item in repos:
        if not read_only(cloud, item.repo):
            url = DEFAULT_HOSTS.parse(item.repo)
            branch = item.branches[0].removeprefix(HEADS) if item.branches else "main"
            return f"git push {cloud.clone_url(url)} HEAD:{branch}"
    return ""
