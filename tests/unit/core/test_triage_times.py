"""The time of a requested triage, to the nanosecond."""

import pytest

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.triage_throttle import triage_kick

JOB = JobId("p/j")
BOUNDARY = Instant(1_600_000_000 * SECOND)


@pytest.mark.parametrize(
    ("after", "wait"), [(0, 2 * SECOND), (1, 2 * SECOND - 1), (2 * SECOND - 1, 1), (2 * SECOND, 2 * SECOND)]
)
def test_triage_is_always_later_than_its_request(after: int, wait: int) -> None:
    """At a boundary, the next one counts: a task at once could run before the commit that records the request."""
    now = Instant(BOUNDARY + after)
    assert triage_kick(JOB, now)[0] - now == wait


def test_requests_of_two_seconds_share_a_task() -> None:
    """Ten requests at once are one triage; a later request, and another job, have separate tasks."""
    names = [triage_kick(JOB, Instant(BOUNDARY + offset))[1] for offset in (0, 1, 2 * SECOND - 1)]
    assert len(set(names)) == 1
    assert triage_kick(JOB, Instant(BOUNDARY + 2 * SECOND))[1] not in names
    assert triage_kick(JobId("p/k"), BOUNDARY)[1] not in names
