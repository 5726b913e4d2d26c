"""The configs in a folder, read without a scheduler: for questions about them while a local cloud runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import read_folder
from luci_scheduler.config.reader import ConfigError, ProjectConfig, read_config

__all__ = ["valid_configs", "watched_repositories"]

_KEPT = 64


def valid_configs(folder: Path, rules: ConfigRules) -> Iterator[ProjectConfig]:
    """Yield the valid configs of a folder with ``<project>/luci-scheduler.cfg``; an unchanged file is parsed once."""
    for file in read_folder(folder):
        if config := _config(file.project, file.text, rules):
            yield config


def watched_repositories(folder: Path, rules: ConfigRules) -> set[str]:
    """Return the repositories, ``https://<host>/<name>``, that valid configs watch."""
    return {repo for config in valid_configs(folder, rules) for repo in config.watchers}


@lru_cache(_KEPT)
def _config(project: str, text: str | bytes, rules: ConfigRules) -> ProjectConfig | None:
    """Return a project's config; None if it is not valid. Reading a large config takes a second."""
    try:
        return read_config(project, text, rules=rules)
    except ConfigError:
        return None
