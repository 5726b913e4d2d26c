"""The overviews that pages show: each one checks the permission before it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import InvalidCursorError, NoSuchJobError
from luci_scheduler.api.overviews import (
    MAX_LISTED_PENDING,
    get_job_overview,
    get_project_overview,
    get_project_summaries,
    is_job_unchanged,
)
from luci_scheduler.api.service import get_invocation_log
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.engine.commit import on_commit
from tests.unit.api.support import OWNER, READER, STRANGER, context, world_for
from tests.unit.engine.world import JOB, REPO, World


@pytest.fixture
def world() -> World:
    """A project whose job has a running invocation."""
    world = world_for()
    world.commit()
    world.store.counts.clear()
    return world


@pytest.mark.parametrize(
    "read",
    [
        lambda context, _: get_job_overview(context, JOB),
        lambda context, _: get_job_overview(context, JOB, "bad cursor"),
        lambda context, _: is_job_unchanged(context, JOB, "1.1.1"),
        lambda context, invocation_id: get_invocation_log(context, JOB, invocation_id),
    ],
)
def test_a_caller_without_access_gets_the_error_of_a_missing_job(world: World, read: Callable[..., Any]) -> None:
    """Nothing is read for a caller whom the policy grants nothing."""
    invocation_id = world.invocations()[0].id
    world.store.counts.clear()
    with pytest.raises(NoSuchJobError):
        read(_as(world, STRANGER), invocation_id)
    assert world.store.counts["R"] == 0


def test_a_caller_without_access_gets_no_project_and_costs_no_read(world: World) -> None:
    """A hidden project looks like a missing project."""
    assert get_project_overview(_as(world, STRANGER), "proj") is None
    assert get_project_overview(_as(world, OWNER), "missing") is None
    world.store.counts.clear()
    assert get_project_overview(_as(world, STRANGER), "proj") is None
    assert get_project_summaries(_as(world, STRANGER)) == []
    assert world.store.counts["R"] == 0


def test_a_reader_gets_the_jobs_of_a_project(world: World) -> None:
    """The overview costs a read for the project, three counts, and one read for each job."""
    overview = get_project_overview(_as(world, READER), "proj")
    assert overview is not None
    assert [job.id for job in overview.page.jobs] == ["proj/job", "proj/poller"]
    assert (overview.revision, overview.summary.has_problems, overview.shows_texts) == ("rev1", False, True)
    assert (overview.summary.jobs, overview.summary.counts) == (2, {"failing": 0, "running": 1, "paused": 0})
    assert world.store.counts["R"] == 1 + 3 + 2


def test_only_the_first_page_of_a_job_has_details(world: World) -> None:
    """A later page shows only history, so nothing else is read for it."""
    invocation = world.invocations()[0]
    first = get_job_overview(_as(world, READER), JOB)
    assert first.details is not None
    assert [item.id for item in first.page.invocations] == [invocation.id]
    assert first.unlisted == ()
    assert (first.details.pending, first.details.polled, first.details.poller) == ((), None, None)
    later = get_job_overview(_as(world, READER), JOB, "EAE")
    assert (later.details, later.unlisted) == (None, ())


def test_pending_triggers_are_cut(world: World) -> None:
    """The overview says that there are more."""
    for number in range(MAX_LISTED_PENDING + 1):
        event = CommitEvent(REPO, "refs/heads/main", f"{number:040x}")
        on_commit(world.runtime, event, world.clock.now(), f"commit-{number}")
    details = get_job_overview(_as(world, OWNER), JOB).details
    assert details is not None
    assert (len(details.pending), details.has_more_pending) == (MAX_LISTED_PENDING, True)


def test_a_malformed_cursor_has_a_separate_error_type(world: World) -> None:
    """A page can distinguish it from other internal errors."""
    with pytest.raises(InvalidCursorError, match="internal error"):
        get_job_overview(_as(world, OWNER), JOB, "bad cursor")


def _as(world: World, who: str) -> Context:
    return context(world, who)
