"""The kinds of queue tasks: each is a record with its payload codec. Pure.

A payload is a JSON object. Its member names are an interface: tasks wait on the queue, and deferred work lies in the
store, while a new version is deployed. `luci_scheduler.engine.tasks` holds the table of handlers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import NewerVersionError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id, timer_mutation
from luci_scheduler.core.instants import LAST_INSTANT, Instant
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_json import arriving_trigger, trigger_to_json

__all__ = [
    "VERSION",
    "AbortTask",
    "CleanupTask",
    "DeferredTask",
    "DispatchTask",
    "DispatchToTask",
    "LaunchTask",
    "ProbeTask",
    "SweepTask",
    "SyncTask",
    "Task",
    "TickTask",
    "TimerTask",
    "TriageTask",
    "TriggerTask",
    "check_version",
    "with_version",
]

VERSION = 1
"""The version of the payloads. Raise it when an older function would misread a new payload."""

Payload = Mapping[str, Any]


class Task(ABC):
    """A task of one kind. Every kind is safe to deliver more than once."""

    __slots__ = ()

    kind: ClassVar[str]
    """The last part of the path that the queue calls."""

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""

    @classmethod
    @abstractmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task.

        Raises:
            MalformedError, or one of ``untrusted.PARSER_ERRORS``: a member is missing or has a wrong value.
        """


def with_version(payload: Payload) -> dict[str, Any]:
    """Return the body of a task's request: its payload and the version that wrote it."""
    return {"v": VERSION, **payload}


def check_version(kind: str, payload: Payload) -> None:
    """Refuse the payload of a newer version. Deferred work and Cloud Scheduler's calls have no version.

    Raises:
        NewerVersionError: the version is newer. A newer function may handle the next delivery.
        ValueError: the version is not a positive integer.
    """
    version = payload.get("v", VERSION)
    # ``True`` is an integer to Python.
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"not a version: {version!r}")
    if version > VERSION:
        raise NewerVersionError(f"a {kind} task has version {version}, and this function reads version {VERSION}")


@frozen
class LaunchTask(Task):
    """Launch an invocation, unless another attempt was made since."""

    kind: ClassVar[str] = "launch"
    job_id: JobId
    invocation_id: InvocationId
    attempts: int
    """The invocation's launch attempts when the task was made. The handler drops the task if there are more by now."""
    created: Instant
    """When the task was made, in nanoseconds. Handlers wait five minutes from then for the task's commit."""

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**_invocation(self), "attempts": self.attempts, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id, created = _common(payload)
        return cls(job_id, invocation_id, int(payload["attempts"]), created)


@frozen
class TimerTask(Task):
    """Deliver a timer to its invocation."""

    kind: ClassVar[str] = "timer"
    job_id: JobId
    invocation_id: InvocationId
    timer_id: str
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**_invocation(self), "timer": self.timer_id, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id, created = _common(payload)
        timer_mutation(payload["timer"])  # raises an error here, so that a bad ID is malformed and not a defect
        return cls(job_id, invocation_id, payload["timer"], created)


@frozen
class AbortTask(Task):
    """Abort an invocation.

    With ``who``, the task is a caller's request and the first to mention the abort. Without it, the invocation's
    document already records the request, and the task performs the abort.
    """

    kind: ClassVar[str] = "abort"
    job_id: JobId
    invocation_id: InvocationId
    created: Instant | None = None
    """When the task was made. None with ``who``: a request waits for no commit."""
    who: str = ""
    reason: str = ""

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        if self.who:
            return {**_invocation(self), "who": self.who, "reason": self.reason}
        return {**_invocation(self), "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id = _job_id(payload), _invocation_id(payload)
        if who := str(payload.get("who", "")):
            # The handler records the request itself, so there is no earlier commit to wait for.
            return cls(job_id, invocation_id, who=who, reason=str(payload.get("reason", "")))
        return cls(job_id, invocation_id, _created(payload))


@frozen
class CleanupTask(Task):
    """Cancel the build that an ended invocation may have left running."""

    kind: ClassVar[str] = "cleanup"
    job_id: JobId
    invocation_id: InvocationId
    attempts: int
    """The cleanup's failed attempts when the task was made. The handler drops the task if there are more by now."""
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**_invocation(self), "attempts": self.attempts, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id, created = _common(payload)
        return cls(job_id, invocation_id, int(payload["attempts"]), created)


@frozen
class DispatchTask(Task):
    """Dispatch the triggers that an invocation emitted to the jobs that its job triggers."""

    kind: ClassVar[str] = "dispatch"
    job_id: JobId
    invocation_id: InvocationId
    mutation: int
    """The invocation's mutation counter after the commit that records the triggers."""
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**_invocation(self), "mutation": self.mutation, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id, created = _common(payload)
        return cls(job_id, invocation_id, int(payload["mutation"]), created)


@frozen
class DispatchToTask(Task):
    """Dispatch an invocation's emitted triggers, from the number ``first`` on, to one job."""

    kind: ClassVar[str] = "dispatch-to"
    job_id: JobId
    invocation_id: InvocationId
    target: JobId
    first: int
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**_invocation(self), "target": self.target, "first": self.first, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, invocation_id, created = _common(payload)
        return cls(job_id, invocation_id, _job_id(payload, "target"), int(payload["first"]), created)


@frozen
class TickTask(Task):
    """Deliver a tick to a job's cron machine."""

    kind: ClassVar[str] = "cron"
    job_id: JobId
    nonce: int
    """The nonce of the awaited tick. The cron machine ignores every other tick."""
    generation: int
    """The cron machine's generation after the commit that awaits the tick."""
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        nonce = str(self.nonce)  # 63 bits: many JSON readers keep 53 of a number
        return {"job": self.job_id, "nonce": nonce, "generation": self.generation, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, created = _job_id(payload), _created(payload)
        return cls(job_id, int(payload["nonce"]), int(payload["generation"]), created)


@frozen
class TriageTask(Task):
    """Triage a job's pending triggers."""

    kind: ClassVar[str] = "triage"
    job_id: JobId
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {"job": self.job_id, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        return cls(_job_id(payload), _created_if_given(payload))


@frozen
class TriggerTask(Task):
    """Add triggers to a job in one triage. Deferred work has this kind."""

    kind: ClassVar[str] = "trigger"
    job_id: JobId
    triggers: tuple[Trigger, ...]
    delivery: str
    """The key of the delivery that had the triggers. If empty (older functions), the task's key replaces it."""

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        triggers = [trigger_to_json(trigger) for trigger in self.triggers]
        return {"job": self.job_id, "triggers": triggers, "delivery": self.delivery}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        job_id, delivery = _job_id(payload), str(payload.get("delivery", ""))
        return cls(job_id, tuple(arriving_trigger(item) for item in payload["triggers"]), delivery)


@frozen
class DeferredTask(Task):
    """Try a piece of deferred work."""

    kind: ClassVar[str] = "deferred"
    deferred_id: str
    tries: int
    """The work's tries when the task was made. The handler drops the task if there are more by now."""
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {"deferred": self.deferred_id, "tries": self.tries, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        return cls(str(payload["deferred"]), int(payload["tries"]), _created_if_given(payload))


@frozen
class SweepTask(Task):
    """Put overdue tasks on the queue again. Cloud Scheduler makes this call each minute."""

    kind: ClassVar[str] = "sweep"
    after: DueCursor | None
    """Where an earlier sweep ran out of time; None for a sweep of everything."""
    created: Instant

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        if self.after is None:
            return {"created": self.created}
        place = {
            "due": self.after.due,
            "job": self.after.job_id,
            "invocation": str(self.after.invocation_id),
            "deferred": self.after.deferred,
        }
        return {"after": place, "created": self.created}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        place = payload.get("after")
        return cls(_cursor(place) if place else None, _created_if_given(payload))


@frozen
class ProbeTask(Task):
    """Mark a probe, and check the services that the functions need."""

    kind: ClassVar[str] = "probe"
    probe_id: str

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {"probe": self.probe_id}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Read a task."""
        return cls(str(payload["probe"]))


@frozen
class SyncTask(Task):
    """Read the configs of all projects. The body of such a task is never read, because it has no members."""

    kind: ClassVar[str] = "sync"

    def payload(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:  # noqa: ARG003 - part of the interface
        """Read a task."""
        return cls()


def _invocation(
    task: LaunchTask | TimerTask | AbortTask | CleanupTask | DispatchTask | DispatchToTask,
) -> dict[str, Any]:
    # A string, because an invocation's ID has 63 bits and many JSON readers keep 53 of a number.
    return {"job": task.job_id, "invocation": str(task.invocation_id)}


def _common(payload: Payload) -> tuple[JobId, InvocationId, Instant]:
    return _job_id(payload), _invocation_id(payload), _created(payload)


def _job_id(payload: Payload, member: str = "job") -> JobId:
    split_job_id(payload[member])
    return JobId(payload[member])


def _invocation_id(payload: Payload) -> InvocationId:
    return InvocationId(int(payload["invocation"]))


def _created(payload: Payload) -> Instant:
    created = int(payload["created"])
    # The store and the clocks hold 64 bits.
    if not 0 <= created <= LAST_INSTANT:
        raise ValueError("created is no time")
    return Instant(created)


def _created_if_given(payload: Payload) -> Instant:
    """Read a member that no handler of the kind uses: Cloud Scheduler sends none, and a wrong value does no harm."""
    created = payload.get("created")
    if isinstance(created, int) and not isinstance(created, bool) and 0 <= created <= LAST_INSTANT:
        return Instant(created)
    return Instant(0)


def _cursor(place: Payload) -> DueCursor:
    due = Instant(int(place["due"]))
    # Payloads of older functions have no member ``deferred``.
    if deferred := place.get("deferred"):
        return DueCursor(due, JobId(""), deferred=str(deferred))
    return DueCursor(due, _job_id(place), _invocation_id(place))
