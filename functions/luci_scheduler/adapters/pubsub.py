"""The topic of announcements, over Pub/Sub's REST API: its client library would slow each start of a function."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, answer_to, read_body
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.transience import google_failure

__all__ = ["PUBLISH_LIMIT", "PUBSUB_SCOPES", "PubsubTopic"]

PUBSUB_SCOPES = ("https://www.googleapis.com/auth/pubsub",)

PUBLISH_LIMIT = 10.0
"""Seconds to publish a message, the token included. Pub/Sub takes tens of milliseconds."""

_MAX_BYTES = 1 << 16  # of an answer: an ID, or an error
_MAX_TEXT = 300  # characters of an error


class PubsubTopic:
    """``ports.Topic`` on Pub/Sub. Each call is one attempt. Thread-safe."""

    def __init__(
        self, topic: str, url: str, session: Callable[[], requests.Session], limit: float = PUBLISH_LIMIT
    ) -> None:
        """Make a topic.

        Args:
            topic: ``projects/<project>/topics/<name>``.
            url: the base URL of the API.
            session: a function that gives each thread its session, from `http.sessions`.
            limit: of one call, in seconds.
        """
        self._topic = topic
        self._url = f"{url.rstrip('/')}/v1/{topic}:publish"
        self._session = session
        self._limit = limit

    def publish(self, attributes: Mapping[str, str], data: bytes) -> None:
        """Publish a message; on return Pub/Sub has stored it.

        Raises:
            TransientError: the message may not be stored.
            PermanentError: Pub/Sub refuses the message itself.
        """
        message = {"data": base64.b64encode(data).decode(), "attributes": dict(attributes)}
        try:
            status, body = self._post({"messages": [message]})
        except (requests.RequestException, GoogleAuthError, TooLargeError) as error:
            raise TransientError(f"{self._topic}: no answer: {type(error).__name__}") from error
        self._check(status, body)

    def _post(self, request: object) -> tuple[int, bytes]:
        with answer_to(self._session(), "POST", self._url, Deadline(self._limit), json=request) as answer:
            return answer.status_code, read_body(answer, _MAX_BYTES)

    def _check(self, status: int, body: bytes) -> None:
        try:
            answer = read_object(body)
        except ValueError:
            answer = {}
        # A proxy or a login page may answer with any status, so only Pub/Sub's own words count.
        if status == requests.codes.ok and answer.get("messageIds"):
            return
        error = answer.get("error")
        said = error if isinstance(error, dict) else {}
        failure = google_failure(str(said.get("status") or f"HTTP {status}"))
        text = f"{self._topic}: {failure.code}: {sanitized(str(said.get('message', '')))[:_MAX_TEXT]}"
        if failure.transient:
            raise TransientError(text, throttled=failure.throttled)
        raise PermanentError(text)
