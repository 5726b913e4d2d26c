"""Builders and buckets: existence, access and build numbers."""

import pytest

from emulator.buildbucket.builders import BuilderConfig, Registry
from emulator.buildbucket.identifiers import BuilderId
from luci_scheduler.core.instants import HOUR, SECOND

BUILDER = BuilderId("p", "ci", "linux")
OTHER = BuilderId("p", "try", "linux")
CALLER = "project:p"


def test_an_unregistered_builder_has_the_default_settings() -> None:
    config = Registry().find(BUILDER)
    assert config is not None
    assert (config.scheduling_timeout, config.execution_timeout, config.grace_period) == (
        6 * HOUR,
        3 * HOUR,
        30 * SECOND,
    )


def test_in_strict_mode_only_registered_builders_and_their_buckets_exist() -> None:
    registry = Registry(strict=True)
    registry.add(BUILDER)
    assert registry.find(BUILDER) is not None
    assert registry.find(OTHER) is None
    assert (registry.bucket_exists("p/ci"), registry.bucket_exists("p/try")) == (True, False)
    assert not registry.may_read("p/try", CALLER)


def test_registering_again_replaces_the_settings() -> None:
    registry = Registry()
    registry.add(BUILDER, BuilderConfig(priority=10))
    registry.add(BUILDER, BuilderConfig(priority=20))
    assert registry.find(BUILDER) == BuilderConfig(priority=20)


def test_build_numbers_count_up_per_builder() -> None:
    registry = Registry()
    registry.add(BUILDER, BuilderConfig(next_number=7))
    registry.add(OTHER, BuilderConfig(next_number=1))
    assert [registry.take_number(BUILDER), registry.take_number(BUILDER), registry.take_number(OTHER)] == [7, 8, 1]


@pytest.mark.parametrize("config", [None, BuilderConfig()])
def test_builds_have_no_numbers_by_default(config: BuilderConfig | None) -> None:
    registry = Registry()
    if config is not None:
        registry.add(BUILDER, config)
    assert registry.take_number(BUILDER) is None


@pytest.mark.parametrize(
    ("visible", "caller", "reads", "writes"),
    [
        (False, CALLER, True, True),
        (False, "user:a@b", False, False),
        (True, "user:a@b", True, False),
    ],
)
def test_a_closed_bucket_is_open_to_its_callers(caller: str, *, visible: bool, reads: bool, writes: bool) -> None:
    registry = Registry()
    registry.close_bucket("p/ci", visible=visible, allowed=frozenset({CALLER}))
    assert (registry.may_read("p/ci", caller), registry.may_write("p/ci", caller)) == (reads, writes)
    assert registry.may_write("p/try", caller)
    registry.open_bucket("p/ci")
    assert (registry.may_read("p/ci", caller), registry.may_write("p/ci", caller)) == (True, True)
