"""Announcements: the messages about starts and ends of invocations. Pure.

A message has attributes, by which a subscription filters, and data, a JSON object for readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import format_rfc3339
from luci_scheduler.core.invocation import Invocation, result_of
from luci_scheduler.core.job import Result, Status

__all__ = ["SCHEMA", "Announcement", "Transition", "end_of", "page_of", "start_of", "transition", "with_link"]

SCHEMA = 1
"""The version of attributes and data. It is raised when a reader of the previous version would misread a message."""

_MAX_ATTRIBUTE = 1024  # bytes of a value: Pub/Sub refuses a message with a longer one
_SHORT_HASH = 12


class Transition(StrEnum):
    """The news about the job, compared with its earlier invocations."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    """It succeeded, and its predecessor succeeded or does not exist."""
    RECOVERED = "recovered"
    """It succeeded, and its predecessor failed."""
    FIRST_FAILURE = "first_failure"
    """It failed, and its predecessor succeeded or does not exist."""
    FAILED = "failed"
    """It failed, and so did its predecessor."""
    ABORTED = "aborted"
    """It was aborted. An aborted invocation shows nothing about the job, so the next one is not compared with it."""


_SAYS: Mapping[Transition, str] = {
    Transition.STARTED: "started",
    Transition.SUCCEEDED: "succeeded",
    Transition.RECOVERED: "succeeds again",
    Transition.FIRST_FAILURE: "failed",
    Transition.FAILED: "failed again",
    Transition.ABORTED: "was aborted",
}


@frozen
class Announcement:
    """A message, without the link to the console."""

    id: str
    """The ``event_id``: the same for all copies of a message, and for no other message."""
    attributes: Mapping[str, str]
    data: Mapping[str, Any]


def start_of(invocation: Invocation) -> Announcement:
    """Return the announcement of an invocation whose build has started."""
    return _announcement(invocation, Transition.STARTED, {})


def end_of(invocation: Invocation, earlier: Sequence[Result]) -> Announcement:
    """Return the announcement of an invocation that has ended; ``earlier`` holds the job's results, newest first."""
    finished = invocation.started if invocation.finished is None else invocation.finished
    named = {"finished": format_rfc3339(finished)}
    return _announcement(invocation, transition(invocation.status, earlier), named)


def transition(status: Status, earlier: Sequence[Result]) -> Transition:
    """Compare the status of an ended invocation with the last result that was not an abort."""
    if status is Status.ABORTED:
        return Transition.ABORTED
    before = next((item.status for item in earlier if item.status is not Status.ABORTED), Status.SUCCEEDED)
    had_failed = before is not Status.SUCCEEDED
    if status is Status.SUCCEEDED:
        return Transition.RECOVERED if had_failed else Transition.SUCCEEDED
    return Transition.FAILED if had_failed else Transition.FIRST_FAILURE


def with_link(data: Mapping[str, Any], console_url: str) -> dict[str, Any]:
    """Return the data with the address of the invocation's page."""
    names = (str(data.get(name, "")) for name in ("project", "job", "invocation"))
    return {**data, "link": page_of(console_url, *names)}


def page_of(console_url: str, *names: str) -> str:
    """Return the address of an invocation's page; ``names`` are the project, the job and the invocation."""
    return "/".join([console_url.rstrip("/"), "jobs", *(quote(name, safe="") for name in names)])


def _announcement(invocation: Invocation, news: Transition, times: Mapping[str, str]) -> Announcement:
    project, job = split_job_id(invocation.job_id)
    event = "started" if news is Transition.STARTED else "ended"
    result = result_of(invocation)
    event_id = f"{invocation.job_id}/{invocation.id}/{event}"
    attributes = {
        "schema": str(SCHEMA),
        "event_id": event_id,
        "event": event,
        "project": project,
        "job": job,
        "invocation": str(invocation.id),
        "kind": invocation.task.kind,
        "status": str(invocation.status),
        "transition": str(news),
        "repo": result.repo,
        "ref": result.ref,
        "revision": next(iter(result.revisions), ""),
    }
    attributes = {name: value for name, value in attributes.items() if 0 < len(value.encode()) <= _MAX_ATTRIBUTE}
    more = {
        "revisions": list(result.revisions),
        "triggeredBy": result.triggered_by,
        "buildLink": result.view_url,
        "summary": "" if news is Transition.STARTED else result.summary,
        "text": _text(result, f"{invocation.job_id} {_SAYS[news]}"),
    }
    named = {**attributes, "schema": SCHEMA, "started": format_rfc3339(invocation.started), **times}
    named["eventId"] = named.pop("event_id")
    return Announcement(event_id, attributes, named | {name: value for name, value in more.items() if value})


def _text(result: Result, says: str) -> str:
    where = f" at {result.revisions[0][:_SHORT_HASH]}" if result.revisions else ""
    branch = f" of {result.ref.removeprefix('refs/heads/')}" if where and result.ref else ""
    return f"{says}{where}{branch}" + (f": {result.summary}" if result.summary else "")
