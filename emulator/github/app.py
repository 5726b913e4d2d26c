"""The GitHub server's WSGI application: tokens, quotas, faults, redirects, and the parts behind them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from emulator.github.api import RepositoryApi, json_body, reply
from emulator.github.browse import GitHubPages
from emulator.github.control import handlers
from emulator.github.errors import ApiError, error_response, html_failure
from emulator.github.faults import GitHubFault
from emulator.github.history import History
from emulator.github.limits import exhausted, secondary
from emulator.github.names import Found
from emulator.github.service import GitHubService
from emulator.github.state import GitHubRequest
from emulator.github.tokens import ANONYMOUS, Caller
from emulator.gitiles.git import GitError
from emulator.gitiles.smart_http import split_service
from emulator.serving.control import ControlEndpoint
from emulator.serving.responses import compress, cut_connection, truncated

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["GitHubApp"]

_API = re.compile(r"/(?:repos|repositories|app|rate_limit|meta)(?:/|$)")
_REPOSITORY = re.compile(r"/(?:repos/([^/]+/[^/]+)|repositories/([0-9]{1,12}))(/.*|)")
_TOKENS = re.compile(r"/app/installations/([0-9]{1,12})/access_tokens")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_LONGEST_PATH = 2048  # bytes
_VERSIONS = frozenset({"", "2022-11-28", "2026-03-10"})
_MOVED = "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects"
_NO_AGENT = (
    "Request forbidden by administrative rules. Please make sure your request has a User-Agent header "
    "(https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required).\n"
)
_HOOKS = ["192.0.2.0/24", "2001:db8::/32"]
_OK, _NOT_MODIFIED = 200, 304


@dataclass(slots=True)
class _Exchange:
    """A request of the API, and the facts that its answer needs."""

    request: Request
    faults: list[GitHubFault]
    caller: Caller = ANONYMOUS
    is_counted: bool = False
    is_exhausted: bool = False

    def has(self, effect: str) -> bool:
        """Return whether a fault of the request has an effect."""
        return any(fault.effect == effect for fault in self.faults)


class GitHubApp:
    """Serves the API, git clients, pages and the control endpoint."""

    def __init__(self, service: GitHubService) -> None:
        self._service = service
        self._state = service.state
        self._pages = GitHubPages(service)
        found = handlers(service)
        self._control = ControlEndpoint(lambda method, path: found.get((method, path)))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = Request(environ)
        if request.path.startswith("/control/"):
            return self._control(request, request.path.removeprefix("/control/"))(environ, start_response)
        if (service := split_service(request.path)) and not _API.match(request.path):
            return self._service.serve_git(request, *service)(environ, start_response)
        if _API.match(request.path):
            return self._api(request)(environ, start_response)
        response = self._pages.answer(request)
        compress(request, response)
        return response(environ, start_response)

    def _api(self, request: Request) -> Response:
        """Answer a request of the API, with its faults."""
        exchange = _Exchange(request, self._state.faults.use(lambda fault: fault.matches(request.path)))
        response = self._answer(exchange)
        is_cut = exchange.has("cut")
        self._log(exchange, None if is_cut else response)
        if is_cut:
            cut_connection(request.environ)
        if exchange.has("cut_body"):
            return truncated(request.environ, response)
        compress(request, response)
        return response

    def _log(self, exchange: _Exchange, response: Response | None) -> None:
        """Record a request and its response; None means that the connection is cut. No token is recorded."""
        request = exchange.request
        answer = "" if response is None or _TOKENS.match(request.path) else response.get_data(as_text=True)
        self._state.log.add(
            GitHubRequest(
                request.method,
                request.path,
                request.query_string.decode(errors="replace"),
                exchange.caller.name,
                request.get_data(as_text=True),
                response.status_code if response is not None else 0,
                exchange.is_counted,
                answer,
            )
        )

    def _answer(self, exchange: _Exchange) -> Response:
        """Return the answer with the headers of the quota."""
        try:
            response = self._admitted(exchange)
        except ApiError as error:
            response = error_response(error)
        response.headers["X-GitHub-Media-Type"] = "github.v3; format=json"
        number = self._state.entropy.getrandbits(64)
        response.headers["X-GitHub-Request-Id"] = f"{number >> 32:08X}:{number & 0xFFFFFFFF:08X}"
        caller = exchange.caller
        is_free = response.status_code == _NOT_MODIFIED and not caller.is_anonymous
        exchange.is_counted = exchange.is_counted and not is_free
        if exchange.is_counted:
            self._state.meter.count(caller.name)
        response.headers.update(
            self._state.meter.headers(caller.name, is_anonymous=caller.is_anonymous, is_exhausted=exchange.is_exhausted)
        )
        return response

    def _admitted(self, exchange: _Exchange) -> Response:
        """Check the sender and the limits, then answer.

        Raises:
            ApiError: the request is refused, or fails.
        """
        request = exchange.request
        if not request.headers.get("User-Agent"):
            return Response(_NO_AGENT, 403, content_type="text/plain; charset=utf-8")
        exchange.caller = self._state.tokens.caller(request.headers.get("Authorization", ""))
        is_write = request.method not in {"GET", "HEAD"}
        caller = exchange.caller
        exchange.is_counted = request.path != "/rate_limit"
        refusal = self._state.meter.enter(caller.name, is_write=is_write, is_anonymous=caller.is_anonymous)
        if refusal and exchange.is_counted:
            raise refusal
        if failed := self._fail(exchange):
            return failed
        self._check(request, caller)
        response = self._routed(request, caller)
        return response if exchange.has("no_304") else _conditional(request, response)

    def _fail(self, exchange: _Exchange) -> Response | None:
        """Delay the request, or return the response of the first fault that fails it."""
        for fault in exchange.faults:
            if fault.effect == "slow":
                self._state.stopping.wait(fault.seconds)
            elif fault.effect == "html":
                return html_failure(fault.status)
            elif error := _error_of(fault, exchange.caller):
                exchange.is_exhausted = fault.effect == "rate_limit"
                return error_response(error)
        return None

    def _check(self, request: Request, caller: Caller) -> None:
        """Refuse a request without a token if tokens are required, and a text that no ref and no file can be."""
        if self._state.strict_auth and caller.is_anonymous:
            raise ApiError(401, "Requires authentication")
        if request.headers.get("X-GitHub-Api-Version", "") not in _VERSIONS:
            raise ApiError(400, "The version of the API is not supported")
        texts = [request.path, *(value for values in request.args.listvalues() for value in values)]
        if any(_CONTROL_CHARACTER.search(text) or len(text.encode()) > _LONGEST_PATH for text in texts):
            raise ApiError(404)

    def _routed(self, request: Request, caller: Caller) -> Response:
        if match := _REPOSITORY.fullmatch(request.path):
            return self._repository(request, caller, match)
        if (match := _TOKENS.fullmatch(request.path)) and request.method == "POST":
            authorization = request.headers.get("Authorization", "")
            return reply(self._state.tokens.issue(match[1], authorization, json_body(request)), 201)
        if request.method == "GET" and request.path == "/meta":
            return reply({"verifiable_password_authentication": False, "hooks": _HOOKS})
        if request.method == "GET" and request.path == "/rate_limit":
            core = self._state.meter.quota(caller.name, is_anonymous=caller.is_anonymous)
            return reply({"resources": {"core": core}, "rate": core})
        raise ApiError(404)

    def _repository(self, request: Request, caller: Caller, match: re.Match[str]) -> Response:
        names, (name, number, path) = self._service.names, match.groups()
        found = names.find(name) if name else names.by_id(int(number))
        moved = names.moved(name) if name and found is None else None
        if moved is not None:
            return _redirect(request, f"/repositories/{moved}{path}")
        if found is None and name:
            self._service.report_missing(request.host_url, name)
        if found is None or not _may_read(caller, found):
            raise ApiError(404)
        if path.endswith("/"):
            raise ApiError(404)
        history = History(found.path, self._state.faults.commits.hidden())
        try:
            return RepositoryApi(request, caller, found, self._service.site, self._state, history).answer(path)
        except GitError as error:
            raise ApiError(500, str(error)) from error
        finally:
            self._state.faults.commits.count_hidden(history.missed)


def _may_read(caller: Caller, found: Found) -> bool:
    return caller.repositories is None or found.name.rpartition("/")[2].lower() in caller.repositories


def _error_of(fault: GitHubFault, caller: Caller) -> ApiError | None:
    """Return the error of a fault; None if it causes none."""
    errors: dict[str, Callable[[], ApiError]] = {
        "rate_limit": lambda: exhausted(caller.name),
        "secondary_limit": lambda: secondary(429 if fault.status == 429 else 403, fault.seconds),  # noqa: PLR2004
        "error": lambda: ApiError(fault.status, fault.message, _headers_of(fault)),
    }
    found = errors.get(fault.effect)
    return found() if found else None


def _headers_of(fault: GitHubFault) -> dict[str, str]:
    return {"X-Accepted-GitHub-Permissions": "contents=read"} if fault.status == 403 else {}  # noqa: PLR2004 - no right


def _redirect(request: Request, path: str) -> Response:
    query = f"?{request.query_string.decode(errors='replace')}" if request.query_string else ""
    url = f"{request.host_url.rstrip('/')}{path}{query}"
    is_read = request.method in {"GET", "HEAD"}
    body = {
        "message": "Moved Permanently" if is_read else "Temporary Redirect",
        "url": url,
        "documentation_url": _MOVED,
    }
    return reply(body, 301 if is_read else 307, {"Location": url})


def _conditional(request: Request, response: Response) -> Response:
    """Add the ``ETag`` to an answer, and return 304 if the client has it already."""
    if response.status_code != _OK or request.method not in {"GET", "HEAD"}:
        return response
    digest = hashlib.sha256(response.get_data() + response.headers.get("Link", "").encode()).hexdigest()
    tag = f'W/"{digest[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=60, s-maxage=60", "Vary": "Accept, Authorization"}
    known = {one.strip() for one in request.headers.get("If-None-Match", "").split(",")}
    if known & {tag, tag.removeprefix("W/"), "*"}:
        unchanged = Response(b"", _NOT_MODIFIED, headers)
        del unchanged.headers["Content-Type"]
        return unchanged
    response.headers.update(headers)
    return response
