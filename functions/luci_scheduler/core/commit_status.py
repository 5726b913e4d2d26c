"""Commit statuses: the marks beside a commit on its host that show how an invocation fares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.git_names import is_hash
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import Status

__all__ = ["MAX_DESCRIPTION", "CommitStatus", "State", "status_of"]

MAX_DESCRIPTION = 140
"""The limit of a description, in characters (GitHub, "REST API endpoints for commit statuses")."""


class State(StrEnum):
    """The states of a commit status, as GitHub spells them."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


_STATES: Mapping[Status, tuple[State, str]] = {
    Status.RUNNING: (State.PENDING, "Running"),
    Status.SUCCEEDED: (State.SUCCESS, "Succeeded in"),
    Status.FAILED: (State.FAILURE, "Failed after"),
    Status.OVERRUN: (State.FAILURE, "Overran after"),
    Status.ABORTED: (State.ERROR, "Aborted after"),
}


@frozen
class CommitStatus:
    """The status of one invocation on one commit, without the link to the console.

    Everyone who can read the repository can read it, so it holds no text of a build and no name of a person.
    """

    repo: str
    """The repository, as the trigger spells it."""
    revision: str
    """The hash of the commit: 40 or 64 lower-case hexadecimal digits."""
    state: State
    context: str
    """Names the job. A later status with the same context replaces an earlier one."""
    description: str
    """One short line."""


def status_of(invocation: Invocation) -> CommitStatus | None:
    """Return the status of an invocation on the commit that it builds; None before its start, or without a commit.

    An invocation of several triggers builds the commit of the last one.
    """
    found = _STATES.get(invocation.status)
    built = invocation.incoming_triggers[-1] if invocation.incoming_triggers else None
    if found is None or built is None or not built.is_commit:
        return None
    repo, revision = (str(built.payload.get(member, "")) for member in ("repo", "revision"))
    if not is_hash(revision):
        return None
    state, says = found
    context = f"scheduler/{invocation.job_id}"
    return CommitStatus(repo, revision, state, context, f"{says}{_seconds(invocation)}"[:MAX_DESCRIPTION])


def _seconds(invocation: Invocation) -> str:
    """Return how long an invocation took, in whole seconds; empty before its end."""
    if invocation.finished is None:
        return ""
    return f" {format_duration((invocation.finished - invocation.started) // SECOND * SECOND)}"
