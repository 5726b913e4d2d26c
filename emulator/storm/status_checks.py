"""The invariant of commit statuses: in spite of faults, each commit on GitHub shows the end of a build of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emulator.storm.faults import Kind
from emulator.storm.history import Shown
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.run_checks import Film
from emulator.storm.scripts import GITHUB_REPO
from luci_scheduler.core.commit_status import State, status_of
from luci_scheduler.core.instants import HOUR, SECOND
from luci_scheduler.core.invocation import Invocation

__all__ = ["check_statuses"]

_PUNCTUAL = 10 * SECOND
"""Reports of ends that are so close may come in any order (`docs/reference/github-statuses.md`)."""

Context = tuple[str, str]
"""Revision and context: where GitHub shows the last status."""


def check_statuses(film: Film) -> Iterator[Violation]:
    """Yield the violations of commit statuses. Only runs with a repository on GitHub have any."""
    dropped = {}
    for line in film.run.history.log:
        if line["message"] == "commit_status_dropped":
            dropped[line["revision"], f"scheduler/{line['job_id']}"] = line
            if text := _untrue(film, line):
                about = f"invocation {line['job_id']} {line['invocation_id']}"
                yield Violation(Invariant.SHOWN, line["at"], about, text)
    last: dict[Context, Shown] = {(shown.revision, shown.context): shown for shown in film.run.history.statuses}
    for context, ended in _latest_ends(film).items():
        if context not in dropped and (text := _hidden(film, ended, last.get(context))):
            yield Violation(Invariant.SHOWN, film.run.ended, f"invocation {ended.job_id} {ended.id}", text)


def _untrue(film: Film, line: Mapping[str, Any]) -> str:
    """Return why a status must not be dropped; empty if it may: GitHub has another name, or was silent for an hour."""
    if any(fault.kind is Kind.HOST_RENAMED for fault in film.run.faults):
        return ""
    versions = film.versions["invocation", line["job_id"], int(line["invocation_id"])]
    changed = next((version.at for version in versions if _state(version.record) == line["state"]), film.run.ended)
    is_early = line["at"] - changed < HOUR
    return f"its status {line['state']} was dropped after less than an hour: {line['reason']}" if is_early else ""


def _state(invocation: Any) -> str:
    found = status_of(invocation)
    return str(found.state) if found else ""


def _latest_ends(film: Film) -> Mapping[Context, Invocation]:
    """Return the latest ended invocation of each commit and job, unless the last release recorded the end."""
    found: dict[Context, Invocation] = {}
    for key, versions in film.versions.items():
        record = versions[-1].record
        if key[0] != "invocation" or not isinstance(record, Invocation) or not record.status.is_final:
            continue
        status = status_of(record)
        if status is not None and status.repo == GITHUB_REPO:
            context = (status.revision, status.context)
            if context not in found or record.id < found[context].id:  # IDs fall with time
                found[context] = record
    return found


def _hidden(film: Film, ended: Invocation, shown: Shown | None) -> str:
    """Return how a commit shows another state than its latest invocation's end; empty if it shows that."""
    own = [item for item in film.run.history.statuses if item.page.endswith(f"/{ended.id}")]
    if shown is None or not any(item.state == _state(ended) for item in own):
        return f"its end {_state(ended)} was never shown"
    if shown.state == State.PENDING:
        return "the commit shows pending"
    other = int(shown.page.rpartition("/")[2])
    is_earlier = _end(film, ended.job_id, other) < _end(film, ended.job_id, ended.id) - _PUNCTUAL
    return f"the commit shows invocation {other}, which ended before" if is_earlier else ""


def _end(film: Film, job_id: str, invocation_id: int) -> int:
    """Return the instant at which an invocation's end was recorded; the end of the run if none was."""
    versions = film.versions["invocation", job_id, invocation_id]
    ends = (version.at for version in versions if version.record and version.record.status.is_final)
    return next(ends, film.run.ended)
