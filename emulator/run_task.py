"""Runs a task of Cloud Tasks and waits for its end."""

from __future__ import annotations

import time
from typing import Any

from google.api_core import exceptions
from google.cloud import tasks_v2

from emulator.errors import LocalCloudError, one_line

__all__ = ["run_task"]

_TIMEOUT = 10.0  # seconds, for one call of the queue
_POLL_SECONDS = 0.02


def run_task(client: Any, queue: str, url: str, account: str, audience: str, seconds: float) -> None:
    """Enqueue a task without a payload, and wait until its target has acknowledged it, at most ``seconds``.

    Args:
        client: the client of Cloud Tasks.
        queue: the queue's full name.
        url: the target.
        account: the account in the call's token.
        audience: the audience of the token.
        seconds: how long to wait; after that the task is left on the queue.

    Raises:
        LocalCloudError: the target did not acknowledge it in time; the text has the last answer.
    """
    token = tasks_v2.OidcToken(service_account_email=account, audience=audience)
    request = tasks_v2.HttpRequest(
        http_method=tasks_v2.HttpMethod.POST,
        url=url,
        headers={"Content-Type": "application/json"},
        body=b"{}",
        oidc_token=token,
    )
    try:
        task = client.create_task(parent=queue, task=tasks_v2.Task(http_request=request), timeout=_TIMEOUT)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            task = client.get_task(name=task.name, timeout=_TIMEOUT)
            time.sleep(_POLL_SECONDS)
    except exceptions.NotFound:
        return  # done: a queue deletes acknowledged tasks
    except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
        raise LocalCloudError(f"the queue does not work: {one_line(str(error))}") from error
    status = task.last_attempt.response_status
    answer = one_line(status.message) or "there was no answer"
    raise LocalCloudError(
        f"{url} did not accept its task within {seconds:.0f} s ({task.response_count} answers; the last: {answer})"
    )
