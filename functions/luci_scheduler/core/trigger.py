"""Triggers: the reasons to run a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import Instant

__all__ = ["PayloadKind", "Trigger", "sort_key"]


class PayloadKind(StrEnum):
    """The kinds of triggers, named like the alternatives of a trigger's payload in LUCI's API.

    They are independent of task kinds: any job can consume a trigger of any kind.
    """

    CRON = "cron"
    """A tick of the job's schedule."""
    WEBUI = "webui"
    """A person requested a run."""
    NOOP = "noop"
    """A noop job, or an API client, emitted it."""
    GITILES = "gitiles"
    """A commit landed on a ref."""
    BUILDBUCKET = "buildbucket"
    """An API client emitted it, with properties and tags for a build."""
    NONE = "none"
    """The trigger has no payload."""


@frozen
class Trigger:
    """One reason to run a job, as emitted.

    ``payload`` is the value of ``kind`` in the public JSON form. For gitiles it is ``{"repo", "ref", "revision"}`` and
    optionally ``properties`` (an object) and ``tags`` (``key:value`` strings).
    """

    id: str
    created: Instant
    kind: PayloadKind = PayloadKind.NONE
    payload: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    order_in_batch: int = 0
    title: str = ""
    url: str = ""
    job_id: str = ""
    """The emitting job; empty for the engine and for people."""
    invocation_id: int = 0
    """The emitting invocation; 0 for the engine and for people."""
    emitted_by_user: str = ""
    """The ``kind:value`` identity of the requesting person or service; empty for the engine."""

    @property
    def is_commit(self) -> bool:
        """Whether the trigger announces a commit."""
        return self.kind == PayloadKind.GITILES

    def public(self) -> dict[str, Any]:
        """Return the trigger as builds and API clients see it, without internal and empty fields.

        A noop trigger carries no data here, as in the original. A cron generation is a decimal string (an int64).
        """
        document: dict[str, Any] = {"id": self.id}
        if self.title:
            document["title"] = self.title
        if self.url:
            document["url"] = self.url
        if self.kind == PayloadKind.NOOP:
            document[PayloadKind.NOOP] = {}
        elif self.kind == PayloadKind.CRON:
            # JSON in protocol buffers writes 64-bit integers as texts.
            document[PayloadKind.CRON] = (
                {"generation": str(self.payload["generation"])} if self.payload.get("generation") else {}
            )
        elif self.kind != PayloadKind.NONE:
            document[self.kind] = {name: value for name, value in self.payload.items() if value}
        return document


def sort_key(trigger: Trigger) -> tuple[int, int, bytes]:
    """Order triggers oldest first: by creation time, then by place in the batch, then by the bytes of the ID."""
    return (trigger.created, trigger.order_in_batch, trigger.id.encode())
