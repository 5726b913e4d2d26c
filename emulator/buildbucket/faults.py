"""Faults of the Buildbucket server's responses."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Literal

__all__ = ["Effect", "Fault"]

Effect = Literal["error", "http", "html", "slow", "cut", "cut_body"]


@dataclass(slots=True)
class Fault:
    """A fault of API calls.

    Attributes:
        effect: ``error`` responds with an error of the service (v2: the gRPC ``code`` in the header; v1: its HTTP
            status and an error object). ``http`` responds with a bare HTTP ``status`` and ``body``, without a code
            header. ``html`` responds with the front end's HTML page and that status. ``slow`` responds after
            ``seconds`` of real time; past the caller's deadline the response is code 4. ``cut`` closes the connection
            without a response. ``cut_body`` closes it halfway through the response.
        method: the affected methods: ``ScheduleBuild``, ``v1.put``, ``v1.get``...; may contain ``*`` and ``?``.
        when: ``before`` fails the call before it changes a build; ``after`` completes the call and loses the response.
        times: how many calls are affected; None means all, until the fault is removed.
        code: the gRPC code of an ``error``.
        status: the HTTP status of ``http`` and ``html``.
        body: the body of an ``http`` response.
        message: the text of an ``error``.
        seconds: the delay of ``slow``.
        match: a text that the request's body must contain.
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
    def lost_reply(cls, method: str = "ScheduleBuild") -> Fault:
        """Return a fault under which one call succeeds, but the caller sees a broken connection."""
        return cls("cut", method, "after", 1)

    def matches(self, method: str, body: str) -> bool:
        """Return whether the fault affects a call."""
        return fnmatch.fnmatchcase(method, self.method) and self.match in body
