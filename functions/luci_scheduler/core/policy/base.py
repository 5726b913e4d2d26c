"""The shape of a triggering policy: a class that decides, describes itself and checks its configuration."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import format_duration
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import TriggeringPolicy
from luci_scheduler.core.request import Request, request_from_triggers
from luci_scheduler.core.trigger import Trigger

__all__ = ["Decision", "Discard", "Policy", "check_positive"]


@frozen
class Discard:
    """A trigger that a policy drops."""

    trigger: Trigger
    reason: str
    """The reason that its marker keeps and that pages show; see `core.discards.by_policy`."""


@frozen
class Decision:
    """The outcome of a policy: invocations to start, triggers to drop, and lines for the triage log."""

    requests: tuple[Request, ...] = ()
    discards: tuple[Discard, ...] = ()
    log: tuple[str, ...] = ()


class Policy(ABC):
    """A triggering policy, built from one job's definition. It is pure: it reads neither a clock nor a store.

    To add a policy, write a subclass in a module of this package and add the class to ``registry.POLICIES``.
    """

    kind: ClassVar[str]
    """The policy's name in ``luci-scheduler.cfg`` and in stored jobs."""
    number: ClassVar[int]
    """The value of that name in the config schema's enum."""
    fields: ClassVar[tuple[str, ...]] = ()
    """The fields of ``TriggeringPolicy`` that the policy uses in addition to ``max_concurrent_invocations``."""
    eras: ClassVar[frozenset[Era]] = frozenset(Era)
    """The eras whose configs may name the policy."""
    takes_newest: ClassVar[bool] = False
    """Whether the newest pending triggers run first. A triage with too many triggers takes that end of the list."""

    def __init__(self, definition: TriggeringPolicy, era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> None:
        """Build the policy of a job; ``era`` decides the wording of requests, ``hosts`` are those of the installation.

        Raises:
            ValueError: a number of the definition is out of range; the text is the original's.
        """
        check_positive("max_concurrent_invocations", definition.max_concurrent_invocations)
        self._definition = definition
        self._era = era
        self._hosts = hosts

    @abstractmethod
    def decide(self, triggers: Sequence[Trigger], active_invocations: int, now: Instant) -> Decision:
        """Decide about pending triggers (oldest first), given the number of active invocations."""

    @classmethod
    def problems(cls, message: Any) -> Iterable[tuple[str, str]]:  # noqa: ARG003 - subclasses read the message
        """Yield the errors in a ``TriggeringPolicy`` message of a config, each as field and text.

        The validator has already checked the signs of all numbers.
        """
        return ()

    @classmethod
    def describe(cls, definition: TriggeringPolicy) -> str:
        """Return a definition as Go prints a text proto, with defaults filled in; only fields that the policy uses."""
        names = ("max_concurrent_invocations", *cls.fields)
        lines = [_described(name, getattr(definition, name)) for name in names]
        return "\n".join([f"kind: {definition.kind}", *lines])

    @classmethod
    def forecast(cls, definition: TriggeringPolicy, commits: int) -> str:
        """Return a sentence about how many invocations start if triggers for ``commits`` commits arrive at once."""
        invocations = f"{commits} invocation{'' if commits == 1 else 's'}"
        return f"{invocations}, at most {definition.max_concurrent_invocations} at a time."

    def _request(self, triggers: Sequence[Trigger]) -> Request:
        """Return the request for a batch (oldest first, not empty)."""
        return request_from_triggers(triggers, self._era, self._hosts)

    def _free_slots(self, active_invocations: int) -> int:
        return self._definition.max_concurrent_invocations - active_invocations

    def _no_slots(self, active_invocations: int) -> str:
        """Return the line with the reason why nothing is started."""
        limit = self._definition.max_concurrent_invocations
        return (
            f"Max concurrent invocations is {limit} and there's {active_invocations} running => refusing to launch more"
        )


def check_positive(name: str, value: int) -> None:
    """Check a number of a policy's definition.

    Raises:
        ValueError: it is zero or less.
    """
    if value <= 0:
        raise ValueError(f"{name} should be positive")


def _described(name: str, value: Any) -> str:
    if name == "pending_timeout":  # Go prints a Duration as a message, in seconds
        return f"{name}: <seconds: {value // SECOND}>  # {format_duration(value)}"
    return f"{name}: {json.dumps(value)}"
