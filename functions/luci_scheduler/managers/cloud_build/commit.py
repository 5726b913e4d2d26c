"""The commit that an invocation builds, and comparisons of repositories. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from luci_scheduler.core import go_json, log_lines
from luci_scheduler.core.commit_hosts import https_form
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import BRANCHES, TAGS, is_hash
from luci_scheduler.core.go_text import quote

__all__ = ["Commit", "Log", "commit_of", "ref_name", "repo_name", "repository_problem", "same_repository"]

Log = Callable[[str], object]

_CASELESS_HOSTS = ("github.com",)


@frozen
class Commit:
    """A commit from the properties of an invocation."""

    revision: str
    """The hash, 40 or 64 lower-case hexadecimal digits."""
    repository: str = ""
    """The URL of the repository; empty if the properties name none."""
    ref: str = ""
    """The full ref on which it landed; empty if the properties name none."""


def commit_of(properties: Mapping[str, Any], log: Log) -> Commit | None:
    """Return the commit that the properties name; None without one.

    The newest gitiles trigger sets the properties ``revision``, ``repository`` and ``branch``, or an API caller does.
    """
    revision = properties.get("revision")
    if revision is None:
        return None
    if not is_hash(revision):
        shown = revision if isinstance(revision, str) else go_json.compact(revision)
        log(log_lines.REVISION_IGNORED.format(value=quote(shown)))
        return None
    return Commit(revision, _text(properties.get("repository")), _text(properties.get("branch")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ref_name(ref: str) -> dict[str, str]:
    """Return the built-in substitution that names a ref: of a branch or of a tag; empty for any other ref."""
    if ref.startswith(BRANCHES):
        return {"BRANCH_NAME": ref.removeprefix(BRANCHES)}
    return {"TAG_NAME": ref.removeprefix(TAGS)} if ref.startswith(TAGS) else {}


def repo_name(url: str) -> str:
    """Return the last part of a repository's path, without ``.git``."""
    return _path(url).rpartition("/")[2]


def same_repository(one: str, other: str) -> bool:
    """Whether two URLs name one repository, in any of the usual spellings."""
    return _key(one) == _key(other)


def repository_problem(url: str) -> str:
    """Return why a text is not the URL of a repository that Cloud Build can fetch; empty if it is one, or empty."""
    if not url:
        return ""
    if not url.isprintable() or " " in url:
        return "not a URL: invalid character"
    if form := https_form(url):
        return f"only https scheme is supported: write {form}"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return f"not a URL: {error}"
    faults = {
        "only https scheme is supported": parts.scheme != "https",
        "repo URL must have a host": not host,
        "repo URL must not have a user": "@" in parts.netloc,
        "repo URL must not have query": "?" in url.partition("#")[0],
        "repo URL must not have fragment": "#" in url,
        "repo URL path must be not just a slash": not parts.path.strip("/"),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _key(url: str) -> tuple[str, str]:
    host, path = _parts(url)
    return host, path.lower() if host in _CASELESS_HOSTS else path


def _path(url: str) -> str:
    return _parts(url)[1]


def _parts(url: str) -> tuple[str, str]:
    """Return host and path of a URL, which any caller of the API may have written; an unreadable one has no host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.netloc.lower(), parts.path.removeprefix("/a/").strip("/").removesuffix(".git").rstrip("/")
