"""Commit hosts: the servers whose repositories jobs may watch, and how each kind of host writes its URLs.

Hosts below ``googlesource.com`` are always Gitiles. The setting ``SCHEDULER_COMMIT_HOSTS`` names all others. Code that
reads a repository's URL gets the hosts as a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from urllib.parse import quote, urlsplit

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import BRANCHES, TAGS
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url

__all__ = ["DEFAULT_HOSTS", "CommitHosts", "ConfiguredHost", "HostKind", "https_form"]

_GITHUB_API = "https://api.github.com"
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+(?<!\.[gG][iI][tT])")
"""The name of an owner or a repository on GitHub. A segment of dots would leave the repository's part of the API. After
``.git`` is dropped, a name that still ends in it would not read back as itself."""
_SSH = re.compile(r"(?:ssh://)?(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+)(?::[0-9]+/|[:/])([A-Za-z0-9._/-]+)")
"""The two forms that git reads as SSH: ``ssh://user@host/path`` and ``user@host:path``."""


class HostKind(StrEnum):
    """The software of a host."""

    GITILES = "gitiles"
    GITHUB = "github"


@frozen
class ConfiguredHost:
    """A host that the settings name."""

    kind: HostKind
    api: str
    """Base URL of the REST API, without a slash at the end."""
    credentials: bool = False
    """Whether the installation's GitHub credentials belong to this host. Only one host has them."""


@frozen
class CommitHosts:
    """The hosts of an installation."""

    configured: Mapping[str, ConfiguredHost] = field(
        default_factory=lambda: {"github.com": ConfiguredHost(HostKind.GITHUB, _GITHUB_API, credentials=True)}
    )
    """Name of the host, in lower case → the host."""

    def __hash__(self) -> int:
        return hash(frozenset(self.configured.items()))

    def parse(self, text: str) -> RepoUrl:
        """Read a repository's URL, as its host writes it.

        On GitHub, the case of owner and name does not count, so the result is in lower case; ``.git`` and ``/`` at the
        end are dropped. Any other host has the rule of Gitiles.

        Raises:
            BadRepoUrlError: the host is neither configured nor Gitiles, or the host has no such repositories.
        """
        if form := https_form(text):
            raise BadRepoUrlError(f"only https scheme is supported: write {form}")
        host = _host(text)
        return _parse_github(text, host) if host in self.configured else parse_repo_url(text)

    def problem(self, text: str) -> str:
        """Return why a URL on a configured host names no repository; empty for any other URL."""
        if _host(text) not in self.configured:
            return ""
        try:
            self.parse(text)
        except BadRepoUrlError as error:
            return str(error)
        return ""

    def knows(self, text: str) -> bool:
        """Whether the host of a URL is Gitiles or configured."""
        host = _host(text)
        return host in self.configured or host.endswith(".googlesource.com")

    def near(self, text: str) -> str:
        """Return the configured host that a URL without a known host seems to mean; empty if there is none.

        Such a URL has ``www.``, a user or a port, each of which could name another server.
        """
        try:
            host = (urlsplit(text).hostname or "").removeprefix("www.")
        except ValueError:
            return ""
        return host if host in self.configured else ""

    def kind(self, repo: RepoUrl) -> HostKind:
        """Return the kind of a repository's host."""
        return self._kind(repo.host)

    def commit_link(self, repo: str, revision: str) -> str:
        """Return the page of a commit; ``repo`` is the repository's URL in any spelling."""
        if self._kind(_host(repo)) is HostKind.GITHUB:
            return f"{_page(repo)}/commit/{revision}"
        return f"{repo}/+/{revision}"

    def ref_link(self, repo: str, ref: str) -> str:
        """Return the page of a ref, such as ``refs/heads/main``."""
        if self._kind(_host(repo)) is HostKind.GITHUB:
            return f"{_page(repo)}/tree/{quote(ref.removeprefix(BRANCHES).removeprefix(TAGS))}"
        return f"{repo.removesuffix('/')}/+/{quote(ref)}"

    def range_link(self, repo: str, old: str, new: str) -> str:
        """Return the page of the commits that lead to ``new`` but not to ``old``, both hashes."""
        if self._kind(_host(repo)) is HostKind.GITHUB:
            return f"{_page(repo)}/compare/{old}...{new}"
        return f"{repo.removesuffix('/')}/+log/{old}..{new}"

    def _kind(self, host: str) -> HostKind:
        found = self.configured.get(host)
        return found.kind if found else HostKind.GITILES


DEFAULT_HOSTS = CommitHosts()
"""The hosts of an installation whose settings name none: GitHub beside Gitiles."""


def https_form(text: str) -> str:
    """Return the https URL of a repository in one of git's two SSH forms; empty for any other text."""
    if not text.startswith("ssh://") and ("://" in text or "@" not in text):
        return ""
    match = _SSH.fullmatch(text)
    return f"https://{match[1]}/{match[2].strip('/').removesuffix('.git')}" if match else ""


def _host(text: str) -> str:
    """Return the part of a URL that names the host, in lower case; with a user or a port, no host has this name."""
    try:
        return urlsplit(text).netloc.lower()
    except ValueError:
        return ""


def _page(repo: str) -> str:
    return repo.rstrip("/").removesuffix(".git")


def _parse_github(text: str, host: str) -> RepoUrl:
    if not text.isprintable() or " " in text:  # the parser silently drops some of these
        raise BadRepoUrlError("not a URL: invalid character")
    parts = urlsplit(text)
    if parts.scheme != "https":
        raise BadRepoUrlError("only https scheme is supported")
    segments = parts.path.strip("/").removesuffix(".git").split("/")
    is_plain = text.lower().startswith(f"https://{host}/") and not any(mark in text for mark in "?#")
    if not is_plain or len(segments) != 2 or not all(map(_SEGMENT.fullmatch, segments)):  # noqa: PLR2004 - owner, name
        raise BadRepoUrlError(f"a repository's URL on this host is https://{host}/OWNER/NAME")
    return RepoUrl(host, "/".join(segments).lower())
