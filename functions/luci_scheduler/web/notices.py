"""Texts that several pages share: results of actions, errors, and hints for visitors."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DONE", "FORBIDDEN", "HINTS", "NO_SUCH_INVOCATION", "NO_SUCH_JOB"]

NO_SUCH_JOB = "No such job or no permission to view it."
NO_SUCH_INVOCATION = "The requested invocation is not found."
FORBIDDEN = "No permission to execute the attempted action."

DONE: Mapping[str, str] = {
    "trigger": "The job was triggered. Its invocation appears here as soon as the job's policy starts it.",
    "rerun": "The invocation's triggers were emitted again. The new invocation appears here as soon as it starts.",
    "abort": "The abort was requested. It also cancels a running build. This page shows when it is complete.",
    "pause": "The job is paused.",
    "resume": "The job is resumed.",
    "backfill": "The backfill's triggers were emitted. Invocations appear here as the job's policy starts them.",
}
"""The result of an action: value of ``done`` in the page's address → text. Other values show nothing."""

HINTS: Mapping[int, str] = {
    400: "Check the address, or go back and correct your input.",
    403: "A project owner can do this, or can grant you the permission in the access policy.",
    404: "It may have been removed, or you may not have permission to see it. Check the address and your account.",
    409: "The job is not in the required state. Check the job, then try again.",
    500: "This is probably temporary. Reload the page in a moment. It is safe to submit the same form again.",
}
"""HTTP status → the visitor's next step."""
