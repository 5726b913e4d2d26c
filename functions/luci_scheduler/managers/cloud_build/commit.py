"""The commit that an invocation builds, and comparisons of repositories. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from luci_scheduler.core import go_json, log_lines
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import BRANCHES, TAGS, is_hash
from luci_scheduler.core.go_text import quote

__all__ = ["Commit", "Log", "commit_of", "ref_name", "repo_name", "same_repository"]

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


def _key(url: str) -> tuple[str, str]:
    host, path = urlsplit(url).netloc.lower(), _path(url)
    return host, path.lower() if host in _CASELESS_HOSTS else path


def _path(url: str) -> str:
    return urlsplit(url).path.removeprefix("/a/").strip("/").removesuffix(".git").rstrip("/")
