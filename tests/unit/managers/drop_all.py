"""The ``DROP_ALL`` policy: a job that starts nothing. The example of docs/how-to/add-a-task-kind.md."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from luci_scheduler.core.discards import by_policy
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.policy.base import Decision, Discard, Policy
from luci_scheduler.core.trigger import Trigger


class DropAll(Policy):
    """Discards every trigger."""

    kind: ClassVar[str] = "DROP_ALL"
    number: ClassVar[int] = 100

    def decide(self, triggers: Sequence[Trigger], active_invocations: int, now: Instant) -> Decision:
        """Discard all triggers."""
        reason = by_policy(self.kind, "it drops every trigger")
        return Decision(discards=tuple(Discard(trigger, reason) for trigger in triggers))

    @classmethod
    def problems(cls, message: Any) -> Iterable[tuple[str, str]]:
        """Refuse a batch size, which would have no effect."""
        if message.max_batch_size:
            yield "max_batch_size", "DROP_ALL starts nothing: remove max_batch_size"

    @classmethod
    def forecast(cls, definition: TriggeringPolicy, commits: int) -> str:
        """Return a sentence: nothing starts."""
        return f"No invocations: the job's policy, {definition.kind}, discards all {commits} triggers."
