"""The deadline of a task: long enough for the longest launch."""

from luci_scheduler.adapters import cloud_tasks
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.engine.runtime import Limits
from luci_scheduler.managers.registry import launch_time


def test_the_longest_launch_fits_into_a_task() -> None:
    """A claim of the longest fetch or sleep ends before Cloud Tasks abandons its delivery."""
    longest = max(
        launch_time(TaskDefinition("url_fetch", {"timeout_sec": 480})),
        launch_time(TaskDefinition("noop", {"sleep_ms": 480_000})),
    )
    assert longest + Limits().claim_lease < cloud_tasks._DISPATCH_DEADLINE * SECOND
