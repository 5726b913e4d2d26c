"""The log of a job's last triage, in the original's words and order; pure, the engine stores the text.

The original keeps triggers and finished invocations in sets of their own and consumes them in a datastore transaction;
here both happen in one commit, but a reader finds the lines that he knows. What has no counterpart (the deletion of
leftovers after the transaction) has no line either, and nothing is ever garbage.
"""

from __future__ import annotations

from collections.abc import Sequence

from luci_scheduler.core.go_text import valid_text
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import MILLISECOND, Instant
from luci_scheduler.core.triage import Triage

__all__ = ["MAX_LINES", "TriageLog"]

MAX_LINES = 1000
"""Lines that are kept (the original's limit)."""

_TRUNCATED = "<the log is too long, truncated here>"


class TriageLog:
    """Collects the lines of one triage; every method is given its own reading of the clock.

    The methods are called in the order in which they stand.
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
        """Add a line; one too many becomes the note that the log is cut, later ones are dropped."""
        if len(self._lines) < MAX_LINES:
            milliseconds = (now - self._started) // MILLISECOND
            self._lines.append(f"[{milliseconds:03d} ms] {valid_text(text)}\n")
        elif len(self._lines) == MAX_LINES:
            self._lines.append(_TRUNCATED)

    def error(self, now: Instant, text: str, cause: object = "") -> None:
        """Add a line about a failure, with its cause if there is one."""
        self.line(now, f"Error: {text} - {cause}" if str(cause) else f"Error: {text}")

    def prepared(self, now: Instant, *, pending: int, finished: int) -> None:
        """Log the state before the triage: pending triggers, and invocations that finished since the last triage.

        A trigger that the same commit stores counts as pending. The original puts it into its set before it triages.
        """
        self.line(now, f"Pending triggers set:  {pending} items, 0 garbage")
        self.line(now, f"Recently finished set: {finished} items, 0 garbage")
        self.line(now, "The preparation is finished")

    def transaction(
        self, now: Instant, *, active: int, acknowledged: Sequence[InvocationId], recently_finished: int
    ) -> None:
        """Tell of the job that was found; a commit that is refused starts a new log.

        Args:
            now: the clock.
            active: how many invocations are active still.
            acknowledged: those that are active no longer since this attempt, in the order of their creation.
            recently_finished: how many finished within the last ten minutes, the acknowledged ones among them.
        """
        self.line(now, "Started the transaction")
        for invocation_id in acknowledged:
            self.line(now, f"Invocation {invocation_id} is acknowledged as finished")
        self.line(now, f"Number of active invocations: {active}")
        self.line(now, f"Number of recently finished:  {recently_finished}")

    def decided(self, now: Instant, decision: Triage, *, available: int) -> None:
        """Tell what was decided about the ``available`` triggers."""
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
        """Tell that the requested invocations are allocated, and how many triggers the policy discards."""
        if decision.inactive:
            return
        if decision.requests:
            consumed = sum(len(request.incoming_triggers) for request in decision.requests)
            self.line(now, f"New invocations enqueued, consumed {consumed} triggers")
        discarded = len(decision.discarded) - decision.surplus
        if discarded:
            self.line(now, f"{discarded} triggers discarded, according to policy")

    def poking_cron(self, now: Instant) -> None:
        """Tell that nothing is active, so that the cron machine is rewound if it waits for that."""
        self.line(now, "Poking the cron")

    def landing(self, now: Instant) -> None:
        """Tell that the commit is on its way."""
        self.line(now, "Removing consumed dsset items")
        self.line(now, "Landing the transaction")

    def done(self, now: Instant) -> None:
        """End the log."""
        self.line(now, "Done")
