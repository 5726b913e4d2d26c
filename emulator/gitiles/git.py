"""Runs the ``git`` program without the user's settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from emulator.errors import LocalCloudError

__all__ = ["GitError", "git"]

# The whole environment of git: no settings of user or system, no prompts, the same output everywhere.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_LITERAL_PATHSPECS": "1",  # paths are literal: no wildcards, no ":(exclude)"
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": os.devnull,
    "LC_ALL": "C",
    "TZ": "UTC",
}
_TIMEOUT_SECONDS = 60


class GitError(LocalCloudError):
    """Git failed or did not run; the text is its standard error or the reason."""


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git on a repository (bare, or a folder with ``.git``) and return the output.

    Raises:
        GitError: git fails, takes longer than a minute, or is not installed.
    """
    try:
        result = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT},
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed: install it so that `git` is on the PATH") from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git {arguments[0]} did not run on {repository}: {error}") from error
    if result.returncode != 0:
        raise GitError(result.stderr.decode(errors="replace").strip())
    return result.stdout
