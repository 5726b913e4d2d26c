"""Tasks that somebody waits for."""

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
    """Put a task without a payload on the queue, and wait until its target has taken it, at most ``seconds``.

    Args:
        client: of Cloud Tasks.
        queue: the queue's full name.
        url: what is called.
        account: who the call is signed as.
        audience: for whom.
        seconds: how long to wait; after that the task is left on the queue.

    Raises:
        LocalCloudError: it was not taken; with the answer of the last attempt.
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
        return  # done: a queue forgets what was taken
    except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
        raise LocalCloudError(f"the queue does not work: {one_line(str(error))}") from error
    status = task.last_attempt.response_status
    answer = one_line(status.message) or "there was no answer"
    raise LocalCloudError(
        f"{url} did not take its task within {seconds:.0f} s ({task.response_count} answers; the last: {answer})"
    )
