"""Watches a git repository of the user: the local cloud serves it in place, and a job runs for each of its commits.

Nothing is copied, and nothing is written into the repository. The local cloud's own folder gets a link to it and, if no
config names it, a config with a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import LocalCloudError
from emulator.gitiles.git import GitError, MissingGitError, git
from emulator.local_configs import watched_repositories
from emulator.settings import BUILDBUCKET_HOST
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.folder import FILE
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, HostKind, https_form
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl

__all__ = ["WATCH_HOST", "UserRepository", "choose_repository", "find_repository_of", "watch"]

WATCH_HOST = "local.googlesource.com"
"""The host of repositories that have no other address."""

_UNUSUAL = re.compile(r"[^a-z0-9]+")
_SOURCE = Path(__file__).parent
_CONFIG = """# The job build runs for each commit on a branch of {place}.
# Change it: the change is in force within two seconds.
trigger {{
  id: "commits"
  gitiles {{ repo: "{repo}" refs: "regexp:refs/heads/.*" }}
  triggers: "build"
}}
job {{
  id: "build"
  {task}
}}
"""
_BUILDBUCKET = f'buildbucket {{{{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "{{name}}" }}}}'
_CLOUD_BUILD = """\
# In the cloud, this image must have all programs that the script calls.
  cloud_build {{ steps {{ name: "ubuntu" script: {script} }} }}"""
_SCRIPT = 'echo "testing $COMMIT_SHA"'


@dataclass(frozen=True, slots=True)
class UserRepository:
    """A git repository of the user."""

    place: Path
    """The folder that the user knows: the top of the work tree, or the bare repository."""
    git_folder: Path
    """The folder with refs and objects; a work tree added by ``git worktree`` shares that of its repository."""
    name: str
    """For the project and the builder: lower-case letters, digits and hyphens."""
    repo: str
    """The address under which it is served, ``https://<host>/<name>``."""


def find_repository_of(path: Path) -> UserRepository | None:
    """Return the git repository that holds a folder; None if there is none.

    A clone of a repository on GitHub or on a Gitiles host is served under the address of its remote ``origin``, so that
    configs that name it work unchanged. Other repositories have addresses on `WATCH_HOST`.

    Raises:
        GitError: git is not installed, or refuses the repository.
    """
    folder = _ask_git(path, "rev-parse", "--path-format=absolute", "--git-common-dir")
    if not folder:
        return None
    place = Path(_ask_git(path, "rev-parse", "--path-format=absolute", "--show-toplevel") or folder)
    name = _UNUSUAL.sub("-", place.name.removesuffix(".git").lower()).strip("-") or "repository"
    origin = _ask_git(path, "config", "--get", "remote.origin.url")
    return UserRepository(place, Path(folder), name, _address(origin, name))


def _ask_git(path: Path, *arguments: str) -> str:
    """Return git's answer in one line; empty if it has none."""
    if not path.is_dir():
        return ""
    try:
        return git(path, *arguments).decode(errors="surrogateescape").removesuffix("\n")
    except MissingGitError:
        raise
    except GitError as error:
        if "belongs to another user" in str(error):
            raise
        return ""


def _address(origin: str, name: str) -> str:
    try:
        return str(DEFAULT_HOSTS.parse(https_form(origin) or origin))
    except BadRepoUrlError:
        return f"https://{WATCH_HOST}/{name}"


def choose_repository(
    wanted: Path | None, here: Path, ask: Callable[[str], bool] | None, say: Callable[[str], None]
) -> UserRepository | None:
    """Return the repository to watch: the wanted one, or the one around a folder if the user says yes.

    Args:
        wanted: a folder in the wanted repository; None: the user named none.
        here: the current folder.
        ask: asks the user a question; None if there is no terminal, and then `say` gets a hint.
        say: prints a line.

    Raises:
        LocalCloudError: the wanted folder is in no repository, or git is not installed.
    """
    if wanted is not None:
        found = find_repository_of(wanted)
        if found is None:
            remedy = "run git init there, or name" if wanted.is_dir() else "there is no such folder, so name"
            raise LocalCloudError(f"{wanted} is in no git repository: {remedy} another folder")
        return found
    try:
        found = find_repository_of(here)
    except GitError:
        return None  # the user did not ask for it
    if found is None or _SOURCE.is_relative_to(found.place):  # the local cloud's own source
        return None
    if ask is None:
        say(f"{found.place} is a git repository: with --watch {found.place} each of its commits starts a build")
        return None
    return found if ask(f"Start a build for each commit in {found.place}?") else None


def watch(
    found: UserRepository, repositories: Path, configs: Path, *, rules: ConfigRules, is_ours: bool, command: str = ""
) -> str:
    """Serve a repository from its place, and return a line that says so. Safe to repeat.

    Args:
        found: the repository.
        repositories: the local cloud's folder of repositories, which gets a link.
        configs: the folder of configs, which gets one for the repository if no config in it names the repository.
        rules: the rules by which configs are read.
        is_ours: whether the folder of configs is the local cloud's own. The user's folder gets nothing.
        command: the line of the shell that builds run, which becomes the step of a Cloud Build job; empty for none.

    Raises:
        LocalCloudError: another repository has the same address, or a folder cannot be written.
    """
    try:
        _link(found, repositories)
        is_named = found.repo in watched_repositories(configs, rules)
        if not is_named and is_ours:
            _add_config(found, configs, command)
    except OSError as error:
        raise LocalCloudError(f"{error.filename} cannot be written: {error.strerror}; name another folder") from error
    where = f"watching {found.place} as {found.repo}"
    if is_named:
        return f"{where}, as the configs in {configs} name it"
    if is_ours:
        return f"{where}: each commit on a branch starts {found.name}/build"
    return f"{where}; no config in {configs} names it: add a gitiles trigger with this address"


def _link(found: UserRepository, repositories: Path) -> None:
    url = RepoUrl.read_back(found.repo)
    link = repositories / url.host / url.project
    if link.is_symlink() and not link.exists():
        link.unlink()  # the repository that it led to has moved
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found.git_folder, target_is_directory=True)
    if link.resolve() != found.git_folder.resolve():
        raise LocalCloudError(f"{link} is another repository with the address {found.repo}: move it away")


def _add_config(found: UserRepository, configs: Path, command: str) -> None:
    file = configs / found.name / FILE
    if file.exists():
        raise LocalCloudError(f"{file} names another repository: add a gitiles trigger for {found.repo}, or move it")
    file.parent.mkdir(parents=True, exist_ok=True)
    place = str(found.place) if str(found.place).isprintable() else found.name
    file.write_text(_CONFIG.format(place=place, repo=found.repo, task=_task(found, command)), encoding="utf-8")


def _task(found: UserRepository, command: str) -> str:
    """Return the task of a job: for GitHub a build of Cloud Build, else one of Buildbucket."""
    if DEFAULT_HOSTS.kind(RepoUrl.read_back(found.repo)) is HostKind.GITHUB:
        return _CLOUD_BUILD.format(script=json.dumps(command or _SCRIPT, ensure_ascii=False))
    return _BUILDBUCKET.format(name=found.name)
