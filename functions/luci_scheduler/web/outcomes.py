"""The outcome of a commit in a job, as pages show it: its group, its words and its color."""

from __future__ import annotations

from enum import StrEnum

from luci_scheduler.api.explanation import Explanation, Reason
from luci_scheduler.core.invocation import Status
from luci_scheduler.web.presentation import label_of

__all__ = ["Outcome", "css_of", "outcome_of", "words_of"]


class Outcome(StrEnum):
    """The groups of outcomes, in the order of lists: failures come first."""

    FAILED = "failed"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"


_OF_STATUS = {
    Status.SUCCEEDED: Outcome.SUCCEEDED,
    Status.FAILED: Outcome.FAILED,
    Status.ABORTED: Outcome.FAILED,
    Status.OVERRUN: Outcome.FAILED,
}
_WAITING = frozenset(
    {
        Reason.PENDING,
        Reason.WAITING_FOR_INVOCATION,
        Reason.SLOT_LIMIT,
        Reason.WAITING_FOR_COMMIT,
        Reason.NOT_POLLED,
        Reason.POLL_FAILED,
    }
)


def outcome_of(item: Explanation) -> Outcome:
    """Return the group of an explanation. A commit whose invocation is no longer stored counts as skipped."""
    if item.status:
        return _OF_STATUS.get(Status(item.status), Outcome.RUNNING)
    return Outcome.WAITING if item.reason in _WAITING else Outcome.SKIPPED


def words_of(item: Explanation) -> str:
    """Return the words of the badge: the status of the invocation, or the reason."""
    return item.status or str(item.reason).replace("_", " ").capitalize()


def css_of(item: Explanation) -> str:
    """Return the CSS classes of the badge: the color of the result, or of the reason."""
    return label_of(Status(item.status)) if item.status else f"reason {str(item.reason).lower()}"
