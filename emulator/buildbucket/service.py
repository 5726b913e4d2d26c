"""The parts of the Buildbucket server that both APIs share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.buildbucket.builders import BuilderConfig, Registry
from emulator.buildbucket.builds import BuildStore
from emulator.buildbucket.commands import PARALLEL, Commands
from emulator.buildbucket.lifecycle import LifeCycle
from emulator.buildbucket.notifications import Notifier
from emulator.buildbucket.plans import Plan, Plans, PlanSource
from emulator.building.messages import Publisher
from emulator.building.output import Outputs
from emulator.building.timeline import Timeline
from emulator.clock import Clock
from luci_scheduler.core.instants import HOUR

__all__ = ["Forbidden", "OverrideError", "Service", "merge_properties"]

_TOPIC_CHECK_CACHED = 10 * HOUR


class Forbidden(Exception):  # noqa: N818 - a response, not a failure of this program
    """The caller has no permission; ``visible`` says whether the caller may know that the resource exists."""

    def __init__(self, *, visible: bool) -> None:
        super().__init__()
        self.visible = visible


class OverrideError(ValueError):
    """A request overrides a protected property of the builder; the text is the property's name."""


@dataclass
class Service:
    """The builds and everything that changes them, apart from the protocols.

    Attributes:
        hostname: the service's hostname in tags, builds and notifications.
        request_id_memory: how many nanoseconds v2 remembers request IDs; None means forever.
        plan_source: returns the plans of builds that no rule matches.
        parallel: the number of programs that run at once.
    """

    clock: Clock
    entropy: random.Random
    publisher: Publisher
    hostname: str
    default_plan: Plan
    request_id_memory: int | None = None
    registry: Registry = field(default_factory=Registry)
    plan_source: PlanSource = lambda _: None
    parallel: int = PARALLEL

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.clock)
        self.store = BuildStore(self.clock, self.entropy, self.registry.take_number)
        self.notifier = Notifier(self.clock, self.timeline, self.store, self.publisher, lambda: self.hostname)
        self.plans = Plans(self.default_plan, self.plan_source)
        self.outputs: Outputs[int] = Outputs()
        commands = Commands(self.outputs, self.parallel)
        self.life_cycle = LifeCycle(self.clock, self.timeline, self.store, self.notifier, self.plans, commands)
        self._topics: dict[str, int] = {}

    def topic_usable(self, topic: str) -> bool:
        """Return whether the service may publish to a topic; a positive result is cached for ten hours."""
        now = self.clock.now()
        checked = self._topics.get(topic)
        if checked is not None and now - checked < _TOPIC_CHECK_CACHED:
            return True
        if not self.publisher.topic_exists(topic):
            return False
        self._topics[topic] = now
        return True

    def check_writable(self, bucket: str, caller: str) -> None:
        """Raise `Forbidden` unless ``caller`` may add and cancel builds in ``project/bucket``."""
        visible = self.registry.may_read(bucket, caller)
        if not (visible and self.registry.may_write(bucket, caller)):
            raise Forbidden(visible=visible)


def merge_properties(config: BuilderConfig, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a build: the builder's properties, overridden by the requested ones.

    Raises:
        OverrideError: a requested value differs from the builder's value, and the builder does not allow that.
    """
    allowed = config.allowed_property_overrides
    for name, value in requested.items():
        kept = config.properties.get(name, value)
        if kept != value and name not in allowed and "*" not in allowed:
            raise OverrideError(name)
    return {**config.properties, **requested}
