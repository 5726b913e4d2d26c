"""Repository URLs, and how Gitiles writes them. `commit_hosts` reads those of all hosts."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import unquote, urlsplit

from luci_scheduler.core.frozen import frozen

__all__ = ["BadRepoUrlError", "RepoUrl", "parse_repo_url"]


_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.googlesource\.com")
"""A name only: with ``user@`` or a port, the text before ``.googlesource.com`` could name another server."""


class BadRepoUrlError(ValueError):
    """The text is not the URL of a Gitiles repository. The message gives the reason, without the URL."""


@frozen
class RepoUrl:
    """A repository on a commit host, e.g. host ``dawn.googlesource.com``, project ``tint``.

    On GitHub, host and project are in lower case, and the project is ``owner/name``.
    """

    host: str
    project: str

    def __str__(self) -> str:
        return f"https://{self.host}/{self.project}"

    @classmethod
    def read_back(cls, normalized: str) -> Self:
        """Return the repository whose ``str`` is ``normalized``: a commit event or a document holds it."""
        host, _, project = normalized.removeprefix("https://").partition("/")
        return cls(host, project)


def parse_repo_url(text: str) -> RepoUrl:
    """Read the URL of a repository on Gitiles, from a config or a trigger.

    ``/a/`` in front and ``.git`` or ``/`` at the end are dropped.

    Raises:
        BadRepoUrlError: another scheme or host, or a path, query or fragment that no repository has.
    """
    if not text.isprintable() or " " in text:  # the parser silently drops some of these
        raise BadRepoUrlError("not a URL: invalid character")
    try:
        parts = urlsplit(text)
        host = parts.netloc
    except ValueError as error:
        raise BadRepoUrlError(f"not a URL: {error}") from error
    # In the original's order: the first fault is the error.
    faults = {
        "only https scheme is supported": parts.scheme != "https",
        "only .googlesource.com repos are supported": not _HOST.fullmatch(host),
        "repo URL must not have query": bool(parts.query) or text.partition("#")[0].endswith("?"),
        "repo URL must not have fragment": bool(parts.fragment),
        "repo URL path must not contain +": "+" in unquote(parts.path),
        "repo URL path must start with a slash": not parts.path.startswith("/"),
        "repo URL path must be not just a slash": parts.path == "/",
    }
    for fault, found in faults.items():
        if found:
            raise BadRepoUrlError(fault)
    project = parts.path.removeprefix("/a/").strip("/").removesuffix(".git").rstrip("/")
    if not project:
        raise BadRepoUrlError("repo URL path must be not just a slash")
    return RepoUrl(host, project)
