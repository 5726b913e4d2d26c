"""The stages of replays: the same steps run on the official emulators and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from luci_scheduler.bootstrap import Ports
from luci_scheduler.core.instants import Instant
from luci_scheduler.settings import Settings

__all__ = ["TASK_ACCOUNT", "Answer", "Message", "Stage", "Waiting"]

TASK_ACCOUNT = "tasks@replay.iam.gserviceaccount.com"
"""The account in the tokens of tasks."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A function's answer to a delivery; status 0 means that there was no answer."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A Pub/Sub message, with the ID and the time that the scenario gives it."""

    data: bytes
    attributes: Mapping[str, str]
    id: str
    published: Instant


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task on the queue."""

    name: str
    kind: str
    due: int


class Stage(Protocol):
    """Everything around the functions; at most one delivery runs at a time."""

    @property
    def task_url(self) -> str:
        """Base URL of ``on_task``."""

    @property
    def buildbucket_url(self) -> str:
        """Base URL of all Buildbucket servers of the scenario."""

    def ports(self, settings: Settings) -> Ports:
        """Return the ports of the functions; their operations do not take the scenario's durations yet."""

    def deliver(self, topic: str, message: Message) -> Answer:
        """Publish a message, and return when its function has answered."""

    def waiting(self) -> list[Waiting]:
        """Return the tasks on the queue, the earliest first."""

    def dispatch(self, task: Waiting) -> Answer:
        """Deliver a task now, and return when ``on_task`` has answered; a failed task is due again after a pause."""
