"""Ports of an application that needs no server: every port in memory, on a clock that stands still."""

from __future__ import annotations

from typing import Any

from emulator.clock import SteppedClock
from emulator.memory.gitiles import AnyCommit
from emulator.memory.queue import MemoryQueue
from emulator.memory.store import MemoryStore
from emulator.memory.system import SeededEntropy
from luci_scheduler.bootstrap import Ports
from luci_scheduler.core.instants import parse_rfc3339
from luci_scheduler.ports import BuildbucketError, Fetched, FetchError

__all__ = ["NoBuildbucket", "NoFetch", "memory_ports"]

_START = "2026-03-01T12:00:00Z"


def memory_ports() -> Ports:
    """Return ports in memory; `dataclasses.replace` substitutes some of them.

    Gitiles knows every commit. Calls of Buildbucket and fetches fail. Every caller of ``on_task`` and every push is
    accepted, and callers of the console are anonymous.
    """
    return Ports(
        store=MemoryStore(),
        queue=MemoryQueue(),
        clock=SteppedClock(parse_rfc3339(_START)),
        entropy=SeededEntropy(1),
        buildbucket=NoBuildbucket(),
        gitiles=AnyCommit(),
        fetch=NoFetch(),
        verify_caller=lambda _: "caller@memory.invalid",
        verify_push=lambda _: "pusher@memory.invalid",
    )


class NoBuildbucket:
    """``ports.Buildbucket`` without a server: every call fails and may be repeated."""

    def v1(self, server: str, *_: object, **__: object) -> dict[str, Any]:
        """Raise ``BuildbucketError``."""
        raise BuildbucketError("UNAVAILABLE", f"there is no server {server} here", transient=True)

    def v2(self, server: str, *_: object, **__: object) -> dict[str, Any]:
        """Raise ``BuildbucketError``."""
        raise BuildbucketError("UNAVAILABLE", f"there is no server {server} here", transient=True)


class NoFetch:
    """``ports.Fetch`` that reaches no server."""

    def get(self, *_: object, **__: object) -> Fetched:
        """Raise ``FetchError``."""
        raise FetchError("no URL can be fetched here")
