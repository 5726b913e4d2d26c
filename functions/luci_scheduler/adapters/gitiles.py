"""The client of Gitiles servers: logs and refs, as JSON after a guard line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import requests

from luci_scheduler.adapters.commit_answers import (
    MAX_AUTHOR,
    MAX_BODY_BYTES,
    MAX_SUBJECT,
    broken,
    line_of,
    note_unreadable,
    port_errors,
)
from luci_scheduler.adapters.http import Deadline, answer_to, read_body, read_json_body
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.instants import SECOND, Instant, in_range
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import Clock, GitCommit, GitilesError, LogPage

__all__ = ["GitilesClient", "host_urls", "parse_time"]

_MAX_ERROR_BYTES = 4096  # more than the first line needs
_MAX_ERROR_TEXT = 300  # the first line has the reason
_HASH = re.compile(r"[0-9a-f]{40}")
_PUBLIC_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.googlesource\.com")
_TIME = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})(?: ([+-])(\d\d)(\d\d))?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NO_PATH = "/dev/null"
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def host_urls(configured: Mapping[str, str]) -> Callable[[str], str | None]:
    """Return the function from a Gitiles host to its base URL, or to None for a forbidden host.

    Allowed are ``*.googlesource.com`` and the hosts in ``configured``, because requests carry the service account's
    token. If ``configured`` has the host ``*``, all public hosts are below its base URL, and none is called itself.
    """
    every = configured.get("*", "").rstrip("/")

    def url(host: str) -> str | None:
        if host in configured:
            return configured[host].rstrip("/")
        if not _PUBLIC_HOST.fullmatch(host):
            return None
        return f"{every}/{host}" if every else f"https://{host}"

    return url


class GitilesClient:
    """``ports.Gitiles`` over HTTP. Each call is one attempt. Thread-safe."""

    def __init__(
        self,
        url: Callable[[str], str | None],
        session: Callable[[], requests.Session],
        deadline: int,
        *,
        authenticated: bool,
        clock: Clock,
    ) -> None:
        """Make a client.

        Args:
            url: a function from a host to its base URL; None refuses the host.
            session: a function that gives each thread its authenticated session, from `http.sessions`.
            deadline: the limit of one call, until its last byte, in nanoseconds.
            authenticated: use paths below ``/a``, where the server reads the token. Other paths have the small quota of
                anonymous callers.
            clock: the current time, to compare with the date of a ``Retry-After`` header.
        """
        self._url = url
        self._session = session
        self._deadline = deadline
        self._root = "/a" if authenticated else ""
        self._clock = clock

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        """Return the refs below a folder.

        Entries without a hash or with control characters are left out. Gitiles leaves out refs that the caller may not
        read.

        Raises:
            GitilesError: no answer, or an error.
        """
        document = self._get(repo, f"+{quote(prefix, safe='')}", [])
        found = {}
        for name, entry in document.items():
            value = entry.get("value") if isinstance(entry, dict) else None
            # Git forbids control characters in names. Here they could only forge lines of the log.
            if isinstance(value, str) and value and not _CONTROL.search(name + value):
                # Names are relative to the folder, but full if the folder is itself a ref.
                found[name if name.startswith(prefix) else f"{prefix}/{name}"] = value
        return found

    def resolve(self, repo: RepoUrl, expression: str) -> str:
        """Return the hash of the commit that an expression names.

        The host shows a commit only if the whole expression names one. Its log would also take ``main/docs`` for the
        history of a folder.

        Raises:
            GitilesError: no answer, or an error.
        """
        identifier = self._get(repo, f"+/{quote(expression, safe='')}", []).get("commit")
        if not isinstance(identifier, str) or not _HASH.fullmatch(identifier):
            raise GitilesError("NOT_FOUND", "the host shows no commit under this name", transient=False)
        return identifier

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        """Return up to ``limit`` commits that lead to ``revision`` but not to ``exclude``, newest first.

        A commit with an unreadable time or unreadable paths is logged, and returned without them. Later commits are not
        affected.

        Raises:
            GitilesError: no answer, or an error. An entry without a hash is an error, because leaving it out could lose
                a commit.
        """
        query = [("n", str(limit))]
        if diffs:
            query.append(("name-status", "1"))
        if start:
            query.append(("s", start))
        spec = f"{exclude}..{revision}" if exclude else revision
        document = self._get(repo, f"+log/{quote(spec, safe='')}", query)
        entries = document.get("log")
        if not isinstance(entries, list):
            raise broken("the answer is not a log")
        return LogPage(tuple(_commit(entry) for entry in entries[:limit]), str(document.get("next", "")))

    def _get(self, repo: RepoUrl, path: str, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        base = self._url(repo.host)
        if base is None:
            raise GitilesError("INVALID_ARGUMENT", f"{repo.host} is not an allowed host", transient=False)
        url = f"{base}{self._root}/{quote(repo.project, safe='')}/{path}"
        deadline = Deadline(self._deadline / SECOND)
        with (
            port_errors(deadline),
            answer_to(self._session(), "GET", url, deadline, params=[("format", "JSON"), *query]) as answer,
        ):
            if answer.status_code != requests.codes.ok:
                raise self._error(answer, read_body(answer, _MAX_ERROR_BYTES, cut=True))
            return read_answer(read_json_body(answer, MAX_BODY_BYTES), needs_guard=True)

    def _error(self, answer: requests.Response, body: bytes) -> GitilesError:
        failure = transience.gitiles_failure(answer.status_code)
        is_page = "html" in answer.headers.get("Content-Type", "")
        lines = ["an HTML page"] if is_page else body.decode(errors="replace").strip().splitlines()
        first = lines[0].removeprefix(f"{failure.code}: ")[:_MAX_ERROR_TEXT] if lines else ""
        return GitilesError(
            failure.code,
            f"HTTP {answer.status_code}: {first}".rstrip(": "),
            transient=failure.transient,
            throttled=failure.throttled,
            retry_after=transience.requested_pause(answer.headers.get("Retry-After"), self._clock.now()),
        )


def parse_time(text: str) -> Instant:
    """Read a time in Gitiles' format, ``Tue Mar 17 13:58:02 2026``, in UTC unless a zone such as ``+0100`` follows.

    Raises:
        ValueError: the text is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None or match[1] not in _MONTHS:
        raise ValueError(f"not a time of Gitiles: {text[:40]!r}")
    zone = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
    day, hour, minute, second, year = (int(text) for text in match.group(2, 3, 4, 5, 6))
    ahead = timezone(-zone if match[7] == "-" else zone)
    moment = datetime(year, _MONTHS.index(match[1]) + 1, day, hour, minute, second, tzinfo=ahead)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Instant((since.days * 86_400 + since.seconds) * SECOND)


def _commit(entry: Any) -> GitCommit:
    identifier = entry.get("commit") if isinstance(entry, dict) else None
    if not isinstance(identifier, str) or not _HASH.fullmatch(identifier):
        raise broken("the answer is not a log: it holds a commit without a hash")
    return GitCommit(
        identifier,
        _committed(identifier, entry),
        _diff(identifier, entry.get("tree_diff") or ()),
        author=_author(entry),
        subject=line_of(entry.get("message"), MAX_SUBJECT),
    )


def _author(entry: Mapping[str, Any]) -> str:
    author = entry.get("author")
    return line_of(author.get("name"), MAX_AUTHOR) if isinstance(author, dict) else ""


def _committed(identifier: str, entry: Mapping[str, Any]) -> Instant:
    """Return the commit time, or 0 if it is unreadable. The trigger then gets the time of the delivery."""
    try:
        return in_range(parse_time(entry["committer"]["time"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        note_unreadable(identifier, "time")
        return Instant(0)


def _diff(identifier: str, changes: Any) -> tuple[tuple[str, str], ...]:
    known = changes if isinstance(changes, list | tuple) else ()
    readable = [change for change in known if isinstance(change, dict)]
    if known is not changes or len(readable) < len(known):
        note_unreadable(identifier, "paths")
    return tuple((_path(change.get("old_path")), _path(change.get("new_path"))) for change in readable)


def _path(text: Any) -> str:
    """Return a path of a change; Gitiles writes the null device for a missing file."""
    return "" if text is None or text == _NO_PATH else str(text)
