"""Builders and buckets of the Buildbucket server, and access to them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.buildbucket.identifiers import BuilderId
from luci_scheduler.core.instants import HOUR, SECOND

__all__ = ["BuilderConfig", "Registry"]

_DEFAULT_CIPD_PACKAGE = "infra/recipe_bundles/chromium.googlesource.com/chromium/tools/build"


@dataclass(frozen=True, slots=True)
class BuilderConfig:
    """A builder's settings; the defaults apply to an unregistered builder. Durations are nanoseconds.

    Attributes:
        properties: properties of every build. A request may repeat them; it may change those that
            ``allowed_property_overrides`` lists, or all if that contains ``*``.
        next_number: the number of the next build; None means that builds have no numbers.
        bot_dimensions: the machine's dimensions, which the v1 API shows once a build has ended.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    allowed_property_overrides: frozenset[str] = frozenset()
    next_number: int | None = None
    scheduling_timeout: int = 6 * HOUR
    execution_timeout: int = 3 * HOUR
    grace_period: int = 30 * SECOND
    recipe: str = "build"
    cipd_package: str = _DEFAULT_CIPD_PACKAGE
    cipd_version: str = "refs/heads/main"
    service_account: str = "builder@local-cloud.iam.gserviceaccount.com"
    swarming_hostname: str = "chromium-swarm.appspot.com"
    logdog_hostname: str = "logs.chromium.org"
    bot_dimensions: Mapping[str, list[str]] = field(default_factory=lambda: {"id": ["vm1"], "os": ["Linux", "Ubuntu"]})
    experiments: tuple[str, ...] = ()
    critical: str = ""
    priority: int = 30


class Registry:
    """The builders and buckets. Thread-safe.

    Buckets are open until they are closed. Without strict mode every builder exists; in strict mode only registered
    ones do.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.default = BuilderConfig()
        self._builders: dict[BuilderId, BuilderConfig] = {}
        self._closed: dict[str, tuple[bool, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def add(self, builder: BuilderId, config: BuilderConfig | None = None) -> None:
        """Register a builder, or replace its settings."""
        with self._lock:
            self._builders[builder] = config or self.default

    def find(self, builder: BuilderId) -> BuilderConfig | None:
        """Return a builder's settings; None if it does not exist."""
        with self._lock:
            return self._builders.get(builder, None if self.strict else self.default)

    def bucket_exists(self, bucket: str) -> bool:
        """Return whether ``project/bucket`` exists; in strict mode it needs a registered builder."""
        with self._lock:
            return not self.strict or any(builder.bucket_name == bucket for builder in self._builders)

    def take_number(self, builder: BuilderId) -> int | None:
        """Return and increment the next build number of a builder; None if its builds have no numbers."""
        with self._lock:
            config = self._builders.get(builder)
            if config is None or config.next_number is None:
                return None
            self._builders[builder] = replace(config, next_number=config.next_number + 1)
            return config.next_number

    def close_bucket(self, bucket: str, *, visible: bool = False, allowed: frozenset[str] = frozenset()) -> None:
        """Close ``project/bucket`` to all callers except ``allowed`` (identities such as ``user:a@b``).

        With ``visible`` the other callers may still read builds, but neither add nor cancel them.
        """
        with self._lock:
            self._closed[bucket] = (visible, allowed)

    def open_bucket(self, bucket: str) -> None:
        """Open a closed bucket again."""
        with self._lock:
            self._closed.pop(bucket, None)

    def may_read(self, bucket: str, caller: str) -> bool:
        """Return whether ``caller`` may read the bucket's builders and builds; False if the bucket does not exist."""
        visible, allowed = self._closed.get(bucket, (True, frozenset()))
        return (visible or caller in allowed) and self.bucket_exists(bucket)

    def may_write(self, bucket: str, caller: str) -> bool:
        """Return whether ``caller`` may add and cancel builds in the bucket."""
        return bucket not in self._closed or caller in self._closed[bucket][1]
