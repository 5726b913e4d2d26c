"""What the two protocols have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.build_request import BuildRequest, Log

__all__ = ["Build", "ProtocolClient", "announce_topic", "messages"]


@dataclass(frozen=True, slots=True)
class Build:
    """A build that exists."""

    id: str
    url: str
    status: Status | None
    """A final status of the invocation, or None while the build goes on."""


class ProtocolClient(Protocol):
    """One face of a Buildbucket server; answers are what ``ports.Buildbucket`` returned.

    Every method that calls may raise ``BuildbucketError``; every method that reads an answer, ``PermanentError``.
    """

    def prepare(self, given: BuildRequest, log: Log) -> dict[str, Any]:
        """Return the request for a build and log it, its token hidden."""

    def schedule(self, given: BuildRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for the build, under the request ID of ``given``."""

    def find(self, given: BuildRequest) -> list[dict[str, Any]]:
        """Look up the builds of earlier requests by their tags, within their builder, the newest first; each as ``schedule`` answers."""

    def is_ours(self, given: BuildRequest, answer: Mapping[str, Any]) -> bool:
        """Whether an answer about a build names our builder, job and invocation; members that it lacks are believed."""

    def is_refusal(self, answer: Mapping[str, Any]) -> bool:
        """Whether an answer without an error of the transport refuses the request."""

    def build_id(self, answer: Mapping[str, Any]) -> str:
        """Return the ID that an answer gives its build; it need not be one."""

    def goes_on(self, answer: Mapping[str, Any]) -> bool:
        """Whether the build of an answer is not over."""

    def launched(self, given: BuildRequest, answer: Mapping[str, Any], log: Log) -> Build:
        """Read the answer to a request for a build."""

    def get(self, server: str, build_id: str) -> dict[str, Any]:
        """Ask for a build's state."""

    def checked(self, answer: Mapping[str, Any], log: Log) -> Status | None:
        """Read the answer to a status check: a final status, or None while the build goes on."""

    def cancel(self, server: str, build_id: str) -> None:
        """Cancel a build; one that is over is left as it is."""


def announce_topic(given: BuildRequest, log: Log) -> None:
    """Log which topic the notifications will come through; it was set up with the installation."""
    log(f"Preparing PubSub topic for {quote('https://' + str(given.task.get('server', '')))}")
    log(f"PubSub topic is {quote(given.topic)}")


def messages(value: Any) -> list[Mapping[str, Any]]:
    """Return the messages of a list in an answer; other values are left out."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
