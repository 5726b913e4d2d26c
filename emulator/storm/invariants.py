"""The invariants: promises that hold after each commit and at the end of every run, under all faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from luci_scheduler.core.instants import Instant

__all__ = ["SENTENCES", "Invariant", "Violation"]


class Invariant(StrEnum):
    """The identifier of an invariant. `SENTENCES` states each."""

    ONE_BUILD = "one-build"
    LOST_BUILD = "lost-build"
    TRIGGER_ONCE = "trigger-once"
    END = "end"
    ORPHAN = "orphan"
    COUNTERS = "counters"
    ACTIVE = "active"
    FREE_SLOT = "free-slot"
    OUTBOX = "outbox"
    REST = "rest"
    RECOVERY = "recovery"
    PROMPT = "prompt"
    CLAIM = "claim"
    PAUSE = "pause"
    CONFIG = "config"
    ANNOUNCED = "announced"
    SHOWN = "shown"
    SECRET = "secret"  # noqa: S105 - the name of an invariant
    SURPRISE = "surprise"


SENTENCES: Mapping[Invariant, str] = {
    Invariant.ONE_BUILD: "An invocation never has two live builds at once, unless a list of Cloud Build hid the first.",
    Invariant.LOST_BUILD: "A second build of Cloud Build is canceled by its own first message, or by the next check.",
    Invariant.TRIGGER_ONCE: "Each accepted trigger ends in exactly one invocation, or is discarded for a true reason.",
    Invariant.END: "Each invocation ends, with the status of its build.",
    Invariant.ORPHAN: "A build that nothing watches any more is canceled within three minutes, or the document of its "
    "invocation holds the time of the next try.",
    Invariant.COUNTERS: "Counters, logs and their sizes only grow, and an ended invocation never changes its status.",
    Invariant.ACTIVE: "A job lists exactly its unfinished invocations, and starts none beyond its limit.",
    Invariant.FREE_SLOT: "No trigger stays pending beside a free slot.",
    Invariant.OUTBOX: "Each unfinished document is due when its earliest work is, and the sweep makes the task again.",
    Invariant.REST: "Everything comes to rest: no task, deferred work or request for a triage renews itself forever.",
    Invariant.RECOVERY: "Overdue work is done within 75 minutes, not counting outages.",
    Invariant.PROMPT: "If every fault is gentle, the sweep stays idle, and no step waits 50 seconds.",
    Invariant.CLAIM: "While a claim lasts, only its delivery ends the attempt, and it requests one build.",
    Invariant.PAUSE: "An attempt does not begin before the pause after the last one is over.",
    Invariant.CONFIG: "An older config never replaces a newer one.",
    Invariant.ANNOUNCED: "Each start of a build and each end of an invocation is announced.",
    Invariant.SHOWN: "A commit on GitHub shows the end of the latest invocation that built it, unless GitHub refuses.",
    Invariant.SECRET: "No key, token or password is in a log line, an answer, a document or an announcement.",
    Invariant.SURPRISE: "No function fails unexpectedly, and none refuses a message of the scheduler itself.",
}
"""Each invariant in one sentence."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: Invariant
    at: Instant
    subject: str
    """The document, build or line that it is about."""
    text: str
    """One clause about the difference."""

    def __str__(self) -> str:
        """Return the violation in one line without its instant."""
        return f"{self.invariant}: {self.subject}: {self.text}"
