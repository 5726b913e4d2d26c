"""The flags ``triggers_wait`` and ``triage_due``: their transitions, and the only module that writes them."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import luci_scheduler
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.triage import after_triage, end_request, needs_triage, request_triage, with_pending

NOW = Instant(1_600_000_000 * SECOND)
EARLIER = Instant(NOW - SECOND)
IDLE = Job(JobId("p/j"), JobDefinition(TaskDefinition("noop"), policy=TriggeringPolicy()))
BUSY = replace(IDLE, active_invocations=(InvocationId(1),))
PAUSED = replace(BUSY, paused=True)


def _after(
    job: Job, *, read: bool = False, left: bool = False, resolved: bool = False, end: bool = False
) -> tuple[bool, Instant | None, bool]:
    """Return ``triggers_wait`` and ``triage_due`` after a triage, and whether a recheck must follow."""
    changed, rechecks = after_triage(job, has_read=read, is_left=left, has_resolved=resolved, is_end=end, now=NOW)
    return changed.triggers_wait, changed.triage_due, rechecks


@pytest.mark.parametrize("job", [IDLE, BUSY, PAUSED])
@pytest.mark.parametrize("was_set", [False, True])
def test_only_an_end_that_read_nothing_clears_the_flag(job: Job, *, was_set: bool) -> None:
    """An end clears it if its query found nothing. Any other triage keeps it, and sets it for triggers that stay."""
    job = replace(job, triggers_wait=was_set)
    assert not _after(job, end=True)[0]
    assert _after(job, read=True, end=True)[0]
    assert _after(job)[0] == was_set
    assert _after(job, read=True)[0]
    assert _after(job, left=True)[0]


def test_an_end_that_leaves_a_slot_free_requests_a_recheck() -> None:
    """A trigger recorded between the query and the commit relies on it, also if the triage only discarded."""
    assert _after(IDLE, end=True) == (False, NOW, True)
    assert _after(IDLE, read=True, resolved=True, end=True) == (True, NOW, True)


def test_a_filled_slot_needs_no_recheck() -> None:
    """The end of the new invocation queries the pending triggers."""
    assert _after(BUSY, read=True, resolved=True, end=True) == (True, None, False)


def test_a_standing_request_serves_as_the_recheck() -> None:
    """The sweep already finds the job, so the end keeps the earlier request."""
    assert _after(replace(IDLE, triage_due=EARLIER), end=True) == (False, EARLIER, False)


@pytest.mark.parametrize("end", [False, True])
def test_triggers_that_can_still_be_resolved_request_another_triage(*, end: bool) -> None:
    """A free slot or a paused job can resolve more. A full job waits for an end. An idle triage is not repeated."""
    assert _after(IDLE, read=True, left=True, resolved=True, end=end) == (True, NOW, False)
    assert _after(PAUSED, read=True, left=True, resolved=True, end=end) == (True, NOW, False)
    assert _after(BUSY, read=True, left=True, resolved=True, end=end) == (True, None, False)
    assert _after(IDLE, read=True, left=True) == (True, None, False)


def test_a_job_needs_a_triage_if_it_is_requested_or_can_resolve_triggers() -> None:
    """A pending trigger without the flag also needs one, which sets the flag."""
    assert needs_triage(request_triage(BUSY, NOW), has_pending=False)
    assert needs_triage(IDLE, has_pending=True)
    assert needs_triage(BUSY, has_pending=True)
    assert not needs_triage(with_pending(BUSY), has_pending=True)
    assert not needs_triage(with_pending(IDLE), has_pending=False)
    assert end_request(request_triage(IDLE, NOW)) == IDLE


def test_one_module_writes_the_flags() -> None:
    """Other modules call its functions. The codec reads the fields by their names, without keywords."""
    root, flags = Path(luci_scheduler.__file__).parent, ("triggers_wait", "triage_due")
    sources = {path: path.read_text() for path in root.rglob("*.py")}
    writers = {
        str(path.relative_to(root))
        for path, source in sources.items()
        if any(flag in source for flag in flags)  # parsing takes most of the time
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.keyword) and node.arg in flags
    }
    assert writers == {"core/triage.py"}
