"""The deliveries of a scenario: messages, tasks and requests, in the order in which they reach the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.replay.answers import GitilesAnswer, Reply, read_fetch, read_gitiles, read_reply
from emulator.replay.errors import ScenarioError
from emulator.replay.operations import OPERATIONS, Operation, parse_operation
from emulator.replay.reading import Node, optional_text
from luci_scheduler.core.errors import MalformedError
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import arriving_trigger
from luci_scheduler.ports import Fetched, FetchError

__all__ = ["Abort", "Arrival", "ConfigChange", "Delivery", "ReadConfig", "read_deliveries"]

_NOTIFICATION = ("hostname", "buildLargeFields", "buildLargeFieldsDropped", "compression")
_DURING = ("dies", "during", "status", "takes", "answers", "gitiles", "fetch")
"""Members of every delivery that a function handles."""
_MESSAGE = ("message", "published", *_DURING)
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Arrival:
    """Triggers that reach a job together."""

    job: str
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """A person's request to abort an invocation."""

    by: str
    reason: str
    job: str
    invocation: int
    """0: the only active invocation."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Another config of the scenario's project."""

    text: str
    revision: str
    revision_url: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, task or request that reaches a function."""

    where: str
    """Its place in the document, for errors."""
    kind: str
    """``commit``, ``notification``, ``build``, ``task``, ``triggers``, ``abort``, or ``config``."""
    at: Instant | None
    """The arrival; None for a task at its due time."""
    body: Any
    message: str = ""
    published: Instant | None = None
    lateness: int = 0
    token: str | None = None
    """The token of a notification, if it is not the token of the build."""
    status: int | None = None
    """The HTTP status that the function must answer; any success if None."""
    dies: Operation | None = None
    """The function's process dies before this operation."""
    during: Operation | None = None
    """The delivery arrives during this operation of the delivery before it."""
    takes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    answers: Sequence[Reply] = ()
    gitiles: Sequence[GitilesAnswer] | None = None
    """None: the host knows every commit, and lists no refs."""
    fetch: Sequence[Fetched | FetchError] = ()
    meanwhile: Sequence[Delivery] = ()
    """The deliveries that arrive during an operation of this one."""


ReadConfig = Callable[[Node], str]
"""Returns the text of a config whose file a node names."""


def read_deliveries(node: Node, read_config: ReadConfig) -> list[Delivery]:
    """Read the list of deliveries.

    Raises:
        ScenarioError: a delivery does not fit the schema, or the order of time.
    """
    deliveries = [_delivery(item, read_config) for item in node.items()]
    if not deliveries or deliveries[0].at is None or deliveries[0].kind == "config":
        raise node.error("must begin with a commit or a notification, or with triggers: the first sets the clock")
    _check_order(deliveries)
    return _nested(deliveries)


def _check_order(deliveries: Sequence[Delivery]) -> None:
    latest = deliveries[0]
    for delivery in deliveries:
        if delivery.at is None or latest.at is None:
            continue
        if delivery.at < latest.at:
            order = f"{format_rfc3339(delivery.at)} is before {format_rfc3339(latest.at)}, when {latest.where} comes"
            raise ScenarioError(f"{delivery.where}.at: {order}; deliveries must be in the order of time")
        latest = delivery


def _nested(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return the deliveries, each with the deliveries that arrive during it."""
    found: list[Delivery] = []
    for delivery in deliveries:
        if delivery.during is None:
            found.append(delivery)
            continue
        if not found or found[-1].kind == "config":
            raise ScenarioError(f"{delivery.where}.during: there is no delivery before it that a function handles")
        found[-1] = replace(found[-1], meanwhile=(*found[-1].meanwhile, delivery))
    return found


def _delivery(node: Node, read_config: ReadConfig) -> Delivery:
    kind = node.one_of(tuple(_KINDS))
    if kind == "config":
        members = node.members(("config", "at"))
        return Delivery(node.where, kind, members["at"].instant(), _config_change(members["config"], read_config))
    required, optional, read = _KINDS[kind]
    members = node.members((kind, *required), optional)
    if "arrival" in members and "lateness" in members:
        raise members["lateness"].error("a task has either an arrival or a lateness")
    found = Delivery(where=node.where, kind=kind, at=None, body=read(members[kind]))
    return replace(
        found, **{field: value(members[name]) for name, (field, value) in _MEMBERS.items() if name in members}
    )


def _commit(node: Node) -> dict[str, str]:
    return {name: item.text() for name, item in node.members(("repo", "ref", "revision")).items()}


def _notification(node: Node) -> Any:
    build = node.members(("build",), _NOTIFICATION)["build"]
    identifier = Node(build.of_type(dict).get("id"), f"{build.where}.id")
    if not identifier.text().isdecimal():
        raise identifier.error("must be the decimal ID of a build")
    return node.value


def _build(node: Node) -> Any:
    return node.of_type(dict)


def _task(node: Node) -> str:
    return node.text()


def _arrival(node: Node) -> Arrival:
    members = node.members(("job", "list"))
    triggers = [_trigger(item) for item in members["list"].items()]
    if not triggers:
        raise members["list"].error("must not be empty")
    return Arrival(members["job"].text(), tuple(triggers))


_TRIGGER = ("kind", "payload", "title", "url", "order", "by", "job", "invocation")


def _trigger(node: Node) -> Trigger:
    members = node.members(("id", "created"), _TRIGGER)
    document: dict[str, Any] = {"id": members["id"].text(), "created": members["created"].instant()}
    renamed = {"by": "emitted_by_user", "job": "job_id"}
    for name in ("kind", "title", "url", "by", "job"):
        if name in members:
            document[renamed.get(name, name)] = members[name].text()
    if "payload" in members:
        document["payload"] = members["payload"].of_type(dict)
    if "order" in members:
        document["order_in_batch"] = members["order"].integer(0, 10**9)
    if "invocation" in members:
        document["invocation_id"] = _number(members["invocation"])
    try:
        return arriving_trigger(document)
    except MalformedError as error:
        raise node.error(str(error)) from error


def _number(node: Node) -> int:
    """Return a 63-bit number that the document holds as a text, because JSON readers round large numbers."""
    text = node.text()
    if not (text.isascii() and text.isdecimal() and int(text[:20]) < _LARGEST):
        raise node.error("must be a decimal number in quotation marks")
    return int(text)


def _abort(node: Node) -> Abort:
    members = node.members(("by",), ("reason", "job", "invocation"))
    number = _number(members["invocation"]) if "invocation" in members else 0
    by, reason, job = members["by"].text(), optional_text(members, "reason"), optional_text(members, "job")
    if bool(number) != bool(job):
        raise node.error("must name both job and invocation, or neither")
    return Abort(by, reason, job, number)


def _config_change(node: Node, read_config: ReadConfig) -> ConfigChange:
    members = node.members(("file", "revision"), ("revision_url",))
    text = read_config(members["file"])
    return ConfigChange(text, members["revision"].text(), optional_text(members, "revision_url"))


_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Node], Any]]] = {
    "commit": (("at",), _MESSAGE, _commit),
    "notification": (("at",), ("token", *_MESSAGE), _notification),
    "task": ((), ("lateness", "arrival", *_DURING), _task),
    "triggers": (("at",), ("message", *_DURING), _arrival),
    "abort": (("at",), _DURING, _abort),
    "config": ((), (), lambda _: None),
    "build": (("at",), _MESSAGE, _build),
}


def _takes(node: Node) -> dict[str, list[int]]:
    members = node.members((), OPERATIONS)
    return {name: [duration.duration() for duration in item.items()] for name, item in members.items()}


def _operation(node: Node) -> Operation:
    operation = parse_operation(node.text())
    if operation is None:
        raise node.error(f"must be an operation and its number, such as call[0]; operations: {', '.join(OPERATIONS)}")
    return operation


_MEMBERS: Mapping[str, tuple[str, Callable[[Node], Any]]] = {
    "at": ("at", Node.instant),
    "arrival": ("at", Node.instant),
    "message": ("message", Node.text),
    "published": ("published", Node.instant),
    "lateness": ("lateness", lambda node: node.duration(negative=True)),
    "token": ("token", lambda node: str(node.of_type(str))),
    "status": ("status", lambda node: node.integer(200, 599)),
    "dies": ("dies", _operation),
    "during": ("during", _operation),
    "takes": ("takes", _takes),
    "answers": ("answers", lambda node: [read_reply(item) for item in node.items()]),
    "gitiles": ("gitiles", lambda node: [read_gitiles(item) for item in node.items()]),
    "fetch": ("fetch", lambda node: [read_fetch(item) for item in node.items()]),
}
"""The optional members of a delivery: the field of each, and its reader."""
