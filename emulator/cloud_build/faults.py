"""Faults of the Cloud Build server's answers."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, Literal, get_args

from emulator.cloud_build.errors import STATUSES

__all__ = ["EFFECTS", "Effect", "Fault", "fault_from_json"]

Effect = Literal["error", "quota", "disabled", "html", "slow", "cut", "cut_body", "empty_page"]
EFFECTS: frozenset[str] = frozenset(get_args(Effect))


@dataclass(slots=True)
class Fault:
    """A fault of API calls.

    Attributes:
        effect: ``error`` answers with the error object of ``code`` and ``message``; ``quota`` with that of too many
            calls, ``disabled`` with that of an API that is switched off. ``html`` answers with the front end's page and
            ``status``. ``slow`` answers ``seconds`` later, in real time; in memory the call ends at once, without an
            answer if that is beyond its deadline. ``cut`` closes the connection without an answer, ``cut_body``
            halfway through it. ``empty_page`` answers a list with a token and no builds.
        method: the affected methods: ``create``, ``run``, ``get``, ``list``, ``cancel``, ``trigger``, ``account``,
            ``approve``; may contain ``*`` and ``?``.
        when: ``before`` fails the call before its effect; ``after`` completes the call and loses the answer.
        times: how many calls are affected; None means all, until the fault is removed.
        code: the gRPC code of an ``error``.
        message: the text of an ``error``.
        status: the HTTP status of ``html``.
        seconds: the delay of ``slow``.
        match: a text that the path or the body of the request must contain.
    """

    effect: Effect
    method: str = "*"
    when: Literal["before", "after"] = "before"
    times: int | None = 1
    code: str = "UNAVAILABLE"
    message: str = "The service is currently unavailable."
    status: int = 502
    seconds: float = 0.0
    match: str = ""

    @classmethod
    def lost_answer(cls, method: str = "create") -> Fault:
        """Return a fault under which one call succeeds, but the caller sees a broken connection."""
        return cls("cut", method, "after", 1)

    def matches(self, method: str, text: str) -> bool:
        """Return whether the fault affects a call; ``text`` is its path and body."""
        return fnmatch.fnmatchcase(method, self.method) and self.match in text


def fault_from_json(value: dict[str, Any]) -> Fault:
    """Parse a fault: the attributes of `Fault`.

    Raises:
        TypeError, ValueError: the JSON is not a fault.
    """
    fault = Fault(**value)
    if fault.effect not in EFFECTS or fault.when not in ("before", "after") or fault.code not in STATUSES:
        raise ValueError(f"no such fault: {value}")
    return fault
