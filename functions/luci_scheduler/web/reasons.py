"""Why an invocation is in its state, for the top of its page."""

from __future__ import annotations

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.managers.registry import kind_of
from luci_scheduler.web.presentation import ago, shown

__all__ = ["Why", "why_of"]


@frozen
class Why:
    """The reason at the top of an invocation's page."""

    css: str
    """CSS class of the notice."""
    words: str
    text: str
    """The words of another service, of several lines; empty if there are none."""


def why_of(invocation: Invocation, now: Instant) -> Why | None:
    """Return why an invocation failed, is retried or was canceled, or the words of its build; None without a reason."""
    match invocation.status:
        case Status.FAILED:
            return Why("bad", _failed(invocation), _text(invocation))
        case Status.RETRYING:
            return Why("warn", _retrying(invocation, now), _text(invocation))
        case Status.ABORTED if not invocation.abort_requested_by:
            words = f"The {_noun(invocation)} was canceled outside of the scheduler."
            return Why("bad", words, _text(invocation))
    if not invocation.summary:
        return None
    return Why("", f"The {_noun(invocation)} says:", _text(invocation))


def _text(invocation: Invocation) -> str:
    """Return the summary without the fences of code blocks: the page shows all of it as it is."""
    return "\n".join(line for line in invocation.summary.splitlines() if not line.lstrip().startswith("```"))


def _noun(invocation: Invocation) -> str:
    return kind_of(invocation.task).noun


def _failed(invocation: Invocation) -> str:
    noun = _noun(invocation)
    if not kind_of(invocation.task).is_multistage:
        return "It failed." if invocation.attempts <= 1 else f"It failed, after {invocation.attempts} attempts."
    if invocation.task_data:
        return f"The {noun} failed."
    if invocation.attempts > 1:
        return f"{invocation.attempts} attempts to start the {noun} failed. The last one:"
    return f"The {noun} was not started."


def _retrying(invocation: Invocation, now: Instant) -> str:
    due = invocation.next_due
    later = f" Next attempt: {shown(due)} ({ago(due, now)})." if due is not None else ""
    return f"Attempt {invocation.attempts} to start the {_noun(invocation)} failed.{later}"
