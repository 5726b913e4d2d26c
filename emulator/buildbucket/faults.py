"""Faults of the Buildbucket server's answers, and answers made up beforehand."""

from __future__ import annotations

import fnmatch
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Canned", "CannedAnswers", "Fault", "Faults", "RequestLog", "RequestRecord"]

Effect = Literal["error", "http", "html", "slow", "cut", "cut_body"]
_LOG_SIZE = 10_000


@dataclass(slots=True)
class Fault:
    """Something that goes wrong with calls.

    Attributes:
        effect: ``error`` is an error of the service (gRPC ``code`` in the header; v1: its HTTP status and an error object); ``http`` is a
            bare HTTP ``status`` with ``body`` and no code header, ``html`` the front end's page with that status; ``slow`` answers
            ``seconds`` later (of real time; past the caller's deadline it becomes code 4); ``cut`` closes the connection without an
            answer; ``cut_body`` closes it half-way through the answer.
        method: which calls: ``ScheduleBuild`` and so on, ``v1.put``, ``v1.get``, ``v1.cancel``...; may hold ``*`` and ``?``.
        when: ``before`` nothing has happened to builds; ``after`` the call has done its work and only the answer is lost.
        times: how many calls it affects; None is all of them until it is removed.
        match: a text the request's body must hold.
        message: the text of an ``error``.
    """

    effect: Effect
    method: str = "*"
    when: Literal["before", "after"] = "before"
    times: int | None = 1
    code: int = 13
    status: int = 502
    body: str = ""
    message: str = "injected fault"
    seconds: float = 0.0
    match: str = ""

    @classmethod
    def lost_reply(cls, method: str = "ScheduleBuild", times: int | None = 1) -> Fault:
        """The call succeeds, but the caller sees a broken connection."""
        return cls("cut", method, "after", times)


class Faults:
    """The faults that are switched on. Safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults.clear()

    def active(self) -> list[Fault]:
        """Return the faults that have not been used up."""
        with self._lock:
            return list(self._faults)

    def take(self, method: str, body: str) -> list[Fault]:
        """Return the faults that hit a call, and count it."""
        with self._lock:
            hits = [
                fault for fault in self._faults if fnmatch.fnmatchcase(method, fault.method) and fault.match in body
            ]
            for fault in hits:
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
            return hits


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer made up beforehand.

    ``body`` is JSON for a success, or a text to be sent as it is. ``code`` makes it an error of the service with that text (v2 only).
    """

    body: Mapping[str, Any] | str = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    code: int | None = None


class CannedAnswers:
    """A queue of answers for each method, used up in order. Safe to use from several threads."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Canned]] = {}
        self._lock = threading.Lock()

    def add(self, method: str, answer: Canned) -> None:
        """Put an answer at the end of a method's queue."""
        with self._lock:
            self._queues.setdefault(method, deque()).append(answer)

    def take(self, method: str) -> Canned | None:
        """Return the next answer of a method, if there is one."""
        with self._lock:
            queue = self._queues.get(method)
            return queue.popleft() if queue else None

    def left(self) -> dict[str, int]:
        """Return how many answers wait per method; methods without are left out."""
        with self._lock:
            return {method: len(queue) for method, queue in self._queues.items() if queue}


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and its answer. ``status`` is 0 and ``answer`` empty if the connection was cut; ``time`` is when it came."""

    method: str
    caller: str
    http_method: str
    path: str
    body: str
    time: int
    status: int
    answer: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestLog:
    """The last 10,000 requests. Safe to use from several threads."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=_LOG_SIZE)
        self._lock = threading.Lock()

    def add(self, record: RequestRecord) -> None:
        """Note a request."""
        with self._lock:
            self._records.append(record)

    def all(self) -> list[RequestRecord]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._records)

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._records.clear()
