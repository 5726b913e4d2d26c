"""A queue's settings in messages: defaults, limits and the update mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.cloud.tasks_v2 import types

from emulator.cloud_tasks.errors import InvalidArgumentError, UnimplementedError
from emulator.cloud_tasks.limits import MAX_CONCURRENT_DISPATCHES, MAX_DISPATCHES_PER_SECOND
from emulator.cloud_tasks.model import RateLimits, RetryConfig
from emulator.cloud_tasks.wire_time import read_duration, write_duration

__all__ = ["QueueSettings", "read_queue", "read_retry_config", "render_retry_config", "update_queue"]

_QUEUE = types.Queue.pb()

_RATE_FIELDS = ("max_dispatches_per_second", "max_concurrent_dispatches")
_RETRY_FIELDS = ("max_attempts", "max_retry_duration", "min_backoff", "max_backoff", "max_doublings")
_OUTPUT_ONLY = frozenset({"name", "state", "purge_time", "rate_limits.max_burst_size"})
_NOT_OFFERED = frozenset({"http_target", "app_engine_routing_override"})
# Accepted without effect, because this server has no log.
_WITHOUT_EFFECT = frozenset({"stackdriver_logging_config"})


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The settings of a queue."""

    rate_limits: RateLimits
    retry_config: RetryConfig


def read_queue(message: Any) -> QueueSettings:
    """Check a ``Queue`` message and return its settings; unset and zero values get the defaults.

    Raises:
        InvalidArgumentError: a value is out of range; the message names the field.
        UnimplementedError: the message has a routing override, which this server does not support.
    """
    for field in sorted(_NOT_OFFERED):
        if message.HasField(field):
            raise UnimplementedError(f"queue.{field}: this server has no overrides on queues")
    return QueueSettings(
        _read_rate_limits(message.rate_limits), read_retry_config("queue.retry_config", message.retry_config)
    )


def _read_rate_limits(message: Any) -> RateLimits:
    rate = message.max_dispatches_per_second or RateLimits().max_dispatches_per_second
    if not 0 < rate <= MAX_DISPATCHES_PER_SECOND:
        raise InvalidArgumentError(
            f"queue.rate_limits.max_dispatches_per_second: {rate} is not between 0 and {MAX_DISPATCHES_PER_SECOND:g}"
        )
    concurrent = message.max_concurrent_dispatches or RateLimits().max_concurrent_dispatches
    if not 0 < concurrent <= MAX_CONCURRENT_DISPATCHES:
        raise InvalidArgumentError(
            f"queue.rate_limits.max_concurrent_dispatches: {concurrent}"
            f" is not between 1 and {MAX_CONCURRENT_DISPATCHES}"
        )
    return RateLimits(rate, concurrent)


def read_retry_config(field: str, message: Any, *, explicit: Iterable[str] = ()) -> RetryConfig:
    """Check a ``RetryConfig`` message.

    Args:
        field: The field's name in errors.
        message: The message.
        explicit: Fields named by an update mask, whose zero is a value; in other fields a zero means the default.

    Raises:
        InvalidArgumentError: a value is out of range; the message names the field.
    """
    defaults = RetryConfig()
    attempts = message.max_attempts or defaults.max_attempts
    if attempts < -1:
        raise InvalidArgumentError(f"{field}.max_attempts: {attempts} is less than -1")
    doublings = message.max_doublings
    if doublings < 0:
        raise InvalidArgumentError(f"{field}.max_doublings: {doublings} is negative")
    if doublings == 0 and "max_doublings" not in explicit:
        doublings = defaults.max_doublings
    minimum, maximum = _read_backoffs(field, message, defaults)
    duration = read_duration(f"{field}.max_retry_duration", message.max_retry_duration)
    return RetryConfig(attempts, duration, minimum, maximum, doublings)


def _read_backoffs(field: str, message: Any, defaults: RetryConfig) -> tuple[int, int]:
    """Return the least and the greatest backoff. If only one is given, the default of the other gives way."""
    minimum, maximum = (
        read_duration(f"{field}.{name}", getattr(message, name)) if message.HasField(name) else None
        for name in ("min_backoff", "max_backoff")
    )
    if minimum is None:
        minimum = defaults.min_backoff if maximum is None else min(defaults.min_backoff, maximum)
    if maximum is None:
        maximum = max(defaults.max_backoff, minimum)
    if minimum > maximum:
        raise InvalidArgumentError(f"{field}.min_backoff: exceeds max_backoff")
    return minimum, maximum


def render_retry_config(message: Any, config: RetryConfig) -> None:
    """Fill a ``RetryConfig`` message."""
    message.max_attempts = config.max_attempts
    message.max_doublings = config.max_doublings
    write_duration(message.min_backoff, config.min_backoff)
    write_duration(message.max_backoff, config.max_backoff)
    if config.max_retry_duration:
        write_duration(message.max_retry_duration, config.max_retry_duration)


def update_queue(present: QueueSettings, message: Any, paths: Iterable[str]) -> QueueSettings:
    """Return the settings after an update with a mask; an empty mask replaces all settings.

    Raises:
        InvalidArgumentError: a value is out of range, or the mask contains an unknown field.
        UnimplementedError: the mask contains a routing override.
    """
    chosen = set(paths)
    if not chosen:
        return read_queue(message)
    merged = _QUEUE()
    rate, retry = merged.rate_limits, merged.retry_config
    rate.max_dispatches_per_second = present.rate_limits.max_dispatches_per_second
    rate.max_concurrent_dispatches = present.rate_limits.max_concurrent_dispatches
    render_retry_config(retry, present.retry_config)
    for path in sorted(chosen):
        _copy_path(message, merged, path)
    explicit = () if "retry_config" in chosen else ("max_doublings",)
    return QueueSettings(_read_rate_limits(rate), read_retry_config("queue.retry_config", retry, explicit=explicit))


def _copy_path(source: Any, target: Any, path: str) -> None:
    """Copy the part of a queue that a path of an update mask names."""
    parent, _, child = path.partition(".")
    if path in _OUTPUT_ONLY or parent in _WITHOUT_EFFECT:
        return
    if parent in _NOT_OFFERED:
        raise UnimplementedError(f"update_mask: this server has no {parent} on queues")
    if path in ("rate_limits", "retry_config"):
        getattr(target, path).CopyFrom(getattr(source, path))
    elif parent == "rate_limits" and child in _RATE_FIELDS:
        setattr(target.rate_limits, child, getattr(source.rate_limits, child))
    elif parent == "retry_config" and child in _RETRY_FIELDS:
        _copy_field(source.retry_config, target.retry_config, child)
    else:
        raise InvalidArgumentError(f"update_mask: {path!r} is not a field of a queue")


def _copy_field(source: Any, target: Any, field: str) -> None:
    """Copy one field, a number or a duration; an unset duration clears the target."""
    if field in ("max_attempts", "max_doublings"):
        setattr(target, field, getattr(source, field))
        return
    target.ClearField(field)
    if source.HasField(field):
        getattr(target, field).CopyFrom(getattr(source, field))
