"""Lists of jobs: their reads, the caller's realms, live updates, and what a row says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.identifiers import InvocationId, JobId, make_invocation_id
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Flavor, Job, JobDefinition, Result, TaskDefinition
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.project_record import JOB_LAYOUT, ProjectRecord
from luci_scheduler.ports import CreateInvocation, PutJob, PutPoller, PutProject
from tests.unit.api.support import OWNER, READER, put_job, world_for
from tests.unit.engine.world import REPO, World, config
from tests.unit.web.support import Page, Visitor

_BIG = "big"
_NOOP = TaskDefinition("noop", {})
_PART = "part@example.com"
_POLICY = json.dumps(
    {
        "version": 1,
        "grants": [
            {"project": _BIG, "role": "OWNER", "to": [f"user:{OWNER}"]},
            {"project": "proj", "role": "OWNER", "to": [f"user:{OWNER}"]},
            {"project": _BIG, "realm": "open", "role": "READER", "to": [f"user:{_PART}"]},
            {"project": "proj", "realm": "open", "role": "READER", "to": [f"user:{_PART}"]},
        ],
    }
)


def _result(status: Status = Status.SUCCEEDED, **more: Any) -> Result:
    at = Instant(1_700_000_000 * SECOND)
    return Result(make_invocation_id(at, 1), status, at, Instant(at + 64 * SECOND), **more)


def _job(number: int, **changes: Any) -> Job:
    """Return a job of the big project: every tenth is failing, every fifteenth paused, every other one is secret."""
    definition = JobDefinition(_NOOP, realm="open" if number % 2 else "secret")
    status = Status.FAILED if number % 10 == 1 else Status.SUCCEEDED
    result = _result(status, revisions=(f"{number:040x}",), repo=REPO, ref="refs/heads/main")
    return replace(
        Job(JobId(f"{_BIG}/j{number:04}"), definition, paused=number % 15 == 0, recent=(result,) * 10), **changes
    )


def _big(number: int) -> World:
    """Return a world with a project of this many jobs."""
    world = world_for(access=_POLICY)
    jobs = [_job(place) for place in range(number)]
    record = ProjectRecord(_BIG, "r1", job_ids=tuple(job.id for job in jobs), repos=(REPO,), job_layout=JOB_LAYOUT)
    world.store.commit([*(PutJob(job, None) for job in jobs), PutProject(record, None)])
    return world


def _cost(world: World, path: str, who: str = OWNER) -> int:
    world.store.counts.clear()
    answer = Visitor(world, who).get(path)
    assert answer.status_code in (200, 204)
    return world.store.counts["R"]


def _rows(page: Page) -> list[str]:
    return [" ".join(row.text.split()) for row in page.all("tr")[1:]]


def _names(page: Page) -> list[str]:
    return [row.split()[0] for row in _rows(page)]


@pytest.mark.parametrize("number", [55, 500, 1200])
def test_the_reads_do_not_depend_on_the_number_of_jobs(number: int) -> None:
    """Of the big project: its record, three counts, 51 jobs; a caller with one realm has one more count."""
    world = _big(number)
    assert _cost(world, f"/jobs/{_BIG}") == 1 + 3 + min(51, number)
    if number > 102:  # there are more than 51 jobs in each realm, and a second part
        assert _cost(world, f"/jobs/{_BIG}", _PART) == 1 + 4 + 51
        following = Visitor(world).json(f"/jobs/{_BIG}")["next_cursor"]
        assert _cost(world, f"/jobs/{_BIG}?after={following}") == 1 + 3 + 51
    failing = sum(place % 10 == 1 for place in range(number))
    assert _cost(world, f"/jobs/{_BIG}?filter=failing") == 1 + 3 + min(51, failing)
    assert _cost(world, f"/jobs/{_BIG}?filter=running") == 1 + 3 + 1
    assert _cost(world, "/") == 2 + 2 * 3
    version = Visitor(world).page(f"/jobs/{_BIG}").all("main")[0].attributes["data-version"]
    assert _cost(world, f"/jobs/{_BIG}?seen={version}") == 2


def test_every_job_is_in_one_part() -> None:
    """The parts follow each other: failing jobs first, each by name."""
    visitor = Visitor(_big(130))
    path, names = f"/jobs/{_BIG}", list[str]()
    while path:
        page = visitor.page(path)
        names += _names(page)
        path = next((link.attributes["href"] for link in page.all("a", rel="next")), "")
    numbers = [int(name[1:]) for name in names]
    assert numbers == sorted(range(130), key=lambda place: (place % 10 != 1, place))
    assert "First jobs" in page.text


def test_a_count_ends_at_a_thousand() -> None:
    """The largest count has a plus sign."""
    world = world_for(access=_POLICY)
    jobs = [replace(_job(place), paused=True) for place in range(1001)]
    record = ProjectRecord(_BIG, "r1", job_ids=tuple(job.id for job in jobs), job_layout=JOB_LAYOUT)
    world.store.commit([*(PutJob(job, None) for job in jobs), PutProject(record, None)])
    filters = Visitor(world).page(f"/jobs/{_BIG}").all("nav", **{"aria-label": "Filter"})[0]
    assert "All 1,001" in filters.text
    assert "Paused 1,000+" in filters.text


def test_a_caller_with_one_realm_learns_nothing_about_others() -> None:
    """Rows, counts and live updates are those of the visible jobs; a project without visible jobs does not exist."""
    world = _big(40)
    visitor = Visitor(world, _PART)
    visible = [place for place in range(40) if place % 2]
    page = visitor.page(f"/jobs/{_BIG}")
    assert sorted(int(name[1:]) for name in _names(page)) == visible
    twin = visitor.json(f"/jobs/{_BIG}")
    assert twin["counts"] == {
        "jobs": 20,
        "failing": sum(place % 10 == 1 for place in visible),
        "running": 0,
        "paused": sum(place % 15 == 0 for place in visible),
    }
    assert [item["project"] for item in visitor.json("/")["projects"]] == [_BIG]
    assert visitor.get("/jobs/proj").status_code == 404
    version = page.all("main")[0].attributes["data-version"]
    put_job(world, _job(2, commits=7))  # a secret job
    assert visitor.get(f"/jobs/{_BIG}?seen={version}").status_code == 204
    put_job(world, _job(3, commits=7))
    assert visitor.get(f"/jobs/{_BIG}?seen={version}").status_code == 200


def test_a_page_is_sent_again_only_after_a_change() -> None:
    """A job of the part, the config, and five minutes change the version; a job of another part does not."""
    world = _big(130)
    visitor, path = Visitor(world), f"/jobs/{_BIG}"
    seen = f"{path}?seen={visitor.page(path).all('main')[0].attributes['data-version']}"
    answer = visitor.get(seen)
    assert (answer.status_code, answer.data) == (204, b"")
    put_job(world, _job(128, commits=1))
    assert visitor.get(seen).status_code == 204
    put_job(world, _job(1, commits=1))
    assert visitor.get(seen).status_code == 200
    seen = f"{path}?seen={visitor.page(path).all('main')[0].attributes['data-version']}"
    found = world.store.project(_BIG)
    assert found is not None
    world.store.commit([PutProject(replace(found.value, problems=("bad",), commits=1), found.version)])
    assert visitor.get(seen).status_code == 200
    seen = f"{path}?seen={visitor.page(path).all('main')[0].attributes['data-version']}"
    assert visitor.get(seen).status_code == 204
    world.clock.advance(5 * MINUTE)
    assert visitor.get(seen).status_code == 200
    assert visitor.get(f"{path}?seen=1.2.3").status_code == 200
    assert visitor.get("/jobs/none?seen=1.2.3.x").status_code == 404


def test_the_page_of_a_job_is_sent_again_only_after_a_change() -> None:
    """An idle job costs one read, a running one another for its invocation."""
    world = world_for()
    visitor, path = Visitor(world), "/jobs/proj/job"
    seen = f"{path}?seen={visitor.page(path).all('main')[0].attributes['data-version']}"
    assert visitor.get(seen).status_code == 204
    assert _cost(world, seen) == 1
    world.commit()
    assert visitor.get(seen).status_code == 200
    seen = f"{path}?seen={visitor.page(path).all('main')[0].attributes['data-version']}"
    assert _cost(world, seen) == 2
    world.finish()
    world.notify("n")
    assert visitor.get(seen).status_code == 200
    assert visitor.get("/jobs/proj/none?seen=1.2.3").status_code == 404


def test_projects_with_failures_or_problems_come_first() -> None:
    """The list names failing jobs and problems of a config, also of a project that has no jobs yet."""
    world = _big(20)
    for name, problems in (("aaa", ()), ("bad", ("job 1: no id",))):
        jobs = (JobId(f"{name}/j"),) if not problems else ()
        world.store.commit([PutProject(ProjectRecord(name, job_ids=jobs, problems=problems, job_layout=1), None)])
    world.app = replace(world.app, settings=replace(world.app.settings, access=_everyone()))
    page = Visitor(world, READER).page("/")
    assert _names(page) == ["bad", "big", "aaa", "proj"]
    assert "PROBLEMS" in _rows(page)[0]
    assert page.all("title")[0].text.startswith("2 failing, 1 config problem ")
    assert "The config has problems and is not active" in Visitor(world, READER).page("/jobs/bad").text


def _everyone() -> str:
    return json.dumps({"version": 1, "grants": [{"project": "*", "role": "READER", "to": ["allUsers"]}]})


def test_an_upgrade_in_progress_is_announced() -> None:
    """Until the jobs of an older release are prepared, both pages say that their lists are not complete."""
    world = world_for()
    found = world.store.project("proj")
    assert found is not None
    world.store.commit([PutProject(replace(found.value, job_layout=0), found.version)])
    assert "Some jobs are not listed yet." in Visitor(world).page("/jobs/proj").text
    assert "counts are being prepared" in Visitor(world).page("/").text
    assert Visitor(world).json("/jobs/proj")["complete"] is False


def _past(world: World, number: int, status: Status, **more: Any) -> Invocation:
    job = world.store.job(JobId("proj/job"))
    assert job is not None
    started = Instant(world.clock.now() - number * HOUR)
    invocation = Invocation(
        make_invocation_id(started, number), job.value.id, started, job.value.definition.task, status=status,
        finished=Instant(started + 64 * SECOND), **more,
    )  # fmt: skip
    world.store.commit([CreateInvocation(invocation)])
    return invocation


def test_the_history_of_a_job_has_filters() -> None:
    """A filter has its own parts with bounded reads; the whole history says how many invocations failed."""
    world = world_for()
    failed = [_past(world, number, Status.FAILED) for number in range(1, 61)]
    _past(world, 61, Status.SUCCEEDED)
    aborted = _past(world, 62, Status.ABORTED)
    visitor = Visitor(world)
    assert "(60 failed)" in visitor.page("/jobs/proj/job").text
    page = visitor.page("/jobs/proj/job?result=failed")
    (older,) = page.all("a", rel="next")
    seen = [*_ids(page), *_ids(visitor.page(older.attributes["href"]))]
    assert seen == [str(item.id) for item in failed]
    assert _ids(visitor.page("/jobs/proj/job?result=aborted")) == [str(aborted.id)]
    assert _cost(world, "/jobs/proj/job?result=failed") == 1 + 51 + 1
    assert len(_ids(visitor.page("/jobs/proj/job?result=evil"))) == 50
    assert (
        "No invocation in the store has this result." in Visitor(world_for()).page("/jobs/proj/job?result=failed").text
    )


def _ids(page: Page) -> list[str]:
    return [item.text for item in page.all("a") if item.text.isdigit()]


def test_a_row_says_why_it_failed_and_how_long_it_took() -> None:
    """The reason of a failure is beside its result; durations have two units."""
    world = world_for()
    _past(world, 1, Status.FAILED, summary="2 tests failed\nand more", triggered_by="user:ada@example.com")
    (row,) = _rows(Visitor(world).page("/jobs/proj/job"))
    assert row.startswith("FAILED2 tests failed")
    assert "and more" not in row
    assert "1 min 4 s" in row
    assert "ada@example.com" in row


def test_backfill_and_abort_are_offered_where_they_make_sense() -> None:
    """A job without commits has no backfill, a job without work nothing to abort."""
    world = world_for()
    put_job(world, Job(JobId("proj/alone"), JobDefinition(_NOOP)))
    alone = Visitor(world).page("/jobs/proj/alone")
    assert "Backfill…" not in alone.text
    assert alone.form("/actions/abortJob/proj/alone") is None
    page = Visitor(world).page("/jobs/proj/job")
    (link,) = (item for item in page.all("a") if item.text == "Backfill…")
    assert "ref=refs%2Fheads%2Fmain" in link.attributes["href"]
    assert [item.text for item in page.all("a", href="/jobs/proj/poller")] == ["poller"]
    world.commit()
    busy = Visitor(world).page("/jobs/proj/job")
    assert busy.form("/actions/abortJob/proj/job") is not None


def test_the_number_of_active_invocations_is_that_of_the_list() -> None:
    """The page reads the job first. An invocation that starts after that is in both."""
    world = world_for()
    stale = world.store.job(JobId("proj/job"))
    world.commit()
    job = world.store.job
    world.store.job = lambda job_id: stale if job_id == "proj/job" else job(job_id)  # type: ignore[method-assign]
    page = Visitor(world).page("/jobs/proj/job")
    facts = dict(zip([item.text for item in page.all("dt")], [item.text for item in page.all("dd")], strict=True))
    assert (facts["Active invocations"], facts["State"].strip()) == ("1", "RUNNING")
    assert len(page.all("table")) == 1


def test_a_removed_job_stays_readable() -> None:
    """Its page and invocations say that it was removed and offer no action; the API and lists do not know it."""
    world = world_for()
    past = _past(world, 1, Status.SUCCEEDED)
    found = world.store.job(JobId("proj/job"))
    assert found is not None
    put_job(world, replace(found.value, enabled=False))
    visitor = Visitor(world)
    page = visitor.page("/jobs/proj/job")
    assert "The config does not define this job any more." in page.text
    assert _ids(page) == [str(past.id)]
    assert page.all("form") == []
    assert visitor.get(f"/jobs/proj/job/{past.id}").status_code == 200
    assert "job" not in _names(visitor.page("/jobs/proj"))
    assert visitor.json("/jobs/proj/job")["enabled"] is False
    assert Visitor(world, "nobody@example.com").get("/jobs/proj/job").status_code == 404


def _poller(world: World, **changes: Any) -> str:
    found = world.store.job(JobId("proj/poller"))
    assert found is not None
    job = replace(found.value, **changes)
    put_job(world, job)
    return Visitor(world).page("/jobs/proj/poller").text


def test_a_poller_says_what_its_next_poll_will_see() -> None:
    """When the next poll is, and from where on it sees commits."""
    world = world_for()
    assert "No poll is planned. The job polls when a trigger starts it. The first poll sees" in _poller(world)
    world.store.commit([PutPoller(PollerRecord(JobId("proj/poller"), REPO, {"refs/heads/main": "a" * 40}), None)])
    found = world.store.job(JobId("proj/poller"))
    assert found is not None
    soon = replace(found.value.cron, last_tick_when=Instant(world.clock.now() + 90 * SECOND))
    text = _poller(world, cron=soon)
    assert "The next poll is in 1 min 30 s, at " in text
    assert "It sees each commit on refs/heads/main after aaaaaaaaaaaa." in text
    assert "The job is paused, so it does not poll." in _poller(world, paused=True)


def test_a_failed_poll_is_linked_with_its_reason() -> None:
    """The notice names the reason and leads to the log; the poller is among the failing jobs."""
    world = world_for()
    now = world.clock.now()
    found = world.store.job(JobId("proj/poller"))
    assert found is not None
    failed = Invocation(
        InvocationId(1 << 40), found.value.id, now, found.value.definition.task, status=Status.FAILED, finished=now,
        summary="the refs could not be listed: 502",
    )  # fmt: skip
    world.store.commit([CreateInvocation(failed)])
    text = _poller(world, failed_polls=2)
    assert "The last poll failed. Its log has the details." in text
    assert "the refs could not be listed: 502" in text
    assert Visitor(world).page("/jobs/proj/poller").all("a", href=f"/jobs/proj/poller/{failed.id}")
    assert _names(Visitor(world).page("/jobs/proj?filter=failing")) == ["poller"]
    assert Visitor(world).json("/jobs/proj/poller")["poller"]["last_failure"] == failed.summary


@pytest.mark.parametrize(
    ("statuses", "failing"),
    [
        ((), False),
        ((Status.FAILED, Status.SUCCEEDED), True),
        ((Status.SUCCEEDED, Status.FAILED), False),
        ((Status.ABORTED, Status.FAILED), True),
        ((Status.ABORTED, Status.SUCCEEDED), False),
        ((Status.OVERRUN,), True),
    ],
)
def test_a_job_is_failing_by_its_last_verdict(statuses: tuple[Status, ...], failing: bool) -> None:
    """An aborted invocation is no verdict; the one before it decides."""
    job = Job(JobId("p/j"), JobDefinition(_NOOP), recent=tuple(map(_result, statuses)))
    assert job.is_failing is failing
    assert job.place == ("0j" if failing else "1j")
    poller = replace(job, definition=JobDefinition(_NOOP, flavor=Flavor.TRIGGER), failed_polls=1)
    assert (poller.is_failing, replace(poller, failed_polls=0).place) == (True, "2j")
    assert replace(job, enabled=False).place == ""


def test_a_backfill_of_a_generated_config() -> None:
    """The form has the ref that the poller's pattern names."""
    world = world_for(config().replace('"refs/heads/main"', '"regexp:refs/heads/main"'))
    (link,) = [item for item in Visitor(world).page("/jobs/proj/job").all("a") if item.text == "Backfill…"]
    assert "ref=refs%2Fheads%2Fmain" in link.attributes["href"]
