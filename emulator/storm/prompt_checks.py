"""The invariant of the fast path: where nothing is lost, the sweep has nothing to do. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from emulator.storm.faults import GENTLE, Kind
from emulator.storm.history import Run
from emulator.storm.invariants import Invariant, Violation
from emulator.storm.run_checks import BUILDING, Film
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["check_prompt"]

Found = tuple[Instant, str, str]
_FAILING = frozenset(
    {
        Kind.STORE_ABORTED,
        Kind.STORE_FALSE_CONFLICT,
        Kind.ENQUEUE_ANSWER_LOST,
        Kind.PUBLISH_REFUSED,
        Kind.PUBLISH_ANSWER_LOST,
        Kind.CONFIG_UNREADABLE,
    }
)
"""The gentle kinds that make a handler fail, so that its task comes again after a pause that grows."""
_SILENT = frozenset({Kind.NOTICE_LOST, Kind.NOTICE_LATE, Kind.BUILD_STALE})
_LONG = 50 * SECOND
_MANY = 2
_LEFT = ("on_task sync/store.commit", "on_task deferred/store.commit")
_RECENT = 10 * MINUTE
"""Two failures within ten minutes can make the pauses of one task longer than the sweep's grace."""


def check_prompt(film: Film) -> Iterator[Violation]:
    """Yield each step that took long although every fault of the run was gentle."""
    run = film.run
    if any(fault.kind not in GENTLE for fault in run.faults):
        return
    failures = _failures(run)
    for at, subject, text in (*_sweeps(run), *_slow(film)):
        if bisect_right(failures, at) - bisect_left(failures, at - _RECENT) < _MANY:
            yield Violation(Invariant.PROMPT, at, subject, text)


def _sweeps(run: Run) -> Iterator[Found]:
    for line in run.history.log:
        if line["message"] == "swept":
            about = {key: value for key, value in line.items() if key in ("job_id", "invocation_id", "deferred")}
            yield line["at"], "sweep", f"it enqueued the task {line['task']} again, {about}"


def _slow(film: Film) -> Iterator[Found]:
    for job_id, since, until in film.idle:
        if until - since > _LONG:
            yield until, f"job {job_id}", f"a trigger was pending beside a free slot for {(until - since) // SECOND} s"
    is_told = not any(fault.kind in _SILENT for fault in film.run.faults)
    ended = {(build.job_id, build.invocation_id): build.ended for build in film.run.history.builds}
    for key, versions in film.versions.items():
        if key[0] == "invocation" and versions[0].record.task.kind in BUILDING:
            launched = next((version.at for version in versions if not version.record.status.is_initial), None)
            if launched is not None and launched - versions[0].at > _LONG:
                yield launched, " ".join(map(str, key)), f"its launch took {(launched - versions[0].at) // SECOND} s"
            finished, end = versions[-1].record.finished, ended.get((key[1], key[2]))
            if is_told and finished and end and finished - end > _LONG:
                yield finished, " ".join(map(str, key)), f"it ended {(finished - end) // SECOND} s after its build"


def _failures(run: Run) -> Sequence[Instant]:
    """Return the instants of the calls that failed by a fault.

    A sync that reads its own commit as a conflict leaves the triages of changed jobs to the sweep, and deferred work
    whose last commit fails is tried again by the sweep. So is the second look for triggers after the end of an
    invocation. Each of them counts as many.
    """
    looks = [line["at"] for line in run.history.log if line["message"] == "second_look_failed"]
    failing = {(fault.point, fault.nth) for fault in run.faults if fault.kind in _FAILING}
    calls = [
        call.at
        for call in run.history.calls
        if (f"{call.point}/before", call.before) in failing or (f"{call.point}/after", call.after) in failing
        for _ in range(_MANY if call.point in _LEFT else 1)
    ]
    return sorted([*calls, *looks * _MANY])
