"""The API's messages as JSON documents and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from luci_scheduler.cli.session import plain, show_table
from luci_scheduler.core.instants import MICROSECOND, SECOND, Instant, format_rfc3339

__all__ = [
    "cause_text",
    "commit_text",
    "document",
    "fact_lines",
    "history_table",
    "invocation_name",
    "job_name",
    "jobs_table",
    "moment",
    "page_of",
    "second",
    "took",
]

_SHORT_HASH = 10  # digits
_MAX_SUBJECT = 50
_MAX_AUTHOR = 20
_JOBS = ["JOB", "STATE", "PAUSED", "RESULT", "ENDED", "COMMIT", "SUBJECT", "AUTHOR", "CAUSE", "SCHEDULE"]
_HISTORY = ["INVOCATION", "STATUS", "STARTED", "TOOK", "COMMIT", "SUBJECT", "AUTHOR", "CAUSE"]


def document(value: Any) -> Any:
    """Return a message with times as RFC 3339: ``startedTs`` becomes ``started``. Numbers of 64 bits stay texts."""
    match value:
        case dict():
            return dict(_member(name, item) for name, item in value.items())
        case list():
            return [document(item) for item in value]
        case _:
            return value


def _member(name: str, value: Any) -> tuple[str, Any]:
    return (
        (name[:-2], moment(value)) if name.endswith("Ts") and not isinstance(value, dict) else (name, document(value))
    )


def moment(microseconds: Any) -> str:
    """Format an instant of the API; a hyphen if there is none."""
    value = int(microseconds or 0)
    return format_rfc3339(Instant(value * MICROSECOND)) if value else "-"


def second(microseconds: Any) -> str:
    """Format an instant of the API to the second, for tables."""
    value = int(microseconds or 0)
    return moment(value - value % (SECOND // MICROSECOND)) if value else "-"


def took(start: Any, end: Any) -> str:
    """Return how long something took: ``1h02m``, ``3m04s``, ``5s``, ``0.2s``; a hyphen without both ends."""
    if not int(start or 0) or not int(end or 0):
        return "-"
    tenths = max(0, int(end) - int(start)) * MICROSECOND * 10 // SECOND
    seconds = tenths // 10
    if seconds < 10:  # noqa: PLR2004 - shorter times are shown to the tenth
        return f"{tenths / 10:g}s"
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"


def job_name(ref: Mapping[str, str]) -> str:
    """Return ``PROJECT/JOB``."""
    return f"{ref.get('project', '')}/{ref.get('job', '')}"


def invocation_name(ref: Mapping[str, Any]) -> str:
    """Return ``PROJECT/JOB/NUMBER``."""
    return f"{job_name(ref['jobRef'])}/{ref['invocationId']}"


def page_of(console: str, name: str) -> str:
    """Return the address of the page of a job or an invocation."""
    return f"{console}/jobs/{'/'.join(quote(part, safe='') for part in name.split('/'))}"


def commit_text(details: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the short hash of an invocation's newest commit, its subject and its author; hyphens without a commit."""
    commit = details.get("commit", {})
    if not commit.get("revision"):
        return "-", "-", "-"
    others = int(commit.get("otherCommits", 0))
    more = f" +{others}" if others else ""
    subject, author = commit.get("subject", ""), commit.get("author", "")
    return commit["revision"][:_SHORT_HASH] + more, _cut(subject, _MAX_SUBJECT), _cut(author, _MAX_AUTHOR)


def history_table(invocations: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of invocations with their commits, results and causes."""
    return show_table(_HISTORY, [_row(item) for item in invocations])


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of jobs with their latest results."""
    return show_table(_JOBS, [_job_row(item) for item in jobs])


def _job_row(item: Mapping[str, Any]) -> list[str]:
    job, latest = item["job"], item.get("latest", {})
    ended = latest.get("invocation", {})
    state = [str(job.get("state", {}).get("uiStatus", "")), "yes" if job.get("paused") else "no"]
    result = [ended.get("status", "-"), second(ended.get("finishedTs")), *commit_text(latest)]
    return [
        job_name(job["jobRef"]),
        *state,
        *result,
        cause_text(latest.get("cause", {})) or "-",
        job.get("schedule", ""),
    ]


def _row(details: Mapping[str, Any]) -> list[str]:
    item = details["invocation"]
    start, end = item.get("startedTs"), item.get("finishedTs")
    fixed = [str(item["invocationRef"]["invocationId"]), item.get("status", ""), second(start), took(start, end)]
    return [*fixed, *commit_text(details), cause_text(details.get("cause", {}))]


def cause_text(cause: Mapping[str, str]) -> str:
    """Return a cause in a few words: ``commit, proj/poller``, ``schedule``, ``ana@example.com``."""
    kind, by = cause.get("kind", ""), cause.get("by", "")
    if kind == "person" and by:
        return by
    return ", ".join(filter(None, (kind if kind != "unknown" else "-", by)))


def _cut(text: str, most: int) -> str:
    return (text if len(text) <= most else f"{text[: most - 1]}…") or "-"


def fact_lines(facts: Mapping[str, str]) -> list[str]:
    """Return aligned lines of names and values; empty values are left out, and further lines are indented."""
    width = max(map(len, facts)) + 2
    shown = {name: [plain(line) for line in value.split("\n")] for name, value in facts.items() if value}
    return ["\n".join(_fact(name, lines, width)) for name, lines in shown.items()]


def _fact(name: str, lines: Sequence[str], width: int) -> list[str]:
    return [f"{name if place == 0 else '':<{width}}{line}".rstrip() for place, line in enumerate(lines)]
