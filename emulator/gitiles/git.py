"""Calling the ``git`` program, cut off from the user's own settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from emulator.errors import LocalCloudError

__all__ = ["GitError", "git"]

# Only what git needs to run: no user's or system's settings, no prompts, the same output everywhere.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_LITERAL_PATHSPECS": "1",  # a path is a name: no wildcards, no ":(exclude)"
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": os.devnull,
    "LC_ALL": "C",
    "TZ": "UTC",
}
_TIMEOUT_SECONDS = 60


class GitError(LocalCloudError):
    """Git refused, or could not run; the text is its standard error, or the reason why it did not run."""


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git on a repository (bare, or a folder with ``.git``) and return its output.

    Raises:
        GitError: it fails, takes longer than a minute, or is not installed.
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
        raise GitError("there is no program git: install it, so that `git` is on the PATH") from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git {arguments[0]} did not run on {repository}: {error}") from error
    if result.returncode != 0:
        raise GitError(result.stderr.decode(errors="replace").strip())
    return result.stdout
