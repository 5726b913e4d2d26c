"""The Gitiles server's WSGI application: paths, formats, errors and faults."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from emulator.gitiles.browse import Site, commit_html, file_html, hosts_html, log_html, repository_html
from emulator.gitiles.errors import GitilesError, error_response
from emulator.gitiles.faults import GitilesFault
from emulator.gitiles.git import GitError, MissingGitError
from emulator.gitiles.git_service import GitService, missing_advice
from emulator.gitiles.pages import RepositoryPages
from emulator.gitiles.projects import description, find_repository, projects
from emulator.gitiles.smart_http import split_service
from emulator.gitiles.state import GitilesRequest, GitilesState
from emulator.serving.control import ControlEndpoint, Handler, state_handlers
from emulator.serving.responses import compress, cut_connection, truncated

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["GitilesApp", "dump_json"]

_GUARD = ")]}'\n"
_ESCAPED = re.compile("[<>&='\u2028\u2029]")
_FULL_HASH = re.compile(r"[0-9a-f]{40}")
_CACHED = "private, max-age=7200, stale-while-revalidate=604800"
_UNCACHED = "no-cache, no-store, max-age=0, must-revalidate"
_ERROR_CODES = {
    401: "NOT_AUTHORIZED",
    403: "NOT_AUTHORIZED",
    404: "OBJECT_NOT_FOUND",
}
_HOSTS = ".googlesource.com"
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_LONGEST_PATH, _LONGEST_NAME = 2048, 255  # bytes; file systems refuse longer names
_EFFECTS = frozenset({"error", "slow", "cut", "cut_body"})
_SETTINGS = frozenset({"zones", "errors", "strict_auth"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """The target of a request: the folder of the host, and the path without host and ``/a``."""

    root: Path
    host: str
    authenticated: bool
    path: str


class GitilesApp:
    """Serves the repositories below ``root``, and the control endpoint."""

    def __init__(self, root: Path, state: GitilesState) -> None:
        self._root = root
        self._state = state
        self._git = GitService(root, state)
        self._handlers: dict[tuple[str, str], Handler] = {
            **state_handlers(state),
            ("GET", "status"): lambda _body: {},
            ("POST", "faults"): self._add_fault,
            ("POST", "hidden"): lambda body: state.faults.hide(str(body["commit"]), body.get("times")),
            ("DELETE", "hidden"): lambda body: state.faults.reveal(str(body["commit"])),
            ("POST", "settings"): self._set,
        }
        self._control = ControlEndpoint(lambda method, path: self._handlers.get((method, path)))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        if request.path.startswith("/control/"):
            return self._control(request, request.path.removeprefix("/control/"))(environ, start_response)
        target = self._target(request.path)
        faults = self._state.faults.use(lambda fault: fault.matches(target.path))
        response = self._fail(faults) or self._respond(request, target)
        is_cut = any(fault.effect == "cut" for fault in faults)
        self._log(request, target, None if is_cut else response)
        if is_cut:
            cut_connection(environ)
        if any(fault.effect == "cut_body" for fault in faults):
            response = truncated(environ, response)
        if not _is_git(response):
            compress(request, response)
        return response(environ, start_response)

    def _log(self, request: Request, target: _Target, response: Response | None) -> None:
        """Record a request and its response; None means that the connection is cut."""
        status = response.status_code if response is not None else 0
        answer = "" if response is None or _is_git(response) else response.get_data(as_text=True)
        query = request.query_string.decode()
        self._state.log.add(
            GitilesRequest(target.path, query, target.host, target.authenticated, status, answer),
        )

    def _target(self, path: str) -> _Target:
        root, host = self._root, ""
        if match := re.match(r"/h/([^/]+)(?=/|$)", path):
            host, path = match[1], path[match.end() :] or "/"
            root = self._root / host
        authenticated = path == "/a" or path.startswith("/a/")
        return _Target(root, host, authenticated, path.removeprefix("/a") if authenticated else path)

    def _fail(self, faults: list[GitilesFault]) -> Response | None:
        """Delay the request, or return the response of the first fault that fails it."""
        for fault in faults:
            if fault.effect == "slow":
                self._state.stopping.wait(fault.seconds)
            elif fault.effect == "error":
                error = GitilesError(fault.status, _ERROR_CODES.get(fault.status, "INTERNAL_SERVER_ERROR"))
                return error_response(error, self._state.errors, "injected")
        return None

    def _respond(self, request: Request, target: _Target) -> Response:
        try:
            if service := split_service(target.path):
                _check_text(request)
                host, name = _host_and_name(target, service[0])
                return self._git.answer(request, host, name, service[1])
            if request.method not in {"GET", "HEAD"}:
                return Response("method not allowed\n", 405, {"Allow": "GET, HEAD"})
            _check_text(request)
            self._check_token(request, target)
            return self._page(request, target)
        except GitilesError as error:
            return error_response(error, self._state.errors, request.full_path)
        except GitError as error:
            advice = str(error) if isinstance(error, MissingGitError) else ""
            failure = GitilesError(500, "INTERNAL_SERVER_ERROR", advice)
            return error_response(failure, self._state.errors, request.full_path)

    def _check_token(self, request: Request, target: _Target) -> None:
        """Refuse an unknown token. Requests without ``/a`` need none."""
        known = request.headers.get("Authorization", "").startswith("Bearer fake:")
        if self._state.strict_auth and target.authenticated and not known:
            raise GitilesError(401, "NOT_AUTHORIZED")

    def _page(self, request: Request, target: _Target) -> Response:
        kind = request.args.get("format", "HTML").upper()
        if kind not in {"JSON", "TEXT", "HTML"}:
            raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
        if target.host.startswith("."):
            raise GitilesError(404, "REPOSITORY_NOT_FOUND")
        if target.path.strip("/") == "":
            return self._projects(request, target, kind)
        name, plus, rest = target.path.lstrip("/").partition("/+")
        repository = find_repository(target.root, name)
        host, name = _host_and_name(target, name)
        if repository is None:
            raise self._missing(request, host, name)
        faults = self._state.faults
        pages = RepositoryPages(repository, faults.hidden(), zones=self._state.zones and kind != "HTML")
        try:
            if kind != "HTML":
                return _repository_page(pages, plus, rest, request, kind)
            site = Site(request.host_url, self._state.around.console_url, host, name)
            return _html(self._html_page(site, pages, repository, plus, rest, request))
        finally:
            faults.count_hidden(pages.missed)

    def _html_page(
        self, site: Site, pages: RepositoryPages, repository: Path, plus: str, rest: str, request: Request
    ) -> str:
        """Return a page of a repository for people; ``rest`` is the path after ``/+``, such as ``log/main``."""
        view, _, argument = rest.partition("/")
        if not plus or view == "refs":
            return repository_html(site, pages, repository, self._root, description(repository))
        if view == "log":
            return log_html(site, pages, argument.strip("/"), request.args)
        if view in {"", "show"} and argument:
            revision, path = pages.split_revision(argument)
            if path or argument.endswith("/"):
                return file_html(site, pages, revision, path)
            return commit_html(site, pages, revision)
        raise GitilesError(404, "CANNOT_PARSE_GITILES_VIEW")

    def _projects(self, request: Request, target: _Target, kind: str) -> Response:
        around = self._state.around
        if kind == "HTML":
            site = Site(request.host_url, around.console_url)
            return _html(hosts_html(site, self._root, target.host, around.watched()))
        base = f"{request.host_url}{target.host}/" if target.host else request.host_url
        return _reply(projects(target.root, base), kind, _UNCACHED)

    def _missing(self, request: Request, host: str, name: str) -> GitilesError:
        advice = missing_advice(self._root, request.host_url, host, name) if host and name else ""
        if advice:
            self._state.around.missing(f"https://{host}/{name}", advice)
        return GitilesError(404, "REPOSITORY_NOT_FOUND", advice)

    def _add_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in _EFFECTS:
            raise ValueError(f"no such fault: {body}")
        self._state.faults.add(GitilesFault(**body))

    def _set(self, body: Mapping[str, Any]) -> None:
        if body.get("errors", "hosted") not in {"hosted", "open"} or body.keys() - _SETTINGS:
            raise ValueError(f"unknown settings: {body}")
        state = self._state
        state.zones = bool(body.get("zones", state.zones))
        state.errors = body.get("errors", state.errors)
        state.strict_auth = bool(body.get("strict_auth", state.strict_auth))


def _host_and_name(target: _Target, path: str) -> tuple[str, str]:
    """Return the host and the name of a repository; without ``/h/`` the path may begin with the host."""
    name = path.strip("/").removesuffix(".git")
    if target.host:
        return target.host, name
    host, slash, rest = name.partition("/")
    return (host, rest) if slash and host.endswith(_HOSTS) else ("", name)


def _is_git(response: Response) -> bool:
    return response.is_streamed or (response.content_type or "").startswith("application/x-git-")


def _html(page: str) -> Response:
    return Response(page, 200, {"Content-Type": "text/html; charset=utf-8", "Cache-Control": _UNCACHED})


def _repository_page(pages: RepositoryPages, plus: str, rest: str, request: Request, kind: str) -> Response:
    """Return a page of a repository; ``rest`` is the path after ``/+``, such as ``log/main``."""
    view, _, argument = rest.partition("/")
    cache = _CACHED if _FULL_HASH.match(argument.rpartition("..")[2]) else _UNCACHED
    if not plus:
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    if view == "log":
        return _reply(pages.log(argument, request.args), _no_text(kind), cache)
    if view == "refs":
        return _refs(pages.refs(argument.strip("/")), kind)
    if view in {"", "show"} and argument:
        return _show(pages, argument, kind, cache)
    raise GitilesError(404, "CANNOT_PARSE_GITILES_VIEW")


def _check_text(request: Request) -> None:
    """Refuse text that can be neither a ref nor a file, because git and file systems fail at it in various ways."""
    path = request.path.encode()
    names = path.split(b"/")
    if _CONTROL_CHARACTER.search(request.path) or len(path) > _LONGEST_PATH or max(map(len, names)) > _LONGEST_NAME:
        raise GitilesError(400, "CANNOT_PARSE_GITILES_VIEW")
    if any(_CONTROL_CHARACTER.search(value) for values in request.args.listvalues() for value in values):
        raise GitilesError(400, "INCORECT_PARAMETER")
    if any(name in (b".", b"..") for name in names):
        raise GitilesError(404, "OBJECT_NOT_FOUND")


def dump_json(value: object) -> str:
    """Format JSON as Gitiles does: indented, with the characters that are special in HTML escaped inside strings."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _reply(value: object, kind: str, cache: str) -> Response:
    if kind == "TEXT":
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    headers = {"Cache-Control": cache, "X-Content-Type-Options": "nosniff"}
    headers |= {"Content-Type": "application/json; charset=utf-8", "Content-Disposition": "attachment"}
    return Response(f"{_GUARD}{dump_json(value)}\n", 200, headers)


def _refs(refs: Mapping[str, Mapping[str, str]], kind: str) -> Response:
    if kind == "TEXT":
        lines = "".join(f"{ref.get('value', '')} {name}\n" for name, ref in refs.items())
        return Response(lines, 200, {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": _UNCACHED})
    return _reply(refs, kind, _UNCACHED)


def _show(pages: RepositoryPages, argument: str, kind: str, cache: str) -> Response:
    revision, path = pages.split_revision(argument)
    is_folder = argument.endswith("/")
    if kind != "TEXT":
        return _reply(pages.tree(revision, path) if path or is_folder else pages.commit(revision), kind, cache)
    if not path and not is_folder:
        return _text(base64.b64encode(pages.raw_commit(revision)), "commit", 0, cache)
    entry_kind, identifier, mode = pages.entry(revision, path)
    return _text(pages.content(entry_kind, identifier), entry_kind, mode, cache)


def _text(body: bytes, kind: str, mode: int, cache: str) -> Response:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": cache, "X-Gitiles-Object-Type": kind}
    if mode:
        headers["X-Gitiles-Path-Mode"] = f"{mode:06o}"
    return Response(body, 200, headers)


def _no_text(kind: str) -> str:
    if kind == "TEXT":
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    return kind
