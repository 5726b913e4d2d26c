"""The platform's front end: whether it checks every caller of this service, so that its word about tokens counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError, answer_to, read_body
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invoker_policy import open_door
from luci_scheduler.ports import Clock

__all__ = ["POLICY_LIMIT", "POLICY_SCOPES", "FrontEnd"]

POLICY_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""The scope that the Cloud Run Admin API requires."""

POLICY_LIMIT = 10.0
"""Seconds to read the service and its policy, both requests and the token included."""

_FRESH = MINUTE  # how long one reading counts
_STALE = 10 * MINUTE  # how long the last reading counts while further readings fail
_PAUSE = 10 * SECOND  # after a failed reading; requests in between do not wait for another one
_SETTLING = 10 * MINUTE
"""How long the platform may let callers in after the policy has been closed. Google names seven minutes or more:
https://cloud.google.com/iam/docs/access-change-propagation"""
_MAX_BYTES = 1 << 20  # of an answer; a policy has at most 64 KiB, a service somewhat more
_Sessions = Callable[[], requests.Session]


@frozen
class _Reading:
    door: str
    """Why the service is open; empty if it is not."""
    at: Instant


class FrontEnd:
    """Reads the service's own invoker policy through the Cloud Run Admin API, and keeps the answer. Thread-safe.

    Concurrent requests share one reading and its time limit.
    """

    def __init__(self, session: _Sessions, url: str, service: str, clock: Clock, limit: float = POLICY_LIMIT) -> None:
        """Make a reader for one service.

        Args:
            session: a function that gives each thread its session, from `http.sessions`.
            url: the base URL of the API.
            service: ``projects/<project>/locations/<location>/services/<name>``.
            clock: the clock by which a reading expires.
            limit: of one reading, in seconds.
        """
        self._session = session
        self._url = f"{url.rstrip('/')}/v2/{service}"
        self._service = service
        self._clock = clock
        self._limit = limit
        self._last: _Reading | None = None
        self._seen_open: Instant | None = None
        self._failed: Instant | None = None
        self._failure = ""
        self._tries = 0
        self._lock = threading.Lock()

    def require_check(self) -> None:
        """Return if the platform checks every caller of this service.

        Raises:
            UnauthenticatedError: it lets callers in without a check, or did so a short time ago.
            TransientError: the policy could not be read, so nothing is known.
        """
        fault = ""
        if door := self._reading().door:
            fault = f"{door}; `terraform apply` closes the service"
        elif self._is_younger(self._seen_open, _SETTLING):
            fault = "the service was open a few minutes ago, and IAM applies a change slowly; try again in ten minutes"
        if fault:
            raise UnauthenticatedError(f"the token has no signature, and the platform's check does not count: {fault}")

    def _reading(self) -> _Reading:
        last = self._last
        if last is None or not self._is_younger(last.at, _FRESH):
            self._renew()
            last = self._last
        if last is None or not self._is_younger(last.at, _STALE):
            raise TransientError(f"the invoker policy of {self._service} could not be read: {self._failure}")
        return last

    def _is_younger(self, instant: Instant | None, age: int) -> bool:
        return instant is not None and 0 <= self._clock.now() - instant < age

    def _renew(self) -> None:
        tries = self._tries
        with self._lock:
            if self._tries == tries and not self._is_younger(self._failed, _PAUSE):
                self._try()

    def _try(self) -> None:
        begun = self._clock.now()  # a change during the reading may be missing from the answer
        try:
            door = self._read_door(Deadline(self._limit))
        except (requests.RequestException, GoogleAuthError, TooLargeError, ValueError, TransientError) as error:
            self._failure, self._failed = sanitized(str(error)) or type(error).__name__, begun
        else:
            self._seen_open = begun if door else self._seen_open
            self._last = _Reading(door, begun)
        finally:
            self._tries += 1

    def _read_door(self, deadline: Deadline) -> str:
        service = self._get(self._url, deadline)
        # The answer may name the project by its number.
        if str(service.get("name", "")).partition("/locations/")[2] != self._service.partition("/locations/")[2]:
            raise ValueError("the answer describes another service")
        # Version 3 shows bindings with a condition, too.
        return open_door(service, self._get(f"{self._url}:getIamPolicy?options.requestedPolicyVersion=3", deadline))

    def _get(self, url: str, deadline: Deadline) -> Mapping[str, Any]:
        with answer_to(self._session(), "GET", url, deadline) as answer:
            if answer.status_code != requests.codes.ok:
                raise ValueError(_refused(answer.status_code))
            return read_object(read_body(answer, _MAX_BYTES))


def _refused(code: int) -> str:
    hint = ": the function's account needs roles/run.viewer on the service" if code == requests.codes.forbidden else ""
    return f"the Cloud Run Admin API answered {code}{hint}"
