"""The client of GitHub's REST API: one request at a time for each host, within the limits that the host sets.

It knows the hosts, the credentials, redirects and deadlines. ``adapters.github`` reads repositories with it.

The rules are those of GitHub's "Best practices for using the REST API" and "Rate limits for the REST API".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

import requests
import structlog

from luci_scheduler.adapters.commit_answers import MAX_BODY_BYTES, port_errors
from luci_scheduler.adapters.http import Deadline, answer_to, read_body, read_json_body
from luci_scheduler.core import transience
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.foreign_json import read_value
from luci_scheduler.core.foreign_text import REDACTED, sanitized
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import HOUR, SECOND, Instant, format_rfc3339
from luci_scheduler.ports import Clock, GitilesError

__all__ = [
    "CALL_LIMIT",
    "MOST_UNCHANGED",
    "Answer",
    "EmptyRepositoryError",
    "Exchange",
    "GitHubApi",
    "GitHubError",
    "NoCredentials",
    "TokenSource",
]

CALL_LIMIT = 15 * SECOND
"""The limit of one call, in nanoseconds: the wait for the calls before it, redirects, and the answer. GitHub itself
ends a request after ten seconds."""

MOST_UNCHANGED = 1_000
"""How many answers 304 in a row are believed; the next request has no condition. So after a wrong answer, commits are
late and not lost. With a poll a minute, one request in 17 hours counts."""

_MAX_ERROR_BYTES = 1 << 16  # an error is an object of a few members
_MAX_ERROR_TEXT = 300  # characters
_MAX_REDIRECTS = 3
_VERSION = "2022-11-28"  # of the REST API; a version is supported for at least two years after the next one
_AGENT = "serverless-luci-scheduler"  # GitHub refuses requests without a user agent
_REDIRECTS = frozenset({301, 302, 307, 308})
_PERMANENT_REDIRECTS = frozenset({301, 308})
_NOT_MODIFIED, _UNAUTHORIZED, _CONFLICT, _FIRST_ERROR = 304, 401, 409, 400
_ETAG = re.compile("[!-~]{1,500}")  # any other text would fail each later request
_MOST_MOVED = 1000  # repositories whose last warning is kept
_logger = structlog.stdlib.get_logger("luci_scheduler")


class GitHubError(GitilesError):
    """GitHub answered with an error."""

    def __init__(self, failure: transience.Failure, status: int, message: str, *, retry_after: int = 0) -> None:
        super().__init__(
            failure.code,
            f"HTTP {status}: {message}".rstrip(": "),
            transient=failure.transient,
            throttled=failure.throttled,
            retry_after=retry_after,
        )
        self.status = status
        self.message = message
        """GitHub's own text, cut; empty if the answer has none."""


class EmptyRepositoryError(GitHubError):
    """The repository has no commit."""


@frozen
class Answer:
    """An answer of the API."""

    status: int
    """201 for a created object; 304 if the object still has the given ETag."""
    document: Any
    """The JSON value of the body; None without a body."""
    etag: str = ""
    next: str = ""
    """The address of a list's next page, for `GitHubApi.get`; empty if this page is the last."""

    @property
    def is_unchanged(self) -> bool:
        """Whether the object still has the given ETag."""
        return self.status == _NOT_MODIFIED


Exchange = Callable[[str, str, Mapping[str, Any]], Any]
"""Sends a POST to a path of the host's API with a bearer token and a body, and returns the JSON value of the answer."""


class TokenSource(Protocol):
    """A source of tokens for one host. Thread-safe."""

    def token(self, exchange: Exchange) -> str:
        """Return the present token; empty for anonymous requests.

        Args:
            exchange: sends a request for a new token, within the deadline of the call.

        Raises:
            GitilesError: there is no token.
        """

    def renew(self, refused: str) -> bool:
        """Forget a token that the host has refused; return whether `token` can then return another one."""


class NoCredentials:
    """Requests without a token. GitHub answers 60 of them an hour for each address."""

    def token(self, _: Exchange) -> str:
        """Return no token."""
        return ""

    def renew(self, _: str) -> bool:
        """Return False: there is no other token."""
        return False


class GitHubApi:
    """The REST API of the configured GitHub hosts. Each call is one attempt with a deadline. Thread-safe.

    Requests to one host go one after another. After a host has refused a request because of its limits, no request is
    sent to it before the time that the refusal names.
    """

    def __init__(
        self,
        hosts: CommitHosts,
        session: Callable[[], requests.Session],
        credentials: TokenSource,
        clock: Clock,
        deadline: int = CALL_LIMIT,
    ) -> None:
        """Make a client.

        Args:
            hosts: the hosts of the installation. The credentials are sent only to the API of the host that has them.
            session: a function that gives each thread its session, without authentication, from `http.sessions`.
            credentials: the source of tokens.
            clock: the current time, to compare with the times of the limits.
            deadline: the limit of one call, until its last byte, in nanoseconds.
        """
        self._hosts = hosts
        self._session = session
        self._credentials = credentials
        self._clock = clock
        self._deadline = deadline
        self._states = {host: _State() for host in hosts.configured}
        self._moved: dict[str, tuple[int, str]] = {}
        """Repository → the time of its next warning, and its new name or address in the last one."""

    def get(self, host: str, path: str, query: Sequence[tuple[str, str]] = (), *, etag: str = "") -> Answer:
        """Read an object.

        Args:
            host: the name of a configured host, ``github.com``.
            path: begins with a slash, quoted, without a slash at the end; or the address of a next page.
            query: the parameters.
            etag: of the last answer. If it still holds, the answer has the status 304, and costs nothing of the limit.

        Raises:
            GitHubError: GitHub answered with an error; EmptyRepositoryError if the repository is empty.
            GitilesError: there is no answer, or it cannot be read; or the host is not asked now.
            TransientError: the delivery has no time left.
        """
        headers = {"If-None-Match": etag} if _ETAG.fullmatch(etag) else {}
        return self._call("GET", host, f"{path}?{urlencode(query)}" if query else path, headers, None)

    def post(self, host: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Create an object. Redirects are not followed. The arguments and errors are those of `get`."""
        return self._call("POST", host, path, {}, body)

    def _call(
        self, method: str, host: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> Answer:
        configured = self._hosts.configured.get(host)
        if configured is None:
            raise GitilesError("INVALID_ARGUMENT", f"{host} is not a configured commit host", transient=False)
        deadline = Deadline(self._deadline / SECOND)
        state = self._states[host]
        with state.turn(deadline):
            call = _Call(self._session(), configured.api, deadline, state, self._clock)
            credentials = self._credentials if configured.credentials else NoCredentials()
            answer = call.authorized(credentials, method, path, headers, body)
        if call.has_moved and path.startswith("/repos/"):
            self._note_move(host, path, call.url, answer)
        return answer

    def _note_move(self, host: str, path: str, url: str, answer: Answer) -> None:
        """Warn, once an hour, that a repository has another name: webhooks come under that name alone.

        The address that was followed has only the repository's number. The name is in most answers, and not in a 304.
        """
        owner, name = [*path.split("/"), "", "", ""][2:4]
        repo, now = f"https://{host}/{owner}/{name}", self._clock.now()
        due, known = self._moved.get(repo, (0, ""))
        if now < due:
            return
        if len(self._moved) >= _MOST_MOVED:
            self._moved.clear()
        moved_to = _new_name(answer.document) or known or url
        self._moved[repo] = now + HOUR, moved_to
        _logger.warning("repository_moved", repo=repo, moved_to=sanitized(moved_to))


class _State:
    """Knowledge of this process about one host."""

    def __init__(self) -> None:
        self.closed_until = Instant(0)
        """The host is not asked before this time."""
        self.refusals = 0
        """The refusals because of limits since the last other answer."""
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[None]:
        """Wait for the calls of other threads.

        Raises:
            GitilesError: they take too long.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline.left())):
            raise GitilesError("DEADLINE_EXCEEDED", "the requests before this one took too long", transient=True)
        try:
            yield
        finally:
            self._lock.release()


class _Call:
    """One call, which may need several requests: for a token, for redirects, and after a refused token."""

    def __init__(self, session: requests.Session, api: str, deadline: Deadline, state: _State, clock: Clock) -> None:
        self._session = session
        self._api = api
        self._deadline = deadline
        self._state = state
        self._clock = clock
        self.url = ""
        """The address of the last request."""
        self.has_moved = False
        """Whether a permanent redirect was followed."""
        self._token = ""

    def authorized(
        self,
        credentials: TokenSource,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
    ) -> Answer:
        """Send a request with a token, and once more with a new token if the host refuses the first."""
        self._check_open()
        token = credentials.token(self._exchange)
        try:
            return self._followed(method, path, headers, body, token)
        except GitHubError as error:
            if error.status != _UNAUTHORIZED or not credentials.renew(token):
                raise
        return self._followed(method, path, headers, body, credentials.token(self._exchange))

    def _check_open(self) -> None:
        wait = self._state.closed_until - self._clock.now()
        if wait <= 0:
            return
        raise GitilesError(
            "RESOURCE_EXHAUSTED",
            f"GitHub's limit of requests is used up until {format_rfc3339(self._state.closed_until)}",
            transient=True,
            throttled=True,
            retry_after=min(wait, transience.LONGEST_PAUSE),
        )

    def _exchange(self, path: str, bearer: str, body: Mapping[str, Any]) -> Any:
        return self._followed("POST", path, {}, body, bearer).document

    def _followed(
        self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None, token: str
    ) -> Answer:
        self.url = self._api + path if path.startswith("/") else path
        if not self._is_ours(self.url):
            raise GitilesError("INTERNAL", "the address of the list's next page is on another host", transient=True)
        if not (token.isascii() and token.isprintable()):  # the library's error would quote it
            raise GitilesError("UNAUTHENTICATED", "the token for GitHub has characters of no token", transient=False)
        self._token = token
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._sent(method, sent, body)
            if isinstance(answer, Answer):
                return answer
            if method != "GET" or not self._is_ours(answer):
                raise GitilesError("NOT_FOUND", f"it has moved to {_short(answer)}", transient=False)
            self.url = answer
        raise GitilesError("NOT_FOUND", f"it has moved more than {_MAX_REDIRECTS} times", transient=False)

    def _sent(self, method: str, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Answer | str:
        """Send one request, and return the answer or the target of a redirect."""
        common = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION, "User-Agent": _AGENT}
        with (
            port_errors(self._deadline),
            answer_to(
                self._session, method, self.url, self._deadline, headers={**common, **headers}, json=body
            ) as answer,
        ):
            return self._read(answer)

    def _read(self, answer: requests.Response) -> Answer | str:
        status = answer.status_code
        if status in _REDIRECTS and (target := answer.headers.get("Location")):
            self.has_moved = self.has_moved or status in _PERMANENT_REDIRECTS
            return urljoin(self.url, target)
        if status >= _FIRST_ERROR:
            raise self._error(answer)
        self._state.refusals = 0
        if status == _NOT_MODIFIED:
            return Answer(status, None, answer.headers.get("ETag", ""))
        document = read_value(read_json_body(answer, MAX_BODY_BYTES))
        following = answer.links.get("next", {}).get("url", "")
        return Answer(
            status, document, answer.headers.get("ETag", ""), urljoin(self.url, following) if following else ""
        )

    def _error(self, answer: requests.Response) -> GitHubError:
        message = _message(answer)
        message = message.replace(self._token, REDACTED) if self._token else message
        failure = transience.github_failure(answer.status_code, message, answer.headers)
        if failure.throttled:
            return self._throttled(answer, failure, message)
        self._state.refusals = 0
        if needed := answer.headers.get("X-Accepted-GitHub-Permissions"):
            message = f"{message} (needs the permission {needed})"
        is_empty = answer.status_code == _CONFLICT and "empty" in message
        if is_empty:
            return EmptyRepositoryError(transience.Failure("NOT_FOUND", transient=False), answer.status_code, message)
        return GitHubError(failure, answer.status_code, message)

    def _throttled(self, answer: requests.Response, failure: transience.Failure, message: str) -> GitHubError:
        state, now = self._state, self._clock.now()
        state.closed_until = transience.github_closed_until(answer.headers, now, state.refusals)
        state.refusals += 1
        pause = min(state.closed_until - now, transience.LONGEST_PAUSE)
        return GitHubError(failure, answer.status_code, message, retry_after=pause)

    def _is_ours(self, url: str) -> bool:
        """Whether an address is on the host of the API, so that the token may go there."""
        return _origin(url) == _origin(self._api)


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.scheme, parts.netloc.lower()


def _short(url: str) -> str:
    """Return an address without its query, for an error."""
    return url.partition("?")[0][:_MAX_ERROR_TEXT]


def _message(answer: requests.Response) -> str:
    """Return GitHub's text about an error; empty if the answer has none."""
    if "html" in answer.headers.get("Content-Type", ""):
        return "an HTML page"
    try:
        document = read_value(read_body(answer, _MAX_ERROR_BYTES, cut=True))
    except ValueError:
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return message[:_MAX_ERROR_TEXT] if isinstance(message, str) else ""


def _new_name(document: Any) -> str:
    """Return the address of the repository that an answer is about, from its links; empty if it holds none."""
    entry = document[0] if isinstance(document, list) and document else document
    url = entry.get("url") if isinstance(entry, dict) else None
    head, found, rest = url.partition("/repos/") if isinstance(url, str) else ("", "", "")
    return f"{head}{found}{'/'.join(rest.split('/')[:2])}" if found else ""
