"""The task queue on Cloud Tasks."""

from __future__ import annotations

import json
from typing import Any

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2

from luci_scheduler.adapters.google_errors import code_of
from luci_scheduler.budget import time_left
from luci_scheduler.core.errors import PermanentError, SchedulerError, TransientError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.transience import google_failure
from luci_scheduler.ports import QueueTask
from luci_scheduler.tracing import trace_headers

__all__ = ["LIMIT", "CloudTasksQueue", "make_client"]

LIMIT = 10.0
"""Seconds for all of one call; taking a task in takes milliseconds."""

_SMALL_TASK = 100_000  # bytes of a task that any size limit of the service lets through: it documents 100 KB and 1 MB
_DISPATCH_DEADLINE = 600  # seconds; what on_task may take, below its own limit: a URL fetch has up to eight minutes


def make_client(endpoint: str, credentials: Any = None) -> tasks_v2.CloudTasksClient:
    """Return a client of the real service, or without TLS and credentials of the server at ``endpoint``.

    ``credentials`` are those for the real service; None: the library looks for them without a limit.
    """
    if not endpoint:
        return tasks_v2.CloudTasksClient(credentials=credentials)
    import grpc  # noqa: PLC0415 - only the local cloud needs it by name
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport  # noqa: PLC0415

    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(endpoint)))


class CloudTasksQueue:
    """``ports.Queue`` whose tasks call ``<url>/<kind>`` as ``account``."""

    def __init__(self, client: Any, queue: str, url: str, account: str, audience: str, limit: float = LIMIT) -> None:
        self._limit = limit
        self._client = client
        self._queue = queue
        self._url = url.rstrip("/")
        self._token = tasks_v2.OidcToken(service_account_email=account, audience=audience)

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue, in the present trace; it is durable when this returns, or was under its name before.

        Raises:
            TransientError: it is not known to be on the queue.
            PermanentError: it is too large for the queue.
        """
        seconds, nanoseconds = divmod(task.eta, SECOND)
        request = tasks_v2.HttpRequest(
            http_method=tasks_v2.HttpMethod.POST,
            url=f"{self._url}/{task.kind}",
            headers={"Content-Type": "application/json", **trace_headers(), **task.headers},
            body=json.dumps({"v": 1, **task.payload}).encode(),
            oidc_token=self._token,
        )
        message = tasks_v2.Task(
            name=f"{self._queue}/tasks/{task.name}" if task.name else "",
            http_request=request,
            schedule_time=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanoseconds),
            dispatch_deadline=duration_pb2.Duration(seconds=_DISPATCH_DEADLINE),
        )
        try:
            # One attempt: the library's own repetitions would not count for the limit.
            self._client.create_task(parent=self._queue, task=message, retry=None, timeout=time_left(self._limit))
        except exceptions.AlreadyExists:
            return
        except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError) as error:
            raise _error(error, task, tasks_v2.Task.pb(message).ByteSize()) from error


def _error(error: Exception, task: QueueTask, size: int) -> SchedulerError:
    failure, said = google_failure(code_of(error)), sanitized(str(error))
    # For a small task the service refuses the queue's settings. The operator can mend them, and the task must not be lost.
    if not failure.transient and size > _SMALL_TASK:
        return PermanentError(f"Cloud Tasks does not take a {task.kind} task of {size} bytes: {said}")
    return TransientError(f"Cloud Tasks did not take a {task.kind} task: {said}", throttled=failure.throttled)
