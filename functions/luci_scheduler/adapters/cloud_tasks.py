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
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.queue_tasks import with_version
from luci_scheduler.core.transience import google_failure
from luci_scheduler.ports import QueueTask
from luci_scheduler.tracing import trace_headers

__all__ = ["LIMIT", "CloudTasksQueue", "make_client"]

LIMIT = 10.0
"""Seconds for one call, in all. The service usually takes milliseconds to accept a task."""

_Task, _Request, _Token = tasks_v2.Task.pb(), tasks_v2.HttpRequest.pb(), tasks_v2.OidcToken.pb()
_DISPATCH_DEADLINE = 600  # seconds for on_task, below the function's limit; a URL fetch may take eight minutes of this


def make_client(endpoint: str, credentials: Any = None) -> tasks_v2.CloudTasksClient:
    """Return a client of the real service, or of the server at ``endpoint`` without TLS and credentials.

    ``credentials`` are for the real service. If None, the library searches for credentials, without a time limit.
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
        self._token = _Token(service_account_email=account, audience=audience)

    def enqueue(self, task: QueueTask) -> None:
        """Put a task on the queue, in the current trace.

        When this returns, the task is durable, or its name was used before.

        Raises:
            TransientError: the task may not be on the queue.
        """
        try:
            # One attempt: the library's own retries would not count toward the limit.
            self._client.create_task(
                parent=self._queue, task=self._message(task), retry=None, timeout=time_left(self._limit)
            )
        except exceptions.AlreadyExists:
            return
        except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError) as error:
            # Tasks are far below the service's size limit of 100 KB, because they name documents instead of holding
            # them. So even INVALID_ARGUMENT concerns the queue's settings: the operator can fix them, and the task
            # must not be lost until then.
            throttled = google_failure(code_of(error)).throttled
            text = f"Cloud Tasks did not accept a {task.kind} task: {sanitized(str(error))}"
            raise TransientError(text, throttled=throttled) from error

    def _message(self, task: QueueTask) -> tasks_v2.Task:
        seconds, nanoseconds = divmod(task.eta, SECOND)
        # The plain message: the library's own classes copy each part on its way into the whole.
        request = _Request(
            http_method=tasks_v2.HttpMethod.POST,
            url=f"{self._url}/{task.kind}",
            headers={"Content-Type": "application/json", **trace_headers()},
            body=json.dumps(with_version(task.payload)).encode(),
            oidc_token=self._token,
        )
        message = _Task(
            name=f"{self._queue}/tasks/{task.name}" if task.name else "",
            http_request=request,
            schedule_time=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanoseconds),
            dispatch_deadline=duration_pb2.Duration(seconds=_DISPATCH_DEADLINE),
        )
        wrapped: tasks_v2.Task = tasks_v2.Task.wrap(message)
        return wrapped
