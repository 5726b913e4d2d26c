"""The log of a job's last triage, in the original's words and order.

Pure: the engine stores the text. The original keeps triggers and finished invocations in sets, and consumes them in a
datastore transaction. Here one commit does both, but the log has the lines that a reader of the original knows. The
original deletes leftovers after its transaction; that step does not exist here, so its lines are missing and no item is
ever garbage.
"""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.core.go_text import valid_text
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.job import Job
from luci_scheduler.core.triage import Triage

__all__ = ["MAX_LINES", "TriageLog", "triage_log"]

MAX_LINES = 1000
"""The number of lines that are kept (the original's limit)."""

_TRUNCATED = "<the log is too long, truncated here>"


def triage_log(
    job: Job,
    decision: Triage,
    *,
    started: Instant,
    now: Instant,
    pending: int,
    available: int,
    acknowledged: Sequence[InvocationId],
) -> str:
    """Return the log of one triage. As in the original, an invocation that ends frees its slot before the triage.

    Args:
        job: the job with the new invocations among its active ones.
        decision: the triage's decision.
        started: when the triage started.
        now: when it was decided.
        pending: pending triggers, the new ones included.
        available: the triggers that one triage can resolve.
        acknowledged: invocations whose end is in the same commit.
    """
    log = TriageLog(started)
    log.prepared(started, pending=pending, finished=len(acknowledged))
    # The original logs the number of active invocations before it adds the new ones.
    active = len(job.active_invocations) - len(decision.requests)
    log.transaction(now, active=active, acknowledged=acknowledged, recently_finished=len(acknowledged))
    log.decided(now, decision, available=available)
    log.enqueued(now, decision)
    if not job.active_invocations:
        log.poking_cron(now)
    log.landing(now)
    log.done(now)
    return log.text


class TriageLog:
    """Collects the lines of one triage; each method gets the time of its lines.

    Call the methods in the order in which they are defined.
    """

    def __init__(self, started: Instant) -> None:
        self._started = started
        self._lines: list[str] = []
        self.line(started, "Starting")

    @property
    def text(self) -> str:
        """The log so far."""
        return "".join(self._lines)

    def line(self, now: Instant, text: str) -> None:
        """Add a line. The first line above the limit becomes a note about the truncation; later lines are dropped."""
        if len(self._lines) < MAX_LINES:
            milliseconds = (now - self._started) // MILLISECOND
            self._lines.append(f"[{milliseconds:03d} ms] {valid_text(text)}\n")
        elif len(self._lines) == MAX_LINES:
            self._lines.append(_TRUNCATED)

    def error(self, now: Instant, text: str, cause: object = "") -> None:
        """Add a line about a failure, with its cause if it has one."""
        self.line(now, f"Error: {text} - {cause}" if str(cause) else f"Error: {text}")

    def prepared(self, now: Instant, *, pending: int, finished: int) -> None:
        """Log the state before the triage: pending triggers, and invocations that finished since the last triage.

        A trigger that the same commit stores counts as pending: the original stores it before it triages.
        """
        self.line(now, f"Pending triggers set:  {pending} items, 0 garbage")
        self.line(now, f"Recently finished set: {finished} items, 0 garbage")
        self.line(now, "The preparation is finished")

    def transaction(
        self, now: Instant, *, active: int, acknowledged: Sequence[InvocationId], recently_finished: int
    ) -> None:
        """Log the state of the job; a refused commit starts a new log.

        Args:
            now: the time of the lines.
            active: how many invocations are still active.
            acknowledged: the invocations that this triage removes from the active ones, in the order of their creation.
            recently_finished: how many invocations finished within the last ten minutes, including the acknowledged.
        """
        self.line(now, "Started the transaction")
        for invocation_id in acknowledged:
            self.line(now, f"Invocation {invocation_id} is acknowledged as finished")
        self.line(now, f"Number of active invocations: {active}")
        self.line(now, f"Number of recently finished:  {recently_finished}")

    def decided(self, now: Instant, decision: Triage, *, available: int) -> None:
        """Log the decision about the ``available`` triggers."""
        self.line(now, f"Triggers available in this txn: {available}")
        if decision.inactive:
            self.line(now, "The job is inactive, clearing the pending triggers queue")
            return
        if decision.surplus:
            self.error(now, f"Too many pending triggers (>{decision.max_pending}), dropping {decision.surplus} oldest")
        self.line(now, "Invoking the triggering policy function")
        if decision.policy_error:
            self.error(
                now,
                "Failed to instantiate the triggering policy function, using the default policy instead",
                decision.policy_error,
            )
        for text in decision.policy_log:
            self.line(now, text)
        self.line(now, f"The policy requested {len(decision.requests)} new invocations")

    def enqueued(self, now: Instant, decision: Triage) -> None:
        """Log that the requested invocations are created, and how many triggers the policy discards."""
        if decision.inactive:
            return
        if decision.requests:
            consumed = sum(len(request.incoming_triggers) for request in decision.requests)
            self.line(now, f"New invocations enqueued, consumed {consumed} triggers")
        # The surplus has its own line, and is not the policy's decision.
        discarded = len(decision.discarded) - decision.surplus
        if discarded:
            self.line(now, f"{discarded} triggers discarded, according to policy")

    def poking_cron(self, now: Instant) -> None:
        """Log that no invocation is active: the cron machine rewinds if it waits for that."""
        self.line(now, "Poking the cron")

    def landing(self, now: Instant) -> None:
        """Log that the commit follows."""
        self.line(now, "Removing consumed dsset items")
        self.line(now, "Landing the transaction")

    def done(self, now: Instant) -> None:
        """End the log."""
        self.line(now, "Done")
