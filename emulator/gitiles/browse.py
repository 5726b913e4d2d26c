"""The HTML pages of the Gitiles server, for people: repositories, branches, logs, commits with differences, files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from werkzeug.datastructures import MultiDict

from emulator.gitiles.errors import GitilesError
from emulator.gitiles.pages import RefRow, RepositoryPages
from emulator.gitiles.projects import is_read_only, projects, read_only_sentence, repository_path
from emulator.serving.pages import templates

__all__ = [
    "TEMPLATES",
    "Site",
    "commit_html",
    "commit_values",
    "file_html",
    "hosts_html",
    "log_html",
    "log_rows",
    "repository_html",
]

TEMPLATES = Path(__file__).parent / "templates"
_LATEST = 20  # commits of a repository's page
_REFS = 100  # branches, and as many tags
_PAGE = "50"  # commits of a log's page
_FILES = 500  # of a commit's page
_BYTES = 1 << 18  # of a difference or a file on a page
_KINDS = {"+": "add", "-": "del", "@": "hunk"}
_SHOWN = {"add": "added", "modify": "changed", "delete": "deleted", "rename": "renamed", "copy": "copied"}


@dataclass(frozen=True, slots=True)
class Site:
    """A repository's addresses."""

    url: str
    """The base address of the server, with a slash at the end."""
    console_url: str
    """The console; empty if there is none."""
    host: str = ""
    """The Gitiles host; empty for a repository directly below the root."""
    name: str = ""
    """The repository's name on the host; empty for the list of repositories."""

    @property
    def path(self) -> str:
        """The repository's path without a slash at the front, such as ``dawn.googlesource.com/tint``."""
        return f"{self.host}/{self.name}" if self.host else self.name

    @property
    def address(self) -> str:
        """The address of the repository's page."""
        return f"/{quote(self.path)}"

    @property
    def clone_url(self) -> str:
        """The address for ``git clone`` and ``git push``."""
        return f"{self.url}{quote(self.path)}"

    def commit(self, revision: str) -> str:
        """Return the address of a commit's page."""
        return f"{self.address}/+/{quote(revision)}"

    def log(self, spec: str, **query: str) -> str:
        """Return the address of a log's page; the query may name the first commit (``s``) and the size (``n``)."""
        return f"{self.address}/+log/{quote(spec)}" + (f"?{urlencode(query)}" if query else "")

    def file(self, revision: str, path: str) -> str:
        """Return the address of a file or folder."""
        return f"{self.address}/+/{quote(revision)}/{quote(path)}"

    def outcome(self, revision: str) -> str:
        """Return the address of the console's page about a commit."""
        return f"{self.console_url}/commits?{urlencode({'repo': f'https://{self.path}', 'revision': revision})}"


def hosts_html(site: Site, root: Path, host: str, watched: Collection[str]) -> str:
    """Return the list of repositories, and of watched repositories that are missing.

    Args:
        site: the addresses.
        root: the folder with a folder for each host.
        host: the only host to list; empty: all.
        watched: the addresses of the repositories that configs watch.
    """
    below = root / host
    hosts: dict[str, list[dict[str, str]]] = {}
    for name, found in projects(below, site.url).items():
        own_host, _, rest = name.partition("/") if not host and ".googlesource.com/" in name else (host, "", name)
        own = Site(site.url, site.console_url, own_host, rest)
        about = found.get("description", "")
        row = {"name": rest, "address": own.address, "clone_url": own.clone_url, "about": about}
        hosts.setdefault(own_host, []).append(row)
    present = {f"https://{own_host}/{row['name']}" for own_host, rows in hosts.items() for row in rows}
    missing = [_missing(site, root, repo) for repo in sorted(set(watched) - present)] if not host else []
    return _render("hosts.html", site, hosts=hosts.items(), missing=missing, folder=root)


def _missing(site: Site, root: Path, repo: str) -> dict[str, Any]:
    host, _, name = repo.removeprefix("https://").partition("/")
    return {
        "repo": repo,
        "clone_url": Site(site.url, "", host, name).clone_url,
        "folder": repository_path(root / host, name) or root / host,
    }


def repository_html(site: Site, pages: RepositoryPages, repository: Path, root: Path, about: str) -> str:
    """Return the page of a repository below ``root``: its latest commits, branches and tags."""
    head, rows = pages.head(), []
    if head:
        rows = log_rows(pages.log("HEAD", MultiDict({"n": str(_LATEST)})))
    groups = [(title, _ref_views(pages.latest_refs(folder, _REFS), folder)) for title, folder in _REF_FOLDERS]
    return _render(
        "repository.html",
        site,
        about=about,
        read_only=read_only_sentence(repository) if is_read_only(repository, root) else "",
        head=head.removeprefix("refs/heads/"),
        rows=rows,
        groups=groups,
        most=_REFS,
    )


_REF_FOLDERS = (("Branches", "refs/heads"), ("Tags", "refs/tags"))


def _ref_views(rows: Sequence[RefRow], folder: str) -> list[dict[str, str]]:
    return [
        {
            "ref": row.ref,
            "name": row.ref.removeprefix(f"{folder}/"),
            "commit": row.commit,
            "subject": row.subject,
            "time": row.time,
        }
        for row in rows
    ]


def log_html(site: Site, pages: RepositoryPages, spec: str, query: MultiDict[str, str]) -> str:
    """Return a page of a log, such as that of a branch."""
    wanted = query.copy()
    wanted.setdefault("n", _PAGE)
    page, spec = pages.log(spec, wanted), spec or "HEAD"
    size = {"n": query["n"]} if "n" in query else {}
    ends = {end: site.log(spec, s=page[end], **size) if end in page else "" for end in ("previous", "next")}
    return _render("log.html", site, spec=spec, rows=log_rows(page), **ends)


def log_rows(page: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of a page of a log: commit, subject, author and time."""
    return [
        {
            "commit": entry["commit"],
            "subject": _split(entry["message"])[0],
            "author": entry["author"]["name"],
            "time": f"{entry['committer']['time']} UTC",
        }
        for entry in page["log"]
    ]


def commit_html(site: Site, pages: RepositoryPages, revision: str) -> str:
    """Return a commit's page: message, people, parents, changed files, and the beginning of the difference."""
    return _render("commit.html", site, **commit_values(pages, revision))


def commit_values(pages: RepositoryPages, revision: str) -> dict[str, Any]:
    """Return the values of the template ``commit.html``."""
    found = pages.commit(revision)
    subject, body = _split(found["message"])
    commit = {
        "id": found["commit"],
        "subject": subject,
        "body": body,
        "author": _person(found["author"]),
        "committer": _person(found["committer"]),
        "parents": found["parents"],
    }
    changes = [_change(change) for change in found["tree_diff"][:_FILES]]
    text, is_cut = pages.difference(found["commit"], _BYTES)
    left_out = max(0, len(found["tree_diff"]) - _FILES)
    lines = list(_diff_lines(text))
    return {"commit": commit, "changes": changes, "left_out": left_out, "lines": lines, "is_cut": is_cut}


def _person(found: Mapping[str, str]) -> dict[str, str]:
    return {**found, "time": f"{found['time']} UTC"}


def _change(change: Mapping[str, Any]) -> dict[str, str]:
    is_gone = change["type"] == "delete"
    moved = change["type"] in ("rename", "copy")
    return {
        "type": _SHOWN[change["type"]],
        "path": change["old_path"] if is_gone else change["new_path"],
        "old_path": change["old_path"] if moved else "",
    }


def _diff_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a difference with its kind: ``file``, ``hunk``, ``add``, ``del``, or nothing."""
    in_hunk = False
    for line in text.rstrip("\n").split("\n") if text else ():
        if line.startswith("diff --git "):
            in_hunk = False
            yield "file", line
            continue
        in_hunk = in_hunk or line.startswith("@@")
        yield (_KINDS.get(line[:1], "") if in_hunk else ""), line


def file_html(site: Site, pages: RepositoryPages, revision: str, path: str) -> str:
    """Return the page of a file, or of a folder's entries."""
    kind, identifier, _ = pages.entry(revision, path)
    values: dict[str, Any] = {"revision": revision, "path": path, "parent": path.rpartition("/")[0]}
    if kind == "tree":
        prefix = f"{path}/" if path else ""
        entries = [
            {"name": entry["name"], "path": f"{prefix}{entry['name']}", "is_folder": entry["type"] == "tree"}
            for entry in pages.tree(revision, path)["entries"]
        ]
        return _render("file.html", site, **values, entries=entries, text=None, size=0, is_cut=False)
    if kind != "blob":
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    raw, size = pages.beginning(identifier, _BYTES)
    text = None if b"\0" in raw else raw.decode(errors="replace")
    return _render("file.html", site, **values, entries=None, text=text, size=size, is_cut=size > len(raw))


def _split(message: str) -> tuple[str, str]:
    """Return the subject of a message and the rest."""
    subject, _, body = message.strip().partition("\n")
    return subject, body.strip("\n")


def _render(template: str, site: Site, **values: Any) -> str:
    page = templates(TEMPLATES).get_template(template)
    return page.render(site=site, server="Gitiles", console_url=site.console_url, **values)
