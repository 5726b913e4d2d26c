"""Calling the ``git`` program, cut off from the user's own settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["GitError", "git"]

# Only what git needs to run: no user's or system's settings, no prompts, the same output everywhere.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": os.devnull,
    "LC_ALL": "C",
    "TZ": "UTC",
}
_TIMEOUT_SECONDS = 60


class GitError(Exception):
    """Git refused; the text is what it wrote to standard error."""


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git on a repository (bare, or a folder with ``.git``) and return its output; GitError if it fails."""
    result = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
        env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT},
    )
    if result.returncode != 0:
        raise GitError(result.stderr.decode(errors="replace").strip())
    return result.stdout
