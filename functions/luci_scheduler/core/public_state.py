"""The state of a job as people and API clients see it."""

from __future__ import annotations

from enum import StrEnum

from luci_scheduler.core.instants import Instant
from luci_scheduler.core.schedule import DISTANT_FUTURE

__all__ = ["LABEL_CLASSES", "JobState", "public_state"]


class JobState(StrEnum):
    """The state of a job, in LUCI's spelling."""

    RUNNING = "RUNNING"
    DISABLED = "DISABLED"
    PAUSED = "PAUSED"
    SCHEDULED = "SCHEDULED"
    WAITING = "WAITING"


LABEL_CLASSES = {
    JobState.RUNNING: "label-info",
    JobState.DISABLED: "label-default",
    JobState.PAUSED: "label-default",
    JobState.SCHEDULED: "label-primary",
    JobState.WAITING: "label-warning",
}
"""The style of each state's label on the pages. The original does not show disabled jobs; here they look like paused
jobs."""


def public_state(*, active_invocations: int, enabled: bool, paused: bool, next_tick: Instant | None) -> JobState:
    """Return the state of a job. Running invocations outweigh all else.

    Args:
        active_invocations: the number of its invocations that are not final.
        enabled: whether the config defines and enables it.
        paused: whether a person paused it.
        next_tick: when its cron machine expects a tick; None if it expects none.
    """
    if active_invocations:
        return JobState.RUNNING
    if not enabled:
        return JobState.DISABLED
    if paused:
        return JobState.PAUSED
    # A `triggered` job expects a tick in the distant future, which is not a planned run.
    return JobState.WAITING if next_tick in (None, DISTANT_FUTURE) else JobState.SCHEDULED
