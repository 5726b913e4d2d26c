"""The answers of a scenario: of Buildbucket, of Gitiles, and of the servers that ``url_fetch`` jobs reach."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.replay.errors import ScenarioError
from emulator.replay.reading import Node, optional_text, read_object_of_texts, texts
from luci_scheduler.core.instants import Instant
from luci_scheduler.ports import Fetched, FetchError, GitCommit, GitilesError, LogPage

__all__ = ["GitilesAnswer", "Reply", "RestAnswer", "code_name", "read_fetch", "read_gitiles", "read_reply"]

_CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
_FIXED_TEXTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
_HASH_DIGITS = frozenset("0123456789abcdef")
_HASH_LENGTH = 40
_LARGEST = 1 << 31


@dataclass(frozen=True, slots=True)
class Reply:
    """Buildbucket's answer to one call: exactly one of the first six members is set."""

    reply: Mapping[str, Any] | None = None
    """JSON of a success."""
    code: int | None = None
    """gRPC code of an error, with ``text`` (v2)."""
    http: int | None = None
    """A bare HTTP status with ``text`` as the body: from a proxy before the service, or an error of v1."""
    lost: bool = False
    """The connection breaks before the answer."""
    silent: bool = False
    """There is no answer: the client gives up at its deadline, or after the call's duration if the scenario has one."""
    failure: str = ""
    """The client's own error ``code: text``, without an answer on the wire."""
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Additional headers of a success, an error or an HTTP status."""
    transient: bool = True
    """For a ``failure``: whether the scheduler may try again."""

    @property
    def is_failure(self) -> bool:
        """Whether the call fails."""
        return self.reply is None

    @property
    def is_own(self) -> bool:
        """Whether the client itself decides the outcome, so that nothing is read from the wire."""
        return self.silent or bool(self.failure)


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """The answer of GitHub's REST API to one request."""

    request: str
    """Method, path and query of the request, as in ``GET /repos/owner/name/commits?page=1``."""
    status: int
    body: Any
    """A JSON value; None: the answer has no body."""
    headers: Mapping[str, str]


GitilesAnswer = Mapping[str, str] | LogPage | GitilesError | RestAnswer
"""The answer to a listing of refs or to a log, or the error of either; or one of the REST answers behind them."""


def code_name(code: int) -> str:
    """Return the name of a gRPC code."""
    return next(name for name, number in _CODES.items() if number == code)


def read_reply(node: Node) -> Reply:
    """Read an answer of a build service."""
    kind = node.one_of(tuple(_REPLIES))
    return _REPLIES[kind](node)


def _success(node: Node) -> Reply:
    members = node.members(("reply",), ("headers",))
    return Reply(reply=members["reply"].of_type(dict), headers=_headers(members))


def _error(node: Node) -> Reply:
    members = node.members(("error",), ("message", "headers"))
    name = _code(members["error"])
    if "message" in members and name in _FIXED_TEXTS:
        raise members["message"].error(f"Buildbucket chooses the text of {name}: leave this out")
    text = _any_text(members, "message")
    return Reply(code=_CODES[name], text=text, headers=_headers(members))


def _http(node: Node) -> Reply:
    members = node.members(("http",), ("body", "headers"))
    status = members["http"].integer(200, 599)
    return Reply(http=status, text=_any_text(members, "body"), headers=_headers(members))


def _lost(node: Node) -> Reply:
    node.members(("lost",))["lost"].true()
    return Reply(lost=True)


def _silent(node: Node) -> Reply:
    node.members(("silent",))["silent"].true()
    return Reply(silent=True)


def _failure(node: Node) -> Reply:
    members = node.members(("failure",), ("transient",))
    text = members["failure"].text()
    return Reply(failure=text, transient=members["transient"].boolean() if "transient" in members else True)


_REPLIES: Mapping[str, Callable[[Node], Reply]] = {
    "reply": _success,
    "error": _error,
    "http": _http,
    "lost": _lost,
    "silent": _silent,
    "failure": _failure,
}


def _headers(members: Mapping[str, Node]) -> dict[str, str]:
    return read_object_of_texts(members["headers"]) if "headers" in members else {}


def _code(node: Node) -> str:
    name = node.text()
    if name not in _CODES:
        raise node.error(f"{name!r} is not a gRPC code; the codes are {', '.join(_CODES)}")
    return name


def _any_text(members: Mapping[str, Node], name: str) -> str:
    """Return a text, which may be empty."""
    return str(members[name].of_type(str)) if name in members else ""


def read_gitiles(node: Node) -> GitilesAnswer:
    """Read an answer of a commit host: ``refs``, ``log``, ``error``, or ``request`` with a REST answer."""
    match node.one_of(("refs", "log", "error", "request")):
        case "request":
            members = node.members(("request", "status"), ("body", "headers"))
            body = members["body"].value if "body" in members else None
            status = members["status"].integer(200, 599)
            return RestAnswer(members["request"].text(), status, body, _headers(members))
        case "refs":
            refs = node.members(("refs",))["refs"].named()
            return {name: _hash(revision) for name, revision in refs.items()}
        case "log":
            members = node.members(("log",), ("next",))
            return LogPage(tuple(map(_commit, members["log"].items())), optional_text(members, "next"))
        case _:
            members = node.members(("error",), ("message", "transient"))
            is_transient = members["transient"].boolean() if "transient" in members else False
            return GitilesError(_code(members["error"]), _any_text(members, "message"), transient=is_transient)


def _commit(node: Node) -> GitCommit:
    members = node.members(("revision", "committed"), ("paths",))
    paths = texts(members["paths"]) if "paths" in members else ()
    committed: Instant = members["committed"].instant()
    return GitCommit(_hash(members["revision"]), committed, tuple((path, path) for path in paths))


def _hash(node: Node) -> str:
    text = node.text()
    if len(text) != _HASH_LENGTH or not _HASH_DIGITS.issuperset(text):
        raise node.error(f"must be a hash of {_HASH_LENGTH} hexadecimal digits in lower case")
    return text


def read_fetch(node: Node) -> Fetched | FetchError:
    """Read the answer to a fetch: ``status``, or ``error``."""
    if node.one_of(("status", "error")) == "error":
        return FetchError(node.members(("error",))["error"].text())
    members = node.members(("status",), ("headers", "body", "base64", "length"))
    status = members["status"].text()
    code, _, _ = status.partition(" ")
    if not (code.isascii() and code.isdecimal() and len(code) == 3):  # noqa: PLR2004 - digits of an HTTP status
        raise members["status"].error("must be a code of three digits and a reason, such as '200 OK'")
    length = members["length"].integer(0, _LARGEST) if "length" in members else None
    headers = [_header(item) for item in members["headers"].items()] if "headers" in members else ()
    return Fetched(int(code), status, tuple(headers), _body(members), length)


def _header(node: Node) -> tuple[str, str]:
    pair = node.items()
    if len(pair) != 2:  # noqa: PLR2004 - a pair
        raise node.error("must be a list of a name and a value")
    return pair[0].text(), str(pair[1].of_type(str))


def _body(members: Mapping[str, Node]) -> bytes:
    if "base64" not in members:
        return _any_text(members, "body").encode()
    if "body" in members:
        raise members["base64"].error("an answer has either a body or base64")
    try:
        return base64.b64decode(members["base64"].text(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ScenarioError(f"{members['base64'].where}: must be base64: {error}") from error
