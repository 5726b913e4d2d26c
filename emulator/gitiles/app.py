"""The Gitiles server's HTTP side: paths, formats, errors and faults."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from emulator.gitiles.errors import ErrorForm, GitilesError, error_response
from emulator.gitiles.faults import GitilesFault, GitilesFaults, RequestRecord
from emulator.gitiles.git import GitError
from emulator.gitiles.projects import find_repository, projects
from emulator.gitiles.views import RepositoryViews
from emulator.serving.local_server import compress, control_body, cut_after, cut_connection

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
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_LONGEST_PATH, _LONGEST_NAME = 2048, 255  # bytes; file systems take no longer names
_EFFECTS = frozenset({"error", "slow", "cut", "cut_body"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """What a path asks for: the host's folder, and the path without host and ``/a``."""

    root: Path
    host: str
    authenticated: bool
    path: str


class GitilesApp:
    """The WSGI application; see `GitilesServer` for what its attributes do."""

    def __init__(self, root: Path, *, zones: bool, errors: ErrorForm) -> None:
        self._root = root
        self.zones = zones
        self.errors: ErrorForm = errors
        self.strict_auth = False
        self.faults = GitilesFaults()
        self.stopping = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        if request.path.startswith("/control/"):
            return self._control(request)(environ, start_response)
        target = self._target(request.path)
        faults = self.faults.take(target.path)
        response = self._spoilt(faults) or self._answer(request, target)
        cut = any(fault.effect == "cut" for fault in faults)
        status, answer = (0, "") if cut else (response.status_code, response.get_data(as_text=True))
        query = request.query_string.decode()
        self.faults.log(RequestRecord(target.path, query, target.host, target.authenticated, status, answer))
        if cut:
            cut_connection(environ)
        if any(fault.effect == "cut_body" for fault in faults):
            body = response.get_data()
            headers = response.headers.copy()
            headers["Content-Length"] = str(len(body))
            response = Response(cut_after(environ, body), response.status_code, headers)
        compress(request, response)
        return response(environ, start_response)

    def _target(self, path: str) -> _Target:
        root, host = self._root, ""
        if match := re.match(r"/h/([^/]+)(?=/|$)", path):
            host, path = match[1], path[match.end() :] or "/"
            root = self._root / host
        authenticated = path == "/a" or path.startswith("/a/")
        return _Target(root, host, authenticated, path.removeprefix("/a") if authenticated else path)

    def _spoilt(self, faults: list[GitilesFault]) -> Response | None:
        for fault in faults:
            if fault.effect == "slow":
                self.stopping.wait(fault.seconds)
            elif fault.effect == "error":
                error = GitilesError(fault.status, _ERROR_CODES.get(fault.status, "INTERNAL_SERVER_ERROR"))
                return error_response(error, self.errors, "injected")
        return None

    def _answer(self, request: Request, target: _Target) -> Response:
        try:
            if request.method not in {"GET", "HEAD"}:
                return Response("method not allowed\n", 405, {"Allow": "GET, HEAD"})
            _check_text(request)
            self._check_token(request, target)
            return self._page(request, target)
        except GitilesError as error:
            return error_response(error, self.errors, request.full_path)
        except GitError:
            return error_response(GitilesError(500, "INTERNAL_SERVER_ERROR"), self.errors, request.full_path)

    def _check_token(self, request: Request, target: _Target) -> None:
        """Refuse an unknown token. Without ``/a`` nobody looks at it."""
        known = request.headers.get("Authorization", "").startswith("Bearer fake:")
        if self.strict_auth and target.authenticated and not known:
            raise GitilesError(401, "NOT_AUTHORIZED")

    def _page(self, request: Request, target: _Target) -> Response:
        kind = request.args.get("format", "HTML").upper()
        if kind not in {"JSON", "TEXT", "HTML"}:
            raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
        if target.host and (target.host.startswith(".") or not target.root.is_dir()):
            raise GitilesError(404, "REPOSITORY_NOT_FOUND")
        if target.path.strip("/") == "":
            base = f"https://{target.host}/" if target.host else request.host_url
            return _reply(projects(target.root, base), kind, _UNCACHED)
        name, plus, rest = target.path.lstrip("/").partition("/+")
        repository = find_repository(target.root, name)
        if repository is None:
            raise GitilesError(404, "REPOSITORY_NOT_FOUND")
        views = RepositoryViews(repository, self.faults.hidden(), zones=self.zones)
        try:
            return self._view(views, plus, rest, request, kind)
        finally:
            self.faults.count_hidden(views.missed)

    def _view(self, views: RepositoryViews, plus: str, rest: str, request: Request, kind: str) -> Response:
        view, _, argument = rest.partition("/")
        cache = _CACHED if _FULL_HASH.match(argument.rpartition("..")[2]) else _UNCACHED
        if not plus:
            if kind == "HTML":
                return _reply(views.refs(""), kind, _UNCACHED)
            raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
        if view == "log":
            return _reply(views.log(argument, request.args), _no_text(kind), cache)
        if view == "refs":
            return _refs(views.refs(argument.strip("/")), kind)
        if view in {"", "show"} and argument:
            return _show(views, argument, kind, cache)
        raise GitilesError(404, "CANNOT_PARSE_GITILES_VIEW")

    def _control(self, request: Request) -> Response:
        """Serve the control endpoint: what tests and tools in other processes may switch, as JSON."""
        handlers: dict[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = {
            ("GET", "status"): lambda _body: {},
            ("GET", "requests"): lambda _body: [dataclasses.asdict(record) for record in self.faults.records()],
            ("DELETE", "requests"): lambda _body: self.faults.clear_records(),
            ("GET", "faults"): lambda _body: [dataclasses.asdict(fault) for fault in self.faults.active()],
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): lambda _body: self.faults.clear(),
            ("POST", "hidden"): lambda body: self.faults.hide(str(body["commit"]), body.get("times")),
            ("DELETE", "hidden"): lambda body: self.faults.reveal(str(body["commit"])),
            ("POST", "settings"): self._set,
        }
        path = request.path.removeprefix("/control/")
        handler = handlers.get((request.method, path))
        if handler is None:
            return _control_reply({"error": f"no {request.method} /control/{path}"}, 404)
        try:
            result = handler(control_body(request))
        except HTTPException as error:
            return _control_reply({"error": error.description}, error.code or 400)
        except (KeyError, TypeError, ValueError) as error:
            return _control_reply({"error": f"{type(error).__name__}: {error}"}, 400)
        return _control_reply({} if result is None else result, 200)

    def _add_fault(self, body: Mapping[str, Any]) -> None:
        if body["effect"] not in _EFFECTS:
            raise ValueError(f"no such fault: {body}")
        self.faults.add(GitilesFault(**body))

    def _set(self, body: Mapping[str, Any]) -> None:
        if body.get("errors", "hosted") not in {"hosted", "open"} or body.keys() - {"zones", "errors", "strict_auth"}:
            raise ValueError(f"unknown settings: {body}")
        self.zones = bool(body.get("zones", self.zones))
        self.errors = body.get("errors", self.errors)
        self.strict_auth = bool(body.get("strict_auth", self.strict_auth))


def _check_text(request: Request) -> None:
    """Refuse what can be neither a ref nor a file: git and file systems fail at such names, each in its own way."""
    path = request.path.encode()
    names = path.split(b"/")
    if _CONTROL.search(request.path) or len(path) > _LONGEST_PATH or max(map(len, names)) > _LONGEST_NAME:
        raise GitilesError(400, "CANNOT_PARSE_GITILES_VIEW")
    if any(_CONTROL.search(value) for values in request.args.listvalues() for value in values):
        raise GitilesError(400, "INCORECT_PARAMETER")
    if any(name in (b".", b"..") for name in names):
        raise GitilesError(404, "OBJECT_NOT_FOUND")


def dump_json(value: object) -> str:
    """Write JSON as Gitiles does: pretty-printed, with the characters that matter in HTML escaped inside strings."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _reply(value: object, kind: str, cache: str) -> Response:
    if kind == "TEXT":
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    headers = {"Cache-Control": cache, "X-Content-Type-Options": "nosniff"}
    if kind == "HTML":
        page = f"<!DOCTYPE html><title>Gitiles</title><pre>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
        return Response(page, 200, {**headers, "Content-Type": "text/html; charset=utf-8"})
    headers |= {"Content-Type": "application/json; charset=utf-8", "Content-Disposition": "attachment"}
    return Response(f"{_GUARD}{dump_json(value)}\n", 200, headers)


def _refs(refs: Mapping[str, Mapping[str, str]], kind: str) -> Response:
    if kind == "TEXT":
        lines = "".join(f"{ref.get('value', '')} {name}\n" for name, ref in refs.items())
        return Response(lines, 200, {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": _UNCACHED})
    return _reply(refs, kind, _UNCACHED)


def _show(views: RepositoryViews, argument: str, kind: str, cache: str) -> Response:
    revision, path = views.split_revision(argument)
    is_folder_asked = argument.endswith("/")
    if kind != "TEXT":
        return _reply(views.tree(revision, path) if path or is_folder_asked else views.commit(revision), kind, cache)
    if not path and not is_folder_asked:
        return _text(base64.b64encode(views.raw_commit(revision)), "commit", 0, cache)
    entry_kind, identifier, mode = views.entry(revision, path)
    return _text(views.content(entry_kind, identifier), entry_kind, mode, cache)


def _text(body: bytes, kind: str, mode: int, cache: str) -> Response:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": cache, "X-Gitiles-Object-Type": kind}
    if mode:
        headers["X-Gitiles-Path-Mode"] = f"{mode:06o}"
    return Response(body, 200, headers)


def _no_text(kind: str) -> str:
    if kind == "TEXT":
        raise GitilesError(400, "UNSUPPORTED_RESPONSE_FORMAT")
    return kind


def _control_reply(body: object, status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")
