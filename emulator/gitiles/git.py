"""Runs the ``git`` program without the user's settings."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from emulator.errors import LocalCloudError

__all__ = ["GitError", "MissingGitError", "explained", "git", "git_beginning", "git_environment", "require_git"]

_MISSING = (
    "git is not installed: install it so that `git` is on the PATH (`apt-get install git`, `dnf install git`, "
    "or on macOS `xcode-select --install`)"
)
# A served repository may be a clone of foreign work, so its own settings start no program and no transfer.
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.alternateRefsCommand": "true",  # the program `true`, which prints no refs
    "log.showSignature": "false",  # else it starts the repository's gpg.program
}
# The whole environment of git: no settings of user or system, no prompts, the same output everywhere.
_ENVIRONMENT = {
    # A partial clone would fetch missing objects from its remote, through a program that its settings may name.
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_LITERAL_PATHSPECS": "1",  # paths are literal: no wildcards, no ":(exclude)"
    "GIT_NO_REPLACE_OBJECTS": "1",  # a pushed refs/replace/... would show other contents under the hash of a commit
    "GIT_OPTIONAL_LOCKS": "0",  # reading writes nothing
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": os.devnull,
    "LC_ALL": "C",
    "TZ": "UTC",
}
_TIMEOUT_SECONDS = 60


class GitError(LocalCloudError):
    """Git failed or did not run; the text is its standard error or the reason."""


class MissingGitError(GitError):
    """There is no program ``git``."""

    def __init__(self) -> None:
        super().__init__(_MISSING)


def git_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of git, with further ``settings`` that override the repository's."""
    every = {**_SETTINGS, **(settings or {})}
    pairs: dict[str, str] = {}
    for index, (name, value) in enumerate(every.items()):
        pairs |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, **_ENVIRONMENT, "GIT_CONFIG_COUNT": str(len(every)), **pairs}


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git on a repository (bare, or a folder with ``.git``) and return the output.

    No hook and no other program of the repository's settings runs, and git fetches nothing from other machines.

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
            env=git_environment(),
        )
    except FileNotFoundError as error:
        raise MissingGitError from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git {arguments[0]} did not run on {repository}: {error}") from error
    if result.returncode != 0:
        raise GitError(explained(result.stderr.decode(errors="replace").strip()))
    return result.stdout


def git_beginning(repository: Path, limit: int, *arguments: str) -> bytes:
    """Run git as `git` does, and return at most ``limit`` bytes of its output; the rest is never made.

    Raises:
        GitError: git is not installed.
    """
    try:
        with subprocess.Popen(
            ["git", "-C", str(repository), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
        ) as process:
            timer = threading.Timer(_TIMEOUT_SECONDS, process.kill)
            timer.start()
            try:
                return cast("IO[bytes]", process.stdout).read(limit)
            finally:
                process.kill()
                timer.cancel()
    except FileNotFoundError as error:
        raise MissingGitError from error


def explained(message: str) -> str:
    """Return git's message, with advice that holds here if git distrusts the owner of a repository."""
    if "dubious ownership" not in message:
        return message
    place = message.partition("'")[2].partition("'")[0]
    return f"{place} belongs to another user, and git does not trust it: clone it, and use the clone"


def require_git() -> None:
    """Check that git runs.

    Raises:
        GitError: it is not installed; the text says how to install it.
    """
    git(Path(), "--version")
