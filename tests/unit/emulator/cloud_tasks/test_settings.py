"""Settings of queues in messages: defaults, limits, update masks."""

from typing import Any

import pytest
from google.cloud.tasks_v2 import types
from google.protobuf.duration_pb2 import Duration

from emulator.cloud_tasks.errors import InvalidArgumentError, UnimplementedError
from emulator.cloud_tasks.model import RateLimits, RetryConfig
from emulator.cloud_tasks.settings import (
    QueueSettings,
    read_queue,
    read_retry_config,
    render_retry_config,
    update_queue,
)
from luci_scheduler.core.instants import HOUR, MILLISECOND, SECOND

PRESENT = QueueSettings(RateLimits(7.0, 3), RetryConfig(5, 60 * SECOND, SECOND, 8 * SECOND, 2))


def queue(**fields: Any) -> Any:
    """Return a raw Queue message."""
    return types.Queue.pb(types.Queue(**fields))


def retry(**fields: Any) -> Any:
    """Return a raw RetryConfig message; durations are seconds."""
    message = types.RetryConfig.pb()()
    for name, value in fields.items():
        if name in ("max_attempts", "max_doublings"):
            setattr(message, name, value)
        else:
            getattr(message, name).CopyFrom(Duration(seconds=value))
    return message


def test_an_empty_message_has_the_defaults_of_a_new_queue() -> None:
    settings = read_queue(queue())
    assert settings == QueueSettings(RateLimits(500.0, 1_000), RetryConfig(100, 0, 100 * MILLISECOND, HOUR, 16))


@pytest.mark.parametrize("rate", [0.001, 500.0])
def test_a_rate_within_the_limits(rate: float) -> None:
    assert (
        read_queue(queue(rate_limits={"max_dispatches_per_second": rate})).rate_limits.max_dispatches_per_second == rate
    )


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"max_dispatches_per_second": -1.0}, "max_dispatches_per_second"),
        ({"max_dispatches_per_second": 500.5}, "max_dispatches_per_second"),
        ({"max_dispatches_per_second": float("nan")}, "max_dispatches_per_second"),
        ({"max_concurrent_dispatches": -1}, "max_concurrent_dispatches"),
        ({"max_concurrent_dispatches": 5_001}, "max_concurrent_dispatches"),
    ],
)
def test_a_rate_outside_the_limits_is_refused(limits: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^queue\.rate_limits\.{field}: "):
        read_queue(queue(rate_limits=limits))


def test_a_queue_with_a_routing_override_is_refused() -> None:
    with pytest.raises(UnimplementedError, match=r"^queue\.app_engine_routing_override: "):
        read_queue(queue(app_engine_routing_override={"service": "s"}))


@pytest.mark.parametrize(
    ("fields", "minimum", "maximum"),
    [
        ({}, 100 * MILLISECOND, HOUR),
        ({"min_backoff": 5}, 5 * SECOND, HOUR),
        ({"min_backoff": 7200}, 7200 * SECOND, 7200 * SECOND),
        ({"max_backoff": 5}, 100 * MILLISECOND, 5 * SECOND),
        ({"max_backoff": 0}, 0, 0),
        ({"min_backoff": 2, "max_backoff": 2}, 2 * SECOND, 2 * SECOND),
    ],
)
def test_the_default_of_one_backoff_gives_way_to_the_other(fields: dict[str, int], minimum: int, maximum: int) -> None:
    config = read_retry_config("f", retry(**fields))
    assert (config.min_backoff, config.max_backoff) == (minimum, maximum)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_attempts": -2}, "f.max_attempts: -2 is less than -1"),
        ({"max_doublings": -1}, "f.max_doublings: -1 is negative"),
        ({"min_backoff": 3, "max_backoff": 2}, "f.min_backoff: exceeds max_backoff"),
        ({"max_retry_duration": -1}, "f.max_retry_duration: not a valid Duration, or negative"),
    ],
)
def test_retry_settings_out_of_range_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_retry_config("f", retry(**fields))
    assert str(caught.value) == message


def test_zero_doublings_means_the_default_unless_the_mask_names_it() -> None:
    assert read_retry_config("f", retry()).max_doublings == 16
    assert read_retry_config("f", retry(), explicit=["max_doublings"]).max_doublings == 0


def test_unlimited_attempts_are_read_back() -> None:
    assert read_retry_config("f", retry(max_attempts=-1)).max_attempts == -1


@pytest.mark.parametrize("config", [PRESENT.retry_config, RetryConfig(), RetryConfig(-1, 0, 0, 0, 0)])
def test_rendered_retry_settings_are_read_back(config: RetryConfig) -> None:
    message = types.RetryConfig.pb()()
    render_retry_config(message, config)
    assert message.HasField("max_retry_duration") == bool(config.max_retry_duration)
    assert read_retry_config("f", message, explicit=["max_doublings"]) == config


def test_an_update_without_a_mask_replaces_all_settings() -> None:
    assert update_queue(PRESENT, queue(), []) == read_queue(queue())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("rate_limits", QueueSettings(RateLimits(9.0, 1_000), PRESENT.retry_config)),
        ("rate_limits.max_dispatches_per_second", QueueSettings(RateLimits(9.0, 3), PRESENT.retry_config)),
        ("rate_limits.max_concurrent_dispatches", QueueSettings(RateLimits(7.0, 1_000), PRESENT.retry_config)),
        ("retry_config", QueueSettings(PRESENT.rate_limits, RetryConfig(3, 0, 2 * SECOND, HOUR, 16))),
        (
            "retry_config.max_attempts",
            QueueSettings(PRESENT.rate_limits, RetryConfig(3, 60 * SECOND, SECOND, 8 * SECOND, 2)),
        ),
        (
            "retry_config.max_doublings",
            QueueSettings(PRESENT.rate_limits, RetryConfig(5, 60 * SECOND, SECOND, 8 * SECOND, 0)),
        ),
        (
            "retry_config.min_backoff",
            QueueSettings(PRESENT.rate_limits, RetryConfig(5, 60 * SECOND, 2 * SECOND, 8 * SECOND, 2)),
        ),
        ("retry_config.max_backoff", QueueSettings(PRESENT.rate_limits, RetryConfig(5, 60 * SECOND, SECOND, HOUR, 2))),
        (
            "retry_config.max_retry_duration",
            QueueSettings(PRESENT.rate_limits, RetryConfig(5, 0, SECOND, 8 * SECOND, 2)),
        ),
    ],
)
def test_a_mask_changes_only_its_field(path: str, expected: QueueSettings) -> None:
    """Fields that the mask names and the message lacks are reset."""
    message = queue(
        rate_limits={"max_dispatches_per_second": 9.0}, retry_config={"max_attempts": 3, "min_backoff": {"seconds": 2}}
    )
    assert update_queue(PRESENT, message, [path]) == expected


@pytest.mark.parametrize(
    "path", ["name", "state", "purge_time", "rate_limits.max_burst_size", "stackdriver_logging_config"]
)
def test_output_only_and_ignored_fields_change_nothing(path: str) -> None:
    assert update_queue(PRESENT, queue(), [path]) == PRESENT


@pytest.mark.parametrize("path", ["nothing", "rate_limits.nothing", "retry_config.nothing", "rate_limits.max_attempts"])
def test_an_unknown_field_in_a_mask_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^update_mask: '{path}' is not a field of a queue$"):
        update_queue(PRESENT, queue(), [path])


@pytest.mark.parametrize("path", ["http_target", "http_target.uri_override", "app_engine_routing_override"])
def test_a_routing_override_in_a_mask_is_refused(path: str) -> None:
    with pytest.raises(UnimplementedError, match=r"^update_mask: "):
        update_queue(PRESENT, queue(), [path])
