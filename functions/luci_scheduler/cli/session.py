"""The session of one command: calls of the API, output, and exit codes."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from luci_scheduler.api.errors import Code
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.front_end import FrontEnd, front_end, obstacle
from luci_scheduler.cli.tables import plain, show_table
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.untrusted import PARSER_ERRORS

if TYPE_CHECKING:
    import requests

    from luci_scheduler.cli.credentials import Saved

__all__ = [
    "Answer",
    "Session",
    "invocation_ref",
    "job_ref",
    "name_parts",
]

_GUARD = ")]}'"
_TIMEOUT = 60.0  # seconds: the console's own limit
_SPARE = 60.0  # seconds before its end, from which a token is not sent any more
_UNKNOWN = "the answer is not one of a console: check that --url is the console's address"
_MAX_DIGITS = 3  # of a pRPC code
_NO_JOB = "no such job"  # the original's text begins like this
_PAUSES = (1.0, 3.0)  # seconds, before an unanswered action is sent again
_MAX_BYTES = 33 << 20  # of an answer; Cloud Run lets 32 MiB through
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WORDS: Mapping[int, str] = {
    Code.INVALID_ARGUMENT: "invalid argument",
    Code.NOT_FOUND: "not found",
    Code.PERMISSION_DENIED: "not allowed",
    Code.RESOURCE_EXHAUSTED: "too many requests",
    Code.FAILED_PRECONDITION: "refused",
    Code.UNAVAILABLE: "unavailable",
    Code.UNAUTHENTICATED: "not accepted",
}


_EXITS: Mapping[int, Exit] = {
    Code.INVALID_ARGUMENT: Exit.WRONG_USAGE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.PERMISSION_DENIED: Exit.NOT_ALLOWED,
    Code.RESOURCE_EXHAUSTED: Exit.UNAVAILABLE,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.UNAUTHENTICATED: Exit.NOT_ALLOWED,
}


@frozen
class Answer:
    """An answer to a call, with its whole body."""

    status_code: int
    headers: Mapping[str, str]
    text: str


class Session:
    """One run of the command; ``url`` is the console's address, or empty if none is given.

    Args:
        options: the parsed arguments; uses ``url``, ``token``, ``audience`` and ``json``.
        post: sends a request; `requests.post` if None.
        pause: waits for some seconds.
        out: the stream for output.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        post: Callable[..., requests.Response] | None = None,
        pause: Callable[[float], None] = time.sleep,
        out: TextIO | None = None,
    ) -> None:
        self.url = str(options.url or "").rstrip("/")
        self._token = str(options.token or "")
        self._audience = str(options.audience or "") or self.url
        self._as_json = bool(options.json)
        self._post = post
        self._login: Saved | None = None
        self._made = ""
        self._usable_until = 0.0
        self.has_answered = False
        """Whether the console has answered a call of this session."""
        self.words: Mapping[str, str] = {}
        """A word in the API's errors → the word of the command's usage for it."""
        self._pause = pause
        self._paused = 0.0
        self._begun = time.monotonic()
        self._out = out or sys.stdout

    def call(
        self, method: str, request: Mapping[str, Any], service: str = "scheduler.Operator", limit: float = _TIMEOUT
    ) -> dict[str, Any]:
        """Call a method of the API and return its reply; ``limit`` is the limit of the whole call, in seconds.

        Raises:
            CommandError: the call was refused or has failed, or the console does not answer.
        """
        is_here = self._is_here()
        json_type = "application/json"
        headers = {"Content-Type": json_type, "Accept": json_type, **self._authorization(is_here)}
        url = f"{self.url}/prpc/{service}/{method}"
        answer = self._send(url, json.dumps(request).encode(), headers, is_here, limit)
        front = front_end(answer.status_code, answer.headers)
        if is_here and front in (FrontEnd.IAP, FrontEnd.CLOUD_RUN) and "Authorization" not in headers:
            # A login would send a token of the real cloud to any program that listens on this port.
            raise CommandError(
                f"{method}: {front} of the local cloud lets no call without a token pass: pass --token; "
                "`python -m emulator up` prints the command that makes one",
                Exit.NOT_ALLOWED,
            )
        reply = _reply(answer, method, self.words)
        self.has_answered = True
        return reply

    def pause(self, seconds: float) -> None:
        """Wait for some seconds."""
        self._paused += seconds
        self._pause(seconds)

    def elapsed(self) -> float:
        """Return the seconds since the session began."""
        return max(self._paused, time.monotonic() - self._begun)

    @property
    def is_local(self) -> bool:
        """Whether the console is on this machine, and needs no token."""
        return _origin(self.url)[1] in _LOOPBACK

    def knock(self) -> Answer:
        """Call the console without a token, and return the answer of the console or of its front end.

        Raises:
            CommandError: the address is not allowed, or there is no answer.
        """
        is_here = self._is_here()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return self._send(f"{self.url}/prpc/scheduler.Operator/WhoAmI", b"{}", headers, is_here, _TIMEOUT)

    def sign_in(self, saved: Saved) -> None:
        """Use a login for all further calls, except if a token was given."""
        self._login, self._usable_until = saved, 0.0

    def act(self, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call a method that acts once per ``requestId``; resend the request while the console does not answer.

        Raises:
            CommandError: as `call` does. If the action may have happened, the text has the key for another attempt.
        """
        repeat = f"the action may have happened: repeat it with --request-id {shlex.quote(request['requestId'])}"
        pauses = iter(_PAUSES)
        is_unknown = False  # whether an earlier request may have succeeded
        try:
            while True:
                try:
                    return self.call(method, request)
                except CommandError as error:
                    unanswered = error.code == Exit.UNAVAILABLE
                    is_unknown = is_unknown or (unanswered and error.is_sent)
                    if not is_unknown:
                        raise
                    pause = next(pauses, None) if unanswered else None
                    if pause is None:
                        raise CommandError(f"{error}; {repeat}", error.code) from error
                    self.progress(f"{error}: retrying with the same key in {pause:g} s")
                self.pause(pause)
        except KeyboardInterrupt as interrupt:
            raise CommandError(f"interrupted; {repeat}", Exit.INTERRUPTED) from interrupt

    def _is_here(self) -> bool:
        """Check the console's address before anything is sent; return whether it is on this machine."""
        if not self.url:
            raise CommandError("no console URL: pass --url or set LUCI_SCHEDULER_URL", Exit.WRONG_USAGE)
        scheme, host, _ = _origin(self.url)
        is_here = host in _LOOPBACK
        if scheme == "https" or (scheme == "http" and is_here):
            return is_here
        # The error does not repeat the address, which may hold a password.
        raise CommandError(
            "--url must be https://HOST without a password, because it receives a token; "
            "http:// is only for a console on this machine",
            Exit.WRONG_USAGE,
        )

    def _send(self, url: str, body: bytes, headers: Mapping[str, str], is_here: bool, seconds: float) -> Answer:
        import requests  # noqa: PLC0415 - commands without a cloud do not need it

        from luci_scheduler.adapters.http import (  # noqa: PLC0415 - loads google.auth
            Deadline,
            TooLargeError,
            limit_session,
            read_body,
        )

        try:
            with limit_session(requests.Session()) as http:
                http.auth = _as_it_is
                http.trust_env = not is_here  # a proxy would forward requests for this machine to another
                post = self._post or http.post
                limit: Any = Deadline(seconds)  # the library takes any Timeout
                with post(url, data=body, headers=headers, timeout=limit, allow_redirects=False, stream=True) as answer:
                    text = read_body(answer, _MAX_BYTES).decode("utf-8", "replace")
                    return Answer(answer.status_code, answer.headers, text)
        except (
            requests.RequestException,
            TooLargeError,
            ValueError,
        ) as error:  # ValueError: an invalid host, which the library does not catch
            raise self._no_answer(error, is_here) from error

    def _no_answer(self, error: Exception, is_here: bool) -> CommandError:
        """Return the error for a call without an answer; the library's text may hold the URL but never the headers."""
        from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError  # noqa: PLC0415 - as above

        held = error.args[0] if error.args else None
        reason = held.reason if isinstance(held, MaxRetryError) else None
        if not isinstance(reason, NewConnectionError):
            return CommandError(f"no answer from {self.url}: {type(error).__name__}", Exit.UNAVAILABLE)
        advice = "start one with `luci-scheduler local up`, or pass its --url" if is_here else "check --url"
        is_unknown = isinstance(reason, NameResolutionError)
        fault = "the host's name is unknown" if is_unknown else "there is no connection"
        text = f"no console can be reached at {self.url}, because {fault}: {advice}"
        return CommandError(text, Exit.UNAVAILABLE, is_sent=False)

    def _authorization(self, is_here: bool) -> dict[str, str]:
        token = self._token or ("" if is_here else self._own_token())
        if not all("!" <= character <= "~" for character in token):
            raise CommandError(
                "the token contains a line break, a blank or another invalid character", Exit.WRONG_USAGE
            )
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _own_token(self) -> str:
        from luci_scheduler.cli import credentials  # noqa: PLC0415 - calls with a token do not need it

        if time.time() < self._usable_until:
            return self._made  # gcloud takes a second or two for each token
        saved = self._login or credentials.load(self.url)
        self._made = credentials.token_of(saved or credentials.Saved("service-account", {"audience": self._audience}))
        self._usable_until = credentials.expiry(self._made) - _SPARE
        return self._made

    def write(self, text: str) -> None:
        """Write text at once, without control characters other than line ends: the console may be hostile."""
        self._out.write("\n".join(map(plain, text.split("\n"))))
        self._out.flush()

    def show(self, document: Any, text: str) -> None:
        """Write a result: with ``--json`` the document, otherwise the text."""
        self.write(f"{_json(document)}\n" if self._as_json else f"{text}\n")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table that fits the terminal, if the output is one."""
        return show_table(header, rows, shutil.get_terminal_size().columns if self._out.isatty() else 0)

    def show_document(self, document: Any) -> None:
        """Write a document, only with ``--json``."""
        if self._as_json:
            self.write(f"{_json(document)}\n")

    def say(self, text: str, end: str = "\n") -> None:
        """Write text that is not empty, except with ``--json``."""
        if text and not self._as_json:
            self.write(f"{text}{end}")

    def progress(self, text: str) -> None:
        """Write a progress message to standard error, except with ``--json``."""
        if not self._as_json:
            sys.stderr.write(f"{plain(text)}\n")


def _json(document: Any) -> str:
    """Return readable JSON: characters that could control a terminal are escaped."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return "".join(item if item.isprintable() or item == "\n" else json.dumps(item)[1:-1] for item in text)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request unchanged: without ``auth`` the library would use a password from ``~/.netrc`` instead."""
    return request


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address; empty values if it is invalid or holds a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return "", "", 0
    return ("", "", 0) if "@" in parts.netloc or not parts.hostname else (parts.scheme, parts.hostname, port)


def _reply(answer: Answer, method: str, words: Mapping[str, str]) -> dict[str, Any]:
    code = _code(answer.headers)
    text = answer.text.removeprefix(_GUARD).strip()
    if code == 0 and answer.status_code < 400:  # noqa: PLR2004 - HTTP
        try:
            reply = json.loads(text)
        except PARSER_ERRORS:
            reply = None
        if isinstance(reply, dict):
            return reply
        raise CommandError(f"{method}: the reply is not a JSON object; check that --url is the console's address")
    if not code:
        raise CommandError(
            f"{method}: {obstacle(answer.status_code, answer.headers) or _UNKNOWN}",
            Exit.NOT_ALLOWED if answer.status_code in (302, 401, 403) else Exit.UNAVAILABLE,
        )
    shown = text[:1000]
    for word, usual in words.items():
        shown = shown.replace(word, usual)
    said = f"{_WORDS.get(code, 'failed')}: {shown}"
    raise CommandError(said, _EXITS.get(code, Exit.FAILED), names_job=code == Code.NOT_FOUND and _NO_JOB in text)


def _code(headers: Mapping[str, str]) -> int | None:
    """Return the pRPC code of an answer; None without a readable one."""
    code = headers.get("X-Prpc-Grpc-Code", "")
    return int(code) if code.isascii() and code.isdigit() and len(code) <= _MAX_DIGITS else None


def job_ref(text: str, console: str) -> dict[str, str]:
    """Return a JobRef from ``PROJECT/JOB`` or from the address of the job's page on that console.

    Raises:
        CommandError: the text is neither, or names a page of another console.
    """
    parts = name_parts(text, console)
    if len(parts) != 2:  # noqa: PLR2004 - project and job
        raise CommandError(f"a job is PROJECT/JOB, not {text!r}", Exit.WRONG_USAGE)
    return {"project": parts[0], "job": parts[1]}


def invocation_ref(text: str, console: str) -> dict[str, Any]:
    """Return an InvocationRef from ``PROJECT/JOB/NUMBER`` or from the address of the invocation's page on that console.

    Raises:
        CommandError: the text is neither, or names a page of another console.
    """
    parts = name_parts(text, console)
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()):  # noqa: PLR2004 - project, job, number
        raise CommandError(f"an invocation is PROJECT/JOB/NUMBER, not {text!r}", Exit.WRONG_USAGE)
    return {"jobRef": {"project": parts[0], "job": parts[1]}, "invocationId": parts[2]}


def name_parts(text: str, console: str) -> list[str]:
    """Return the parts of a name such as ``PROJECT/JOB``, or of the address of its page; none if a part is empty.

    Raises:
        CommandError: the text names a page of another console.
    """
    if "://" in text:
        if _origin(text) != _origin(console):
            raise CommandError(f"{text!r} is not a page of the console {console!r}", Exit.WRONG_USAGE)
        path = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
        text = path.partition("/jobs/")[2]
    parts = text.strip("/").split("/")
    return parts if all(parts) else []
