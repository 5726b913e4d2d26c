"""The invariant of the fast path: where nothing is lost, the sweep has nothing to do. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from emulator.storm.faults import GENTLE, Kind
from emulator.storm.history import Run
from emulator.storm.invariants import Invariant, Violation
from luci_scheduler.core.instants import MINUTE, Instant

__all__ = ["check_prompt"]

_FAILING = frozenset(
    {
        Kind.STORE_ABORTED,
        Kind.STORE_TOLD_CONFLICT,
        Kind.ENQUEUE_ANSWER_LOST,
        Kind.PUBLISH_REFUSED,
        Kind.PUBLISH_ANSWER_LOST,
        Kind.CONFIG_UNREADABLE,
    }
)
"""The gentle kinds that make a handler fail, so that its task comes again after a pause that grows."""
_MANY = 2
_SYNC = "on_task sync/store.commit"
_RECENT = 10 * MINUTE
"""Two failures within ten minutes can make the pauses of one task longer than the sweep's grace."""


def check_prompt(run: Run) -> Iterator[Violation]:
    """Yield each task that the sweep enqueued again although every fault of the run was gentle."""
    if any(fault.kind not in GENTLE for fault in run.faults):
        return
    failures = _failures(run)
    for line in run.history.log:
        if line["message"] == "swept":
            recent = bisect_right(failures, line["at"]) - bisect_left(failures, line["at"] - _RECENT)
            if recent < _MANY:
                about = {key: value for key, value in line.items() if key in ("job_id", "invocation_id", "deferred")}
                text = f"it enqueued the task {line['task']} again, {about}"
                yield Violation(Invariant.PROMPT, line["at"], "sweep", text)


def _failures(run: Run) -> Sequence[Instant]:
    """Return the instants of the calls that failed by a fault.

    A sync that reads its own commit as a conflict leaves the triages of changed jobs to the sweep. It counts as many.
    """
    failing = {(fault.point, fault.nth) for fault in run.faults if fault.kind in _FAILING}
    return sorted(
        call.at
        for call in run.history.calls
        if (f"{call.point}/before", call.before) in failing or (f"{call.point}/after", call.after) in failing
        for _ in range(_MANY if call.point == _SYNC else 1)
    )
