"""The calls of a client of a JSON API: one attempt each, with a deadline, a bounded answer and the client's error.

The client adds the meaning: addresses, headers, and which answers are permanent errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, answer_to, read_json_body
from luci_scheduler.budget import time_left
from luci_scheduler.core import transience
from luci_scheduler.core.foreign_json import read_answer
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import Clock, ServiceError

__all__ = ["JSON", "MAX_BODY_BYTES", "RawAnswer", "RestCalls"]

MAX_BODY_BYTES = 16 << 20
"""The limit of an unpacked answer. A build of Buildbucket has at most about 1 MB of properties, and a search returns
ten builds. A page of a hundred builds of Cloud Build has about a megabyte."""

JSON = "application/json"
"""The type of the bodies, for the headers ``Accept`` and ``Content-Type``."""

E = TypeVar("E", bound=ServiceError)


@frozen
class RawAnswer:
    """A complete answer of any status."""

    status: int
    headers: Mapping[str, str]
    """Keys are found in any case."""
    body: bytes


class RestCalls(Generic[E]):
    """The calls of one client, which raise its error. Thread-safe."""

    def __init__(
        self, error: Callable[..., E], unreadable: str, session: Callable[[], requests.Session], clock: Clock
    ) -> None:
        """Make the calls of a client.

        Args:
            error: the class of the client's errors, with the arguments of `ports.ServiceError`.
            unreadable: the code of the error about an answer that is too large or holds no JSON object.
            session: a function that gives each thread its session, from `http.sessions`.
            clock: the current time, to compare with a call's ``until`` and with the date of a ``Retry-After`` header.
        """
        self._error = error
        self._unreadable = unreadable
        self._session = session
        self._clock = clock

    def time_left(self, limit: float, until: Instant | None) -> float:
        """Return the seconds of a call: the smallest of ``limit``, the time to ``until``, and the delivery's budget.

        Raises:
            E (the client's error): ``until`` has passed.
            TransientError: the delivery has no time left.
        """
        left = limit if until is None else min(limit, (until - self._clock.now()) / SECOND)
        if left <= 0:
            raise self._late()
        return time_left(left)

    def send(
        self,
        http_method: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        query: Sequence[tuple[str, str]],
        seconds: float,
    ) -> RawAnswer:
        """Send one request, with ``body`` as JSON, and return the answer of any status.

        Raises:
            E (the client's error): there is no complete answer within ``seconds``, or it is too large. It is always
                transient: the server may have acted, and the next answer may be smaller.
            TransientError: the delivery has no time left.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        deadline, params = Deadline(seconds), list(query) or None
        try:
            with answer_to(
                self._session(), http_method, url, deadline, params=params, data=data, headers=headers
            ) as answer:
                return RawAnswer(answer.status_code, answer.headers, read_json_body(answer, MAX_BODY_BYTES))
        except TooLargeError as error:
            raise self._error(self._unreadable, str(error), transient=True) from error
        except (requests.RequestException, GoogleAuthError) as error:
            if deadline.passed:
                raise self._late() from error
            # The library's text may hold the URL, but never the body or the headers.
            raise self._error("UNAVAILABLE", f"no answer: {type(error).__name__}", transient=True) from error

    def document(self, answer: RawAnswer) -> dict[str, Any]:
        """Return the JSON object of an answer.

        Raises:
            E (the client's error): the answer holds none. It is transient.
        """
        try:
            return read_answer(answer.body)
        except ValueError as error:
            raise self._error(self._unreadable, str(error), transient=True) from error

    def failure(self, failure: transience.Failure, text: str, answer: RawAnswer, **named: Any) -> E:
        """Return the client's error for an answer, with the pause that the server requests.

        Args:
            failure: the meaning of the answer.
            text: of the error.
            answer: the answer.
            named: further arguments of the client's error.
        """
        return self._error(
            failure.code,
            text,
            transient=failure.transient,
            throttled=failure.throttled,
            retry_after=transience.requested_pause(answer.headers.get("Retry-After"), self._clock.now()),
            **named,
        )

    def _late(self) -> E:
        return self._error("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)
