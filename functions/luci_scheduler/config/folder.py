"""Configs in a folder: ``<folder>/<project>/luci-scheduler.cfg``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from luci_scheduler.core.errors import PermanentError
from luci_scheduler.ports import ConfigFile

__all__ = ["FILE", "FolderSource", "read_folder"]

FILE = "luci-scheduler.cfg"
"""The name of the config file in a project's folder."""


def read_folder(folder: Path, revision: str = "") -> list[ConfigFile]:
    """Return the configs in a folder, sorted by project; ``revision`` defaults to each file's hash."""
    files = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        project = path.parent.name
        try:
            content = path.read_bytes()
        except OSError as error:
            files.append(ConfigFile(project, "", "", error=f"{project}/{FILE} cannot be read: {error.strerror}"))
            continue
        digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        files.append(ConfigFile(project, content, revision or digest))
    return files


class FolderSource:
    """A ``ports.ConfigSource`` that reads a folder: part of the deployed code, or on the local cloud's disk."""

    def __init__(self, folder: Path, revision: str = "") -> None:
        self._folder = folder
        self._revision = revision

    def configs(self, active_revision: Callable[[str], str]) -> list[ConfigFile]:  # noqa: ARG002 - reading is cheap
        """Read every config in the folder.

        Raises:
            PermanentError: the folder does not exist. To treat it as empty would remove every job.
        """
        if not self._folder.is_dir():
            raise PermanentError(f"the config folder {self._folder} does not exist")
        return read_folder(self._folder, self._revision)
