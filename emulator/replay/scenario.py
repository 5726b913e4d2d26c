"""Scenarios: JSON files with the inputs of the scheduler and none of its outputs; see docs/reference/scenarios.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.replay.errors import ScenarioError
from emulator.replay.reading import Node, parse_json
from luci_scheduler.config.reader import ConfigError, read_config
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant, format_rfc3339

__all__ = ["OPERATIONS", "Delivery", "Reply", "Scenario", "load_scenario", "read_scenario"]

OPERATIONS = ("read", "commit", "enqueue", "call")
_KINDS = ("commit", "notification", "task")
_NOTIFICATION = ("hostname", "buildLargeFields", "buildLargeFieldsDropped", "compression")
_CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
_FIXED_TEXTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
_SUFFIXES = 0xFFFF
_LONGEST_DELAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Reply:
    """Buildbucket's answer to one call: exactly one of the four members is set."""

    reply: Mapping[str, Any] | None = None
    """JSON of a success."""
    code: int | None = None
    """gRPC code of an error, with ``text`` (v2)."""
    http: int | None = None
    """A bare HTTP status with ``text`` as the body: from a proxy before the service, or an error of v1."""
    lost: bool = False
    """The connection breaks before the answer."""
    text: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the call fails."""
        return self.reply is None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message or task that reaches a function."""

    where: str
    """Its place in the document, for errors."""
    kind: str
    """``commit``, ``notification``, or ``task``."""
    at: Instant | None
    """The arrival of a message; None for a task, which has its due time."""
    body: Any
    message: str = ""
    published: Instant | None = None
    lateness: int = 0
    takes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    answers: Sequence[Reply] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """All inputs of a replay."""

    app_id: str
    project: str
    hostname: str
    check_interval_seconds: int
    servers: Sequence[tuple[str, str, Era]]
    """Host, publisher's e-mail and protocol of each Buildbucket server."""
    config_project: str
    config_text: str
    config_revision: str
    config_revision_url: str
    suffixes: Sequence[int]
    check_delays: Sequence[int]
    defaults: Mapping[str, int]
    deliveries: Sequence[Delivery]
    drain: bool

    @property
    def begins(self) -> Instant:
        """The arrival of the first message, where the clock starts."""
        return self.deliveries[0].at or Instant(0)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario and the config in its folder.

    Raises:
        ScenarioError: a file cannot be read, or its content is invalid.
    """
    document = parse_json(_read(path, "the scenario"))
    config = Node(document, "").members(*_TOP)["config"].members(*_CONFIG)
    file = path.parent / config["file"].text()
    return read_scenario(document, _read(file, f"{config['file'].where}: {file}"))


def read_scenario(document: Any, config_text: str) -> Scenario:
    """Read a parsed scenario, with the text of its config.

    Raises:
        ScenarioError: the scenario does not fit the schema; the message names the member.
    """
    top = Node(document, "").members(*_TOP)
    service = top["service"].members(("project", "buildbucket"), ("app_id", "hostname", "check_interval_seconds"))
    config = top["config"].members(*_CONFIG)
    entropy = top["chance"].members(("suffixes",), ("check_delays",))
    defaults = top["defaults"].members((), OPERATIONS) if "defaults" in top else {}
    project, revision = config["project"].text(), config["revision"].text()
    url = _optional_text(config, "revision_url")
    _check_config(config["file"], project, config_text, revision, url)
    check_delays = entropy["check_delays"].items() if "check_delays" in entropy else ()
    interval = service.get("check_interval_seconds")
    return Scenario(
        app_id=_optional_text(service, "app_id") or "luci-scheduler",
        project=service["project"].text(),
        hostname=_optional_text(service, "hostname"),
        check_interval_seconds=interval.integer(1, _LONGEST_DELAY) if interval else 0,
        servers=[_server(item) for item in service["buildbucket"].items()],
        config_project=project,
        config_text=config_text,
        config_revision=revision,
        config_revision_url=url,
        suffixes=[item.integer(0, _SUFFIXES) for item in entropy["suffixes"].items()],
        check_delays=[item.integer(1, _LONGEST_DELAY) for item in check_delays],
        defaults={name: defaults[name].duration() if name in defaults else 0 for name in OPERATIONS},
        deliveries=_deliveries(top["deliveries"]),
        drain=bool(top["drain"].of_type(bool)) if "drain" in top else True,
    )


_TOP = (("service", "config", "chance", "deliveries"), ("defaults", "drain"))
_CONFIG = (("project", "file", "revision"), ("revision_url",))


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ScenarioError(f"{what} cannot be read: {reason}") from error


def _check_config(node: Node, project: str, text: str, revision: str, url: str) -> None:
    try:
        read_config(project, text, revision, url)
    except ConfigError as error:
        problems = "; ".join(str(problem) for problem in error.problems)
        raise node.error(f"the config is not valid: {problems}") from error


def _optional_text(members: Mapping[str, Node], name: str) -> str:
    return members[name].text() if name in members else ""


def _server_text(members: Mapping[str, Node], name: str) -> str:
    """Return a text of a server, which may be empty."""
    return str(members[name].of_type(str)) if name in members else ""


def _server(node: Node) -> tuple[str, str, Era]:
    members = node.members(("host", "publisher"), ("protocol",))
    protocol = _optional_text(members, "protocol") or Era.V2
    if protocol not in list(Era):
        raise members["protocol"].error(f"must be {' or '.join(Era)}, not {protocol!r}")
    return members["host"].text(), members["publisher"].text(), Era(protocol)


def _deliveries(node: Node) -> list[Delivery]:
    deliveries = [_delivery(item) for item in node.items()]
    if not deliveries or deliveries[0].at is None:
        raise node.error("must begin with a commit or a notification, which sets the clock")
    latest = deliveries[0]
    for delivery in deliveries:
        if delivery.at is not None and latest.at is not None:
            if delivery.at < latest.at:
                order = (
                    f"{format_rfc3339(delivery.at)} is before {format_rfc3339(latest.at)}, when {latest.where} comes"
                )
                raise ScenarioError(f"{delivery.where}.at: {order}; deliveries must be in the order of time")
            latest = delivery
    return deliveries


def _delivery(node: Node) -> Delivery:
    kinds = [kind for kind in _KINDS if kind in node.of_type(dict)]
    if len(kinds) != 1:
        raise node.error(f"must hold exactly one of {', '.join(_KINDS)}")
    kind = kinds[0]
    if kind == "task":
        members = node.members(("task",), ("lateness", "takes", "answers"))
        body: Any = members["task"].text()
    else:
        members = node.members((kind, "at"), ("message", "published", "takes", "answers"))
        body = _commit(members[kind]) if kind == "commit" else _notification(members[kind])
    return Delivery(
        where=node.where,
        kind=kind,
        at=members["at"].instant() if "at" in members else None,
        body=body,
        message=_optional_text(members, "message"),
        published=members["published"].instant() if "published" in members else None,
        lateness=members["lateness"].duration(negative=True) if "lateness" in members else 0,
        takes=_takes(members["takes"]) if "takes" in members else {},
        answers=[_reply(item) for item in members["answers"].items()] if "answers" in members else (),
    )


def _commit(node: Node) -> dict[str, str]:
    return {name: item.text() for name, item in node.members(("repo", "ref", "revision")).items()}


def _notification(node: Node) -> Any:
    build = node.members(("build",), _NOTIFICATION)["build"]
    identifier = Node(build.of_type(dict).get("id"), f"{build.where}.id")
    if not identifier.text().isdecimal():
        raise identifier.error("must be the decimal ID of a build")
    return node.value


def _takes(node: Node) -> dict[str, list[int]]:
    members = node.members((), OPERATIONS)
    return {name: [duration.duration() for duration in item.items()] for name, item in members.items()}


def _reply(node: Node) -> Reply:
    kinds = [kind for kind in ("reply", "error", "http", "lost") if kind in node.of_type(dict)]
    if len(kinds) != 1:
        raise node.error("must hold exactly one of reply, error, http, lost")
    match kinds[0]:
        case "reply":
            return Reply(reply=node.members(("reply",))["reply"].of_type(dict))
        case "error":
            return _error(node.members(("error",), ("message",)))
        case "http":
            members = node.members(("http",), ("body",))
            return Reply(http=members["http"].integer(200, 599), text=_server_text(members, "body"))
        case _:
            lost = node.members(("lost",))["lost"]
            if lost.of_type(bool) is not True:
                raise lost.error("must be true")
            return Reply(lost=True)


def _error(members: Mapping[str, Node]) -> Reply:
    name = members["error"].text()
    if name not in _CODES:
        raise members["error"].error(f"{name!r} is not a gRPC code; the codes are {', '.join(_CODES)}")
    if "message" in members and name in _FIXED_TEXTS:
        raise members["message"].error(f"Buildbucket chooses the text of {name}: leave this out")
    return Reply(code=_CODES[name], text=_server_text(members, "message"))
