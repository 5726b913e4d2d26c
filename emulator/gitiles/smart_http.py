"""``git clone``, ``git fetch`` and ``git push`` over HTTP, through git's own ``git http-backend`` as a CGI program."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from emulator.errors import one_line
from emulator.gitiles.git import MissingGitError, explained, git_environment

__all__ = ["Limits", "refused", "run_backend", "service_of", "split_service"]

_SERVICES = ("git-upload-pack", "git-receive-pack")
_ENDPOINT = re.compile(r"/(info/refs|git-upload-pack|git-receive-pack)$")
_PROTOCOL = re.compile(r"[a-z0-9=:]{1,64}")
_PIECE = 1 << 16
_MAX_HEADERS = 1 << 14  # of the CGI program; it sends a few hundred bytes
_MAX_REPORT = 1 << 20  # of git's answer to a push
_READ_SECONDS = 60.0  # between two pieces of a request
_END_SECONDS = 1.0  # for a program whose output is closed
_PUSH_SETTINGS = {
    "http.receivepack": "true",
    "receive.autogc": "false",
    "receive.denyCurrentBranch": "refuse",  # an update of the work tree would start the repository's filters
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request."""

    body: int = 1 << 30
    """Bytes of a request, such as a pushed pack: as sent, and also of a pack that the request compresses."""
    seconds: float = 600.0
    """Time for the transfer of the request, and again for git's whole work with the transfer of its answer."""


def split_service(path: str) -> tuple[str, str] | None:
    """Split a path into a repository's name and the end that a git client adds; None for any other path."""
    match = _ENDPOINT.search(path)
    return (path[: match.start()], match[1]) if match else None


def service_of(request: Request, endpoint: str) -> str:
    """Return the service that a request asks for; empty if it is none of ours, such as a file of the dumb protocol."""
    if endpoint == "info/refs":
        service = request.args.get("service", "") if request.method == "GET" else ""
    else:
        service = endpoint if request.method == "POST" else ""
    return service if service in _SERVICES else ""


def refused(sentence: str, status: int) -> Response:
    """Return a refusal, whose sentence the git client shows to its user as a line of the remote."""
    return Response(f"{sentence}\n", status, content_type="text/plain")


def run_backend(request: Request, repository: Path, endpoint: str, limits: Limits) -> Response:
    """Answer a request for a service; the answer to a push comes after git has changed the refs."""
    try:
        body = _body(request, limits)
    except RequestEntityTooLarge:
        return refused(f"the local cloud takes at most {limits.body >> 20} MiB in one push", 413)
    except (ClientDisconnected, OSError):
        return refused("the request broke off", 400)
    with body:
        try:
            backend = _Backend(_environment(request, repository, endpoint, body, limits), body, limits.seconds)
        except FileNotFoundError:
            return refused(str(MissingGitError()), 500)
    return backend.response(is_whole=endpoint == "git-receive-pack")


def _body(request: Request, limits: Limits) -> IO[bytes]:
    """Return a request's body as a file, from its beginning; the body may be chunked."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        with _limited(request, limits.seconds):
            _copy(request, file, limits.body)
        file.seek(0)
        stack.pop_all()  # the caller closes it
        return file


@contextlib.contextmanager
def _limited(request: Request, seconds: float) -> Iterator[None]:
    """Inside the ``with`` block, end the request's body after a time: a client may send a byte now and then."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.settimeout(_READ_SECONDS)
    timer = threading.Timer(seconds, _end_reading, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_reading(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client is gone
        connection.shutdown(socket.SHUT_RD)


def _copy(request: Request, file: IO[bytes], limit: int) -> None:
    """Write a request's body into a file.

    Raises:
        RequestEntityTooLarge: it has more than ``limit`` bytes. They are read nevertheless, unless they are twice as
            many, because a client that still sends may miss the answer.
    """
    size = 0
    while size <= 2 * limit and (piece := request.stream.read(_PIECE)):
        size += len(piece)
        if size <= limit:
            file.write(piece)
    if size > limit:
        raise RequestEntityTooLarge


def _environment(
    request: Request, repository: Path, endpoint: str, body: IO[bytes], limits: Limits
) -> Mapping[str, str]:
    """Return the environment of the CGI program. The query holds nothing but the service."""
    protocol = request.headers.get("Git-Protocol", "")
    encoding = request.headers.get("Content-Encoding", "")
    return {
        **git_environment({**_PUSH_SETTINGS, "receive.maxInputSize": str(limits.body)}),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": str(repository),
        "PATH_INFO": f"/{endpoint}",
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": f"service={service_of(request, endpoint)}" if endpoint == "info/refs" else "",
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(os.fstat(body.fileno()).st_size),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": "local",
        **({"GIT_PROTOCOL": protocol} if _PROTOCOL.fullmatch(protocol) else {}),
        **({"HTTP_CONTENT_ENCODING": "gzip"} if encoding in ("gzip", "x-gzip") else {}),
    }


class _Backend:
    """The running CGI program, which is killed with all its forks at the end of the time limit."""

    def __init__(self, environment: Mapping[str, str], body: IO[bytes], seconds: float) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `_end` closes it
        try:
            self._process = subprocess.Popen(
                ["git", "http-backend"],
                stdin=body,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError:
            self._errors.close()
            raise
        self._output = cast("IO[bytes]", self._process.stdout)
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def response(self, *, is_whole: bool) -> Response:
        """Return the program's answer: streamed, or read to its end."""
        headers = self._headers()
        status = int(headers.pop("Status", "200").split(" ")[0])
        if not headers:
            return self._failure()
        if is_whole:
            report = self._output.read(_MAX_REPORT)
            self._end()
            return Response(report, status, headers)
        response = Response(self._pieces(), status, headers)
        response.call_on_close(self._end)
        return response

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        left = _MAX_HEADERS
        while (line := self._output.readline(left)) and line.strip():
            left -= len(line)
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip()] = value.strip()
        return headers

    def _failure(self) -> Response:
        self._process.wait()
        self._errors.seek(0)
        message = self._errors.read(_MAX_HEADERS).decode(errors="replace").strip()
        self._end()
        return refused(one_line(f"git http-backend: {explained(message) or 'it took too long'}"), 500)

    def _pieces(self) -> Iterator[bytes]:
        while piece := self._output.read1(_PIECE):  # type: ignore[attr-defined] # the pipe is buffered
            yield piece

    def _end(self) -> None:
        """End the program if it still runs, because its client is gone, for example."""
        self._output.close()
        self._errors.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._timer.cancel()

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
