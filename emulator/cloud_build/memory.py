"""The port to Cloud Build in memory: the same service and the same faults as the HTTP server, without a connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from emulator.cloud_build.exchange import CutError, Exchange, Reply
from emulator.cloud_build.faults import Fault
from emulator.cloud_build.service import Service
from emulator.serving.faults import Faults
from luci_scheduler.core import transience
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import CloudBuildError

__all__ = ["MemoryCloudBuild"]

_OK = 200


class _LateError(Exception):
    """The answer would come after the caller's deadline."""


class MemoryCloudBuild:
    """``ports.CloudBuild`` on a service in this process. Errors are those of the client over HTTP.

    No call blocks: a delay beyond the deadline of a call fails it at once.

    Attributes:
        service: the builds and triggers.
        faults: the active faults.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.faults: Faults[Fault] = Faults()
        self._exchange = Exchange(service, self.faults)

    def call(
        self,
        http_method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        seconds: float,
        until: Instant | None = None,
    ) -> dict[str, Any]:
        """Call a method of the API; see `ports.CloudBuild`.

        Raises:
            CloudBuildError: a fault, or the service refuses the call.
        """
        left = seconds if until is None else min(seconds, (until - self.service.clock.now()) / SECOND)

        def wait(delay: float) -> None:
            if delay >= left:
                raise _LateError

        data = b"" if body is None else json.dumps(body).encode()
        try:
            if left <= 0:
                raise _LateError  # noqa: TRY301 - as a call that waits too long
            reply = self._exchange.answer(http_method, path, dict(query), data, wait)
        except _LateError as error:
            raise CloudBuildError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True) from error
        except CutError as error:
            raise CloudBuildError("UNAVAILABLE", "no answer: ConnectionError", transient=True) from error
        if reply.is_cut:
            raise CloudBuildError("UNAVAILABLE", "no answer: ChunkedEncodingError", transient=True)
        if reply.status != _OK:
            _fail(reply)
        answer: dict[str, Any] = json.loads(reply.body)
        return answer


def _fail(reply: Reply) -> NoReturn:
    said: Mapping[str, Any] = json.loads(reply.body)["error"] if reply.body.startswith(b"{") else {}
    failure = transience.api_failure(reply.status, str(said.get("status", "")))
    reason = next((str(detail["reason"]) for detail in said.get("details", ()) if "reason" in detail), "")
    text = str(said["message"]) if said else f"HTTP {reply.status} without an error object"
    is_forbidden = failure.code == "PERMISSION_DENIED" and reason
    raise CloudBuildError(
        failure.code,
        f"{text} ({reason})" if is_forbidden else text,
        reason=reason if is_forbidden else "",
        transient=failure.transient,
        throttled=failure.throttled,
    )
