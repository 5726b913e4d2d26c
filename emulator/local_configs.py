"""The configs in a folder, read without a scheduler: for questions about them while a local cloud runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import read_folder
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config

__all__ = ["ProjectFile", "is_watched", "project_files", "valid_configs"]

_KEPT = 64


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A project and its config file."""

    project: str
    config: ProjectConfig | None
    """None if the file is not valid."""
    problem: str = ""
    """The first problem; empty if there is none."""


def project_files(folder: Path, rules: ConfigRules) -> Iterator[ProjectFile]:
    """Yield the projects of a folder with ``<project>/luci-scheduler.cfg``; an unchanged file is parsed once."""
    for file in read_folder(folder):
        yield ProjectFile(file.project, None, file.error) if file.error else _read(file.project, file.text, rules)


def valid_configs(folder: Path, rules: ConfigRules) -> Iterator[ProjectConfig]:
    """Yield the valid configs of a folder."""
    return (file.config for file in project_files(folder, rules) if file.config is not None)


def is_watched(folder: Path, rules: ConfigRules, repo: str) -> bool:
    """Return whether a valid config watches a repository, ``https://<host>/<name>``."""
    return any(repo in config.watchers for config in valid_configs(folder, rules))


@lru_cache(_KEPT)
def _read(project: str, text: str | bytes, rules: ConfigRules) -> ProjectFile:
    """Return a project's file. Reading a large config takes a second."""
    try:
        return ProjectFile(project, read_config(project, text, rules=rules))
    except ConfigError as error:
        return ProjectFile(project, None, str(error.problems[0]))
