"""JSON of repositories, refs, tags, commits and files, in the shape of GitHub's REST description."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from emulator.github.names import Found
from emulator.gitiles.commits import Commit, Signature
from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import SECOND, Instant, format_rfc3339

__all__ = ["Addresses", "commit_to_json", "ref_to_json", "repository_to_json", "tag_to_json"]

_ID = 12  # digits of a hash in an opaque ID
_UNSIGNED = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses in the answers about one repository.

    Attributes:
        api: the base address of the API, without a slash at the end.
        site: the host.
        found: the repository.
    """

    api: str
    site: str
    found: Found

    def rest(self, path: str) -> str:
        """Return an address of the API below the repository."""
        return f"{self.api}/repos/{self.found.name}/{quote(path)}"

    def numbered(self, path: str) -> str:
        """Return an address of the API that a new name of the repository does not change."""
        return f"{self.api}/repositories/{self.found.id}/{path}"

    def page(self, path: str) -> str:
        """Return the address of a page on the host."""
        return f"https://{self.site}/{self.found.name}/{quote(path)}"


def repository_to_json(found: Found, site: str, now: Instant) -> dict[str, Any]:
    """Return a repository; its times are ``now``."""
    owner, _, name = found.name.partition("/")
    branch = Repository(found.path).head().removeprefix("refs/heads/") or "main"
    time = format_rfc3339(Instant(now // SECOND * SECOND))
    return {
        "id": found.id,
        "node_id": f"R_kwDO{found.id}",
        "name": name,
        "full_name": found.name,
        "private": False,
        "owner": {"login": owner, "id": zlib.crc32(owner.lower().encode()), "type": "Organization"},
        "html_url": f"https://{site}/{found.name}",
        "fork": False,
        "url": f"https://{site}/{found.name}",
        "created_at": time,
        "updated_at": time,
        "pushed_at": time,
        "git_url": f"git://{site}/{found.name}.git",
        "ssh_url": f"git@{site}:{found.name}.git",
        "clone_url": f"https://{site}/{found.name}.git",
        "size": 0,
        "default_branch": branch,
        "master_branch": branch,
        "visibility": "public",
        "archived": False,
        "disabled": False,
    }


def ref_to_json(addresses: Addresses, ref: str, value: str, kind: str) -> dict[str, Any]:
    """Return a ref; ``kind`` is the type of its object."""
    return {
        "ref": ref,
        "node_id": f"REF_kwDO{value[:_ID]}",
        "url": addresses.rest(f"git/{ref}"),
        "object": _object(addresses, value, kind),
    }


def _object(addresses: Addresses, value: str, kind: str) -> dict[str, str]:
    return {"sha": value, "type": kind, "url": addresses.rest(f"git/{kind}s/{value}")}


def tag_to_json(
    addresses: Addresses, value: str, fields: Mapping[str, str], tagger: Signature | None
) -> dict[str, Any]:
    """Return a tag object; the fields are ``object``, ``type``, ``tag`` and ``message``."""
    return {
        "node_id": f"TA_kwDO{value[:_ID]}",
        "sha": value,
        "url": addresses.rest(f"git/tags/{value}"),
        "tagger": _person(tagger) if tagger else None,
        "object": _object(addresses, fields["object"], fields["type"]),
        "tag": fields["tag"],
        "message": fields["message"],
        "verification": _UNSIGNED,
    }


def commit_to_json(addresses: Addresses, commit: Commit) -> dict[str, Any]:
    """Return a commit without its files."""
    url = addresses.rest(f"commits/{commit.id}")
    return {
        "sha": commit.id,
        "node_id": f"C_kwDO{commit.id[:_ID]}",
        "commit": {
            "author": _person(commit.author),
            "committer": _person(commit.committer),
            "message": commit.message.rstrip("\n"),
            "tree": {"sha": commit.tree, "url": addresses.rest(f"git/trees/{commit.tree}")},
            "url": addresses.rest(f"git/commits/{commit.id}"),
            "comment_count": 0,
            "verification": _UNSIGNED,
        },
        "url": url,
        "html_url": addresses.page(f"commit/{commit.id}"),
        "comments_url": f"{url}/comments",
        "author": None,
        "committer": None,
        "parents": [_parent(addresses, parent) for parent in commit.parents],
    }


def _parent(addresses: Addresses, value: str) -> dict[str, str]:
    page = addresses.page(f"commit/{value}")
    return {"sha": value, "url": addresses.rest(f"commits/{value}"), "html_url": page}


def _person(signature: Signature) -> dict[str, str]:
    time = format_rfc3339(Instant(signature.seconds * SECOND))
    return {"name": signature.name, "email": signature.email, "date": time}
