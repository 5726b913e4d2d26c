"""Ports of an application that needs no server: every port in memory, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.memory.gitiles import AnyCommit
from emulator.memory.queue import MemoryQueue
from emulator.memory.store import MemoryStore
from emulator.memory.system import ManualClock, SeededEntropy
from luci_scheduler.bootstrap import Ports
from luci_scheduler.core.instants import Instant, parse_rfc3339
from luci_scheduler.ports import BuildbucketError, Fetched, FetchError

__all__ = ["NoBuildbucket", "NoFetch", "memory_ports"]

_START = "2026-03-01T12:00:00Z"


def memory_ports() -> Ports:
    """Return ports in memory, for `dataclasses.replace` to put others in place of some of them.

    Gitiles knows every commit, Buildbucket and fetched URLs never answer, every caller of ``on_task`` is accepted, and callers of
    the console are anonymous.
    """
    return Ports(
        store=MemoryStore(),
        queue=MemoryQueue(),
        clock=ManualClock(parse_rfc3339(_START)),
        entropy=SeededEntropy(1),
        buildbucket=NoBuildbucket(),
        gitiles=AnyCommit(),
        fetch=NoFetch(),
        verify_caller=lambda _: "caller@memory.invalid",
    )


class NoBuildbucket:
    """``ports.Buildbucket`` without a server: every call fails and may be tried again."""

    def v1(
        self,
        server: str,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Fail."""
        raise self._error(server)

    def v2(
        self, server: str, method: str, request: Mapping[str, Any], *, until: Instant | None = None
    ) -> dict[str, Any]:
        """Fail."""
        raise self._error(server)

    @staticmethod
    def _error(server: str) -> BuildbucketError:
        return BuildbucketError("UNAVAILABLE", f"there is no server {server} here", transient=True)


class NoFetch:
    """``ports.Fetch`` that reaches no server."""

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:
        """Fail."""
        raise FetchError("no URL can be fetched here")
