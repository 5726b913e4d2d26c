"""Changes of a job that request a triage of the triggers that wait."""

from dataclasses import replace

import pytest

from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.job_changes import JobChange, defined, paused, removed, resumed

NOW = Instant(1_600_000_000 * SECOND)
BEFORE = JobDefinition(TaskDefinition("noop"), revision="1")
JOB = Job(JobId("p/j"), BEFORE, enabled=True)


def _due(change: JobChange | None) -> Instant | None:
    assert change is not None
    return change.job.triage_due


@pytest.mark.parametrize(
    ("definition", "due"),
    [
        (replace(BEFORE, revision="2", policy=TriggeringPolicy("NEWEST_FIRST")), NOW),
        (replace(BEFORE, revision="2", policy=TriggeringPolicy(max_concurrent_invocations=2)), NOW),
        (replace(BEFORE, revision="2", task=TaskDefinition("noop", {"sleep_ms": 1})), None),
    ],
)
def test_new_policy_decides_at_once(definition: JobDefinition, due: Instant | None) -> None:
    """It may start or discard what the old one kept. Other changes wait for the next trigger."""
    assert _due(defined(JOB, JOB.id, definition, NOW, lambda: 1)) == due


def test_job_that_takes_no_triggers_discards_those_that_wait() -> None:
    """A resumed job has none."""
    assert _due(removed(JOB, NOW)) == NOW
    stopped = paused(JOB, "user:a@example.com", "", NOW, lambda: 1)
    assert _due(stopped) == NOW
    assert stopped is not None
    assert _due(resumed(replace(stopped.job, triage_due=None), "user:a@example.com", "", NOW, lambda: 2)) is None
