"""The repositories that the configs of a local cloud watch, and how to push to them."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.branches import HEADS, WatchedRepo, watched_repos
from emulator.gitiles.projects import find_repository
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.local_configs import valid_configs
from luci_scheduler.core.repo_url import parse_repo_url

__all__ = ["push_command", "watched"]


def watched(cloud: LocalCloud) -> list[WatchedRepo]:
    """Return the repositories that the valid configs watch, sorted by URL."""

    def existing(repo: str) -> Sequence[str]:
        url = parse_repo_url(repo)
        path = find_repository(cloud.repositories / url.host, url.project)
        return Repository(path).branches() if path else []

    return watched_repos(valid_configs(cloud.configs, cloud.options.config_rules), existing)


def push_command(cloud: LocalCloud, repos: Sequence[WatchedRepo]) -> str:
    """Return the command that pushes the current branch to the first watched repository; empty if there is none."""
    if not repos:
        return ""
    url = parse_repo_url(repos[0].repo)
    branch = repos[0].branches[0].removeprefix(HEADS) if repos[0].branches else "main"
    return f"git push {cloud.gitiles.url}/{url.host}/{url.project} HEAD:{branch}"
