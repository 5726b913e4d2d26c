"""The HTML pages of the GitHub server, for people: commits with their statuses, differences, and files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request, Response

from emulator.github.names import Found
from emulator.github.service import GitHubService
from emulator.github.statuses import CommitStatus, latest
from emulator.gitiles.browse import TEMPLATES, Site, commit_values, file_html, log_rows
from emulator.gitiles.errors import GitilesError
from emulator.gitiles.git import GitError
from emulator.gitiles.pages import RepositoryPages
from emulator.gitiles.projects import is_read_only, read_only_sentence
from emulator.serving.pages import templates
from luci_scheduler.core.foreign_text import escaped
from luci_scheduler.core.instants import format_rfc3339

__all__ = ["GitHubPages"]

_FOLDER = Path(__file__).parent / "templates"
_LATEST, _PAGE = "20", "50"  # commits of a repository's page, and of a branch's page
_RANGE = "250"  # commits of a comparison
_BRANCHES = 100
_COLORS = {"success": "success", "pending": "info", "failure": "danger", "error": "danger"}
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_PATH = re.compile(r"/([^/]+/[^/]+?)(?:\.git)?(?:/(commit|commits|tree|blob|compare)/(.+))?/?")


@dataclass(frozen=True, slots=True)
class _GitHubSite(Site):
    """A repository's addresses on the GitHub server."""

    @property
    def address(self) -> str:
        """The address of the repository's page."""
        return f"/{quote(self.name)}"

    @property
    def clone_url(self) -> str:
        """The address for ``git clone`` and ``git push``."""
        return f"{self.url}{quote(self.name)}.git"

    def commit(self, revision: str) -> str:
        """Return the address of a commit's page."""
        return f"{self.address}/commit/{quote(revision)}"

    def log(self, spec: str, **query: str) -> str:
        """Return the address of a branch's commits."""
        return f"{self.address}/commits/{quote(spec)}" + (f"?{urlencode(query)}" if query else "")

    def file(self, revision: str, path: str) -> str:
        """Return the address of a file or folder."""
        return f"{self.address}/blob/{quote(revision)}/{quote(path)}"


class GitHubPages:
    """Answers requests for pages."""

    def __init__(self, service: GitHubService) -> None:
        self._service = service

    def answer(self, request: Request) -> Response:
        """Return a page; 404 with advice if it does not exist, 405 for another method than GET."""
        if request.method not in {"GET", "HEAD"}:
            return Response("method not allowed\n", 405, {"Allow": "GET, HEAD"})
        texts = [request.path, *(value for values in request.args.listvalues() for value in values)]
        if any(_CONTROL_CHARACTER.search(text) for text in texts) or "/../" in f"{request.path}/":
            return self._missing(request, "The address is not one of a page.")
        if request.path == "/":
            return _html(self._repositories(request))
        match = _PATH.fullmatch(request.path)
        found = self._service.names.find(match[1]) if match else None
        if match is None or found is None:
            return self._missing(request, self._advice(request, match[1] if match else ""))
        try:
            return _html(self._page(request, found, match[2] or "", match[3] or ""))
        except GitilesError:
            return self._missing(request, "The repository has no such page.")
        except GitError as error:
            return self._missing(request, str(error), 500)

    def _repositories(self, request: Request) -> str:
        sites = [self._site(request, found) for found in self._service.names.all()]
        rows = [{"name": site.name, "address": site.address, "clone_url": site.clone_url} for site in sites]
        folder = self._service.root / self._service.site
        return self._render("repositories.html", self._site(request), rows=rows, folder=folder)

    def _page(self, request: Request, found: Found, view: str, argument: str) -> str:
        site = self._site(request, found)
        pages = RepositoryPages(found.path, self._service.state.faults.commits.hidden(), zones=False)
        if view == "commit":
            return self._commit(site, found, pages, argument)
        if view == "blob":
            revision, path = pages.split_revision(argument)
            return file_html(site, pages, revision, path)
        if view == "compare":
            return self._commits(request, site, found, pages, argument.replace("...", "..", 1))
        return self._commits(request, site, found, pages, argument)

    def _commit(self, site: Site, found: Found, pages: RepositoryPages, revision: str) -> str:
        values = commit_values(pages, revision)
        statuses = self._views(found, values["commit"]["id"])
        return self._render("commit_page.html", site, **values, statuses=statuses)

    def _commits(self, request: Request, site: Site, found: Found, pages: RepositoryPages, spec: str) -> str:
        """Return the commits of a branch or a range, or the repository's page if ``spec`` is empty."""
        head = "" if spec else pages.head().removeprefix("refs/heads/")
        page: Mapping[str, Any] = {"log": []}
        if spec or head:
            page = pages.log(spec or "HEAD", _log_query(request, spec))
        rows = log_rows(page)
        ends = {end: site.log(spec or head, s=page[end]) if end in page else "" for end in ("previous", "next")}
        return self._render(
            "commit_list.html",
            site,
            spec=spec,
            head=head,
            rows=rows,
            statuses={row["commit"]: self._views(found, row["commit"]) for row in rows},
            branches=[] if spec else _branches(pages),
            read_only=read_only_sentence(found.path) if is_read_only(found.path, self._service.root) else "",
            **ends,
        )

    def _views(self, found: Found, revision: str) -> list[dict[str, str]]:
        """Return the newest status of each check."""
        return [_view(status) for status in latest(self._service.state.statuses.of(found.name, revision))]

    def _site(self, request: Request, found: Found | None = None) -> Site:
        console_url = self._service.state.around.console_url
        return _GitHubSite(request.host_url, console_url, self._service.site, found.name if found else "")

    def _advice(self, request: Request, name: str) -> str:
        if not name:
            return "The address is not one of a page."
        return self._service.advice(request.host_url, name)

    def _missing(self, request: Request, advice: str, status: int = 404) -> Response:
        return _html(self._render("missing.html", self._site(request), advice=escaped(advice)), status)

    def _render(self, template: str, site: Site, **values: Any) -> str:
        page = templates(_FOLDER, TEMPLATES).get_template(template)
        return page.render(site=site, server="GitHub", console_url=site.console_url, **values)


def _log_query(request: Request, spec: str) -> MultiDict[str, str]:
    query = MultiDict({"n": (_RANGE if ".." in spec else _PAGE) if spec else _LATEST})
    if start := request.args.get("s"):
        query["s"] = start
    return query


def _branches(pages: RepositoryPages) -> Sequence[Mapping[str, str]]:
    return [
        {"name": row.ref.removeprefix("refs/heads/"), "commit": row.commit, "subject": row.subject}
        for row in pages.latest_refs("refs/heads", _BRANCHES)
    ]


def _view(status: CommitStatus) -> dict[str, str]:
    """Return a status for a template. Its texts are foreign, and only a web address becomes a link."""
    url = status.target_url
    return {
        "state": status.state,
        "color": _COLORS[status.state],
        "context": escaped(status.context),
        "description": escaped(status.description),
        "url": url if url.startswith(("https://", "http://")) else "",
        "time": format_rfc3339(status.created),
    }


def _html(page: str, status: int = 200) -> Response:
    return Response(page, status, {"Cache-Control": "no-cache"}, content_type="text/html; charset=utf-8")
