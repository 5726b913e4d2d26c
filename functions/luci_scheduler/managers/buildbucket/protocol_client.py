"""The interface that the clients of both Buildbucket protocols implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from luci_scheduler.core import log_lines
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Status
from luci_scheduler.managers.buildbucket.build_request import BuildRequest, Log

__all__ = ["Build", "ProtocolClient", "announce_topic", "messages"]


@frozen
class Build:
    """A build on the server."""

    id: str
    url: str
    status: Status | None
    """The invocation's final status; None while the build is active."""


class ProtocolClient(Protocol):
    """Speaks one protocol of Buildbucket servers. An answer is a response that ``ports.Buildbucket`` returned.

    Methods that call the server may raise ``BuildbucketError``; methods that read an answer, ``PermanentError``.
    """

    def prepare(self, request: BuildRequest, log: Log) -> dict[str, Any]:
        """Return the body of a request for a build. Log the body with its token hidden."""

    def schedule(self, request: BuildRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Request the build, under the ID of ``request``."""

    def find(self, request: BuildRequest) -> list[dict[str, Any]]:
        """Find the builds of earlier requests by builder and tags, newest first, each in the form of an answer."""

    def is_ours(self, request: BuildRequest, answer: Mapping[str, Any]) -> bool:
        """Whether an answer names our builder, job and invocation. A member that is missing counts as ours."""

    def is_refusal(self, answer: Mapping[str, Any]) -> bool:
        """Whether the server refused the request inside a successful response."""

    def build_id(self, answer: Mapping[str, Any]) -> str:
        """Return the build ID in an answer, unchecked."""

    def is_active(self, answer: Mapping[str, Any]) -> bool:
        """Whether the build of an answer is still active."""

    def launched(self, request: BuildRequest, answer: Mapping[str, Any], log: Log) -> Build:
        """Read and log the answer to a request for a build."""

    def get(self, server: str, build_id: str) -> dict[str, Any]:
        """Fetch a build."""

    def checked(self, answer: Mapping[str, Any], log: Log) -> Status | None:
        """Read and log the answer to a status check. Return the final status, or None while the build is active."""

    def summary(self, answer: Mapping[str, Any]) -> str:
        """Return the words of an ended build about its end, unchecked; empty if there are none."""

    def cancel(self, server: str, build_id: str) -> None:
        """Cancel a build; do nothing if it has ended."""


def announce_topic(request: BuildRequest, log: Log) -> None:
    """Log the topic of the notifications. It was created with the installation."""
    if not request.topic:
        log(log_lines.NO_TOPIC.format())
        return
    log(log_lines.PREPARING_TOPIC.format(server=quote("https://" + str(request.task.get("server", "")))))
    log(log_lines.TOPIC.format(topic=quote(request.topic)))


def messages(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list of an answer; skip other values."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
