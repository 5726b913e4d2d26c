"""Scenarios: JSON files with the inputs of the scheduler and none of its outputs; see docs/reference/scenarios.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.replay.deliveries import Delivery, ReadConfig, read_deliveries
from emulator.replay.errors import ScenarioError
from emulator.replay.operations import OPERATIONS
from emulator.replay.reading import Node, optional_text, parse_json, read_object_of_texts, texts
from luci_scheduler.config.reader import ConfigError, read_config
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import Instant
from luci_scheduler.managers.environment import Polling
from luci_scheduler.settings import BuildbucketServer

__all__ = ["Scenario", "load_scenario", "read_scenario"]

_SUFFIXES = 0xFFFF
_LONGEST_DELAY = 24 * 3600
_MOST_COMMITS = 10_000
_TOP = (("service", "config", "chance", "deliveries"), ("assumptions", "defaults", "pollers", "drain"))
_SERVICE = (("project", "buildbucket"), ("app_id", "hostname", "check_interval_seconds", "polling", "cloud_build"))
_CLOUD_BUILD = ("project", "location", "account")
_CONFIG = (("project", "file", "revision"), ("revision_url",))
_POLLING = ("protocol", "commits_per_ref", "commits_per_poll", "backfill")


@dataclass(frozen=True, slots=True)
class KnownRefs:
    """The refs that a gitiles job knows of its repository."""

    known: Mapping[str, str]
    """Ref → revision."""
    watched: Sequence[str] | None
    """The ``refs`` of its config when it learned this; those of the scenario's config if None."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All inputs of a replay."""

    app_id: str
    project: str
    hostname: str
    check_interval_seconds: int
    polling: Polling
    servers: Sequence[BuildbucketServer]
    cloud_build: Mapping[str, str] | None
    """The defaults of ``cloud_build`` jobs: ``project``, ``location``, ``account``; None: there are no such jobs."""
    config_project: str
    config_text: str
    config_revision: str
    config_revision_url: str
    suffixes: Sequence[int]
    check_delays: Sequence[int]
    defaults: Mapping[str, int]
    pollers: Mapping[str, KnownRefs]
    """Job → the refs that it knew before the first delivery."""
    deliveries: Sequence[Delivery]
    drain: bool
    assumptions: Sequence[str] = ()
    """The assumptions of an export. A replay ignores them."""

    @property
    def begins(self) -> Instant:
        """The arrival of the first message, where the clock starts."""
        return self.deliveries[0].at or Instant(0)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario and the configs in its folder.

    Raises:
        ScenarioError: a file cannot be read, or its content is invalid.
    """
    document = parse_json(_read(path, "the scenario"))

    def read_file(node: Node) -> str:
        name = node.text()
        if Path(name).name != name:  # a scenario of a stranger may read nothing else
            raise node.error("must be the name of a file in the scenario's folder")
        file = path.parent / name
        return _read(file, f"{node.where}: {file}")

    return _scenario(document, read_file)


def read_scenario(document: Any, config_text: str, other_configs: Mapping[str, str] | None = None) -> Scenario:
    """Read a parsed scenario.

    Args:
        document: the parsed JSON.
        config_text: the text of its first config.
        other_configs: the texts of the configs that replace it, by file name.

    Raises:
        ScenarioError: the scenario does not fit the schema; the message names the member.
    """

    def known(node: Node) -> str:
        if node.where == "config.file":
            return config_text
        if node.text() not in (other_configs or {}):
            raise node.error("there is no such config")
        return (other_configs or {})[node.text()]

    return _scenario(document, known)


def _scenario(document: Any, read_file: ReadConfig) -> Scenario:
    top = Node(document, "").members(*_TOP)
    service = top["service"].members(*_SERVICE)
    config = top["config"].members(*_CONFIG)
    entropy = top["chance"].members(("suffixes",), ("check_delays",))
    defaults = top["defaults"].members((), OPERATIONS) if "defaults" in top else {}
    project, revision = config["project"].text(), config["revision"].text()
    read_valid = _valid_config(project, read_file)
    check_delays = entropy["check_delays"].items() if "check_delays" in entropy else ()
    interval = service.get("check_interval_seconds")
    return Scenario(
        app_id=optional_text(service, "app_id") or "luci-scheduler",
        project=service["project"].text(),
        hostname=optional_text(service, "hostname"),
        check_interval_seconds=interval.integer(1, _LONGEST_DELAY) if interval else 0,
        polling=_polling(service["polling"]) if "polling" in service else Polling(),
        servers=[_server(item) for item in service["buildbucket"].items()],
        cloud_build=_cloud_build(service["cloud_build"]) if "cloud_build" in service else None,
        config_project=project,
        config_text=read_valid(config["file"]),
        config_revision=revision,
        config_revision_url=optional_text(config, "revision_url"),
        suffixes=[item.integer(0, _SUFFIXES) for item in entropy["suffixes"].items()],
        check_delays=[item.integer(1, _LONGEST_DELAY) for item in check_delays],
        defaults={name: defaults[name].duration() if name in defaults else 0 for name in OPERATIONS},
        pollers=_pollers(top["pollers"]) if "pollers" in top else {},
        deliveries=read_deliveries(top["deliveries"], read_valid),
        drain=top["drain"].boolean() if "drain" in top else True,
        assumptions=texts(top["assumptions"]) if "assumptions" in top else (),
    )


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ScenarioError(f"{what} cannot be read: {reason}") from error


def _valid_config(project: str, read_file: ReadConfig) -> ReadConfig:
    """Return a reader of configs that refuses invalid ones."""

    def read(node: Node) -> str:
        text = read_file(node)
        try:
            read_config(project, text, "", "")
        except ConfigError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            raise node.error(f"the config is not valid: {problems}") from error
        return text

    return read


def _server(node: Node) -> BuildbucketServer:
    members = node.members(("host",), ("publisher", "protocol", "topic", "notifications"))
    notifies = members["notifications"].boolean() if "notifications" in members else True
    if notifies and "publisher" not in members:
        raise node.error("lacks 'publisher'")
    return BuildbucketServer(
        members["host"].text(),
        optional_text(members, "publisher"),
        _era(members),
        topic=optional_text(members, "topic"),
        notifications=notifies,
    )


def _cloud_build(node: Node) -> dict[str, str]:
    return {name: item.text() for name, item in node.members((), _CLOUD_BUILD).items()}


def _era(members: Mapping[str, Node]) -> Era:
    protocol = optional_text(members, "protocol") or Era.V2
    if protocol not in list(Era):
        raise members["protocol"].error(f"must be {' or '.join(Era)}, not {protocol!r}")
    return Era(protocol)


def _polling(node: Node) -> Polling:
    members = node.members((), _POLLING)
    usual = Polling()
    per_ref, per_poll = members.get("commits_per_ref"), members.get("commits_per_poll")
    return Polling(
        era=_era(members),
        commits_per_ref=per_ref.integer(1, _MOST_COMMITS) if per_ref else usual.commits_per_ref,
        commits_per_poll=per_poll.integer(1, _MOST_COMMITS) if per_poll else usual.commits_per_poll,
        backfill=members["backfill"].boolean() if "backfill" in members else usual.backfill,
    )


def _pollers(node: Node) -> dict[str, KnownRefs]:
    found: dict[str, KnownRefs] = {}
    for job, item in node.named().items():
        members = item.members(("known",), ("watched",))
        watched = texts(members["watched"]) if "watched" in members else None
        found[job] = KnownRefs(read_object_of_texts(members["known"]), watched)
    return found
