"""The projects and repositories of a local cloud, as the configs in its folder name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from emulator.branches import HEADS, WatchedRepo, watched_repos
from emulator.gitiles.projects import find_repository
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import read_folder
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config
from luci_scheduler.core.repo_url import parse_repo_url

__all__ = ["ProjectFile", "project_files", "push_command", "watched"]

_KEPT = 64


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A project and its config file."""

    project: str
    config: ProjectConfig | None
    """None if the file is not valid."""
    problem: str = ""
    """The first problem; empty if there is none."""


def project_files(folder: Path, rules: ConfigRules) -> list[ProjectFile]:
    """Return the projects with a config in a folder, sorted by name."""
    return [
        ProjectFile(file.project, None, file.error) if file.error else _read(file.project, file.text, rules)
        for file in read_folder(folder)
    ]


def watched(cloud: LocalCloud) -> list[WatchedRepo]:
    """Return the repositories that the valid configs watch, sorted by URL."""

    def existing(repo: str) -> Sequence[str]:
        url = parse_repo_url(repo)
        path = find_repository(cloud.repositories / url.host, url.project)
        return Repository(path).branches() if path else []

    files = project_files(cloud.configs, cloud.options.config_rules)
    return watched_repos((file.config for file in files if file.config is not None), existing)


def push_command(cloud: LocalCloud, repos: Sequence[WatchedRepo]) -> str:
    """Return the command that pushes the current branch to the first watched repository; empty if there is none."""
    if not repos:
        return ""
    url = parse_repo_url(repos[0].repo)
    branch = repos[0].branches[0].removeprefix(HEADS) if repos[0].branches else "main"
    return f"git push {cloud.gitiles.url}/{url.host}/{url.project} HEAD:{branch}"


@lru_cache(_KEPT)
def _read(project: str, text: str | bytes, rules: ConfigRules) -> ProjectFile:
    """Return a project's file. Reading a large config takes a second."""
    try:
        return ProjectFile(project, read_config(project, text, rules=rules))
    except ConfigError as error:
        return ProjectFile(project, None, str(error.problems[0]))
