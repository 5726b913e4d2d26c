"""Files and folders of a commit, as the contents API shows them."""

from __future__ import annotations

import base64
from typing import Any

from werkzeug.wrappers import Response

from emulator.github.errors import ApiError
from emulator.github.objects import Addresses
from emulator.gitiles.errors import GitilesError
from emulator.gitiles.git import GitError
from emulator.gitiles.pages import RepositoryPages
from emulator.gitiles.repository import SUBMODULE, SYMLINK

__all__ = ["blob", "contents"]

_INLINE = 1 << 20  # bytes of a file whose JSON has the content
_RAW = 100 << 20  # bytes of a file that the raw form has
_TOO_LARGE = "This API returns blobs up to 100 MB in size. The requested blob is too large to fetch via the API."


def contents(
    addresses: Addresses, revision: str, path: str, *, is_raw: bool
) -> list[dict[str, Any]] | dict[str, Any] | Response:
    """Return a folder's entries, a file with its content, or the file's bytes if ``is_raw``.

    Raises:
        ApiError: 404, there is nothing at the path; 403, the file is larger than 100 MiB.
    """
    pages = RepositoryPages(addresses.found.path, (), zones=False)
    path = path.strip("/")
    if ".." in path.split("/"):
        raise ApiError(404)
    try:
        kind, identifier, mode = pages.entry(revision, path)
    except GitilesError as error:
        raise ApiError(404) from error
    if kind == "tree":
        prefix = f"{path}/" if path else ""
        return [
            _entry(addresses, revision, f"{prefix}{entry['name']}", entry["id"], entry["mode"], 0)
            for entry in pages.tree(revision, path)["entries"]
        ]
    if kind != "blob":
        return _entry(addresses, revision, path, identifier, mode, 0)
    raw, size = _beginning(pages, identifier, _RAW if is_raw else _INLINE)
    if is_raw:
        return Response(raw, content_type="application/vnd.github.raw+json; charset=utf-8")
    is_inline = size <= _INLINE
    return {
        **_entry(addresses, revision, path, identifier, mode, size),
        "content": base64.encodebytes(raw).decode() if is_inline else "",
        "encoding": "base64" if is_inline else "none",
    }


def _beginning(pages: RepositoryPages, identifier: str, most: int) -> tuple[bytes, int]:
    """Return at most ``most`` bytes of a file, and its size; 403 if no form of the answer may have so many."""
    raw, size = pages.beginning(identifier, most)
    if size > _RAW:
        raise ApiError(403, _TOO_LARGE)
    return raw, size


def blob(addresses: Addresses, identifier: str) -> dict[str, Any]:
    """Return the content of a file by its hash.

    Raises:
        ApiError: 404, the hash is not that of a file; 403, the file is larger than 100 MiB.
    """
    try:
        raw, size = _beginning(RepositoryPages(addresses.found.path, (), zones=False), identifier, _RAW)
    except GitError as error:
        raise ApiError(404) from error
    return {
        "sha": identifier,
        "node_id": f"B_kwDO{identifier[:12]}",
        "size": size,
        "url": addresses.rest(f"git/blobs/{identifier}"),
        "content": base64.encodebytes(raw).decode(),
        "encoding": "base64",
    }


def _entry(addresses: Addresses, revision: str, path: str, identifier: str, mode: int, size: int) -> dict[str, Any]:
    kind = {SYMLINK: "symlink", SUBMODULE: "submodule", 0o40000: "dir"}.get(mode, "file")
    url = f"{addresses.rest(f'contents/{path}')}?ref={revision}"
    git_url = addresses.rest(f"git/{'trees' if kind == 'dir' else 'blobs'}/{identifier}")
    page = addresses.page(f"{'tree' if kind == 'dir' else 'blob'}/{revision}/{path}")
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": identifier,
        "size": size,
        "url": url,
        "html_url": page,
        "git_url": git_url,
        "download_url": addresses.page(f"raw/{revision}/{path}") if kind == "file" else None,
        "type": kind,
        "_links": {"self": url, "git": git_url, "html": page},
    }
