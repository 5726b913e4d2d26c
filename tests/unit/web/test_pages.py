"""The pages: states including empty ones, filters, paging, pollers, errors, and JSON twins."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.logs import configure_logging
from luci_scheduler.ports import CreateInvocation, PutPoller, PutProject
from luci_scheduler.web.addresses import address
from tests.unit.api.support import OWNER, READER, STRANGER, put_job, world_for
from tests.unit.engine.world import REPO, World, config
from tests.unit.web.support import Page, Visitor

POLLER = JobId("proj/poller")


def _rows(page: Page) -> list[str]:
    return [" ".join(row.text.split()) for row in page.all("tr")[1:]]


def test_a_user_without_any_job() -> None:
    """A user who may see nothing reads how to get access; the JSON twin is an empty list."""
    page = Visitor(world_for(), STRANGER).page("/")
    assert "There are no jobs that you have permission to see." in page.text
    assert Visitor(world_for(), STRANGER).json("/") == {"projects": []}
    assert Visitor(world_for(), STRANGER).get("/jobs/proj").status_code == 404


def test_counts_lead_to_the_jobs_that_are_counted() -> None:
    """The counts are those of all, failing, running and paused jobs; an unknown filter is ignored."""
    world = world_for(config(("job", "other", "third")))
    world.commit()
    third = world.store.job(JobId("proj/third"))
    assert third is not None
    put_job(world, replace(third.value, paused=True, active_invocations=()))
    page = Visitor(world).page("/")
    cells = [" ".join(cell.text.split()) for cell in page.all("td")]
    assert cells == ["4 jobs in proj", "0", "2 running in proj", "1 paused in proj", "active"]
    links = [item.attributes["href"] for item in page.all("a") if "filter=" in item.attributes["href"]]
    listed = [[row.split()[0] for row in _rows(Visitor(world).page(link))] for link in links]
    assert listed == [["job", "other"], ["third"]]
    assert [row.split()[0] for row in _rows(Visitor(world).page("/jobs/proj?filter=waiting"))] == ["poller"]
    assert len(_rows(Visitor(world).page("/jobs/proj?filter=burning"))) == 4
    assert "No job of this project is scheduled." in Visitor(world).page("/jobs/proj?filter=scheduled").text


def test_failing_jobs_come_first_and_jobs_that_poll_last() -> None:
    """Each row has the job's last result with its commit and its cause; a job without an end has none."""
    world = world_for(config(("job", "zoo")))
    world.commit()
    builds = world.buildbucket.builds.items()
    build = next(identifier for identifier, item in builds if item["builder"]["builder"] == "zoo")
    world.finish("FAILURE", build)
    world.notify("n1", build)
    page = Visitor(world).page("/jobs/proj")
    rows = _rows(page)
    assert [row.split()[0] for row in rows] == ["zoo", "job", "poller"]
    assert rows[0].startswith("zoo WAITING FAILEDFAILEDnow · 1 s aaaaaaaa commit triggered")
    assert "no result yet" in rows[1]
    assert page.all("title")[0].text.startswith("1 failing ")
    (link,) = (item for item in page.all("a") if item.text == "aaaaaaaa")
    commit = {"repo": REPO, "revision": "a" * 40, "ref": "refs/heads/main"}
    assert link.attributes["href"] == address("commits", **commit)
    twin = Visitor(world).json("/jobs/proj")
    assert [len(job["results"]) for job in twin["jobs"]] == [1, 0, 0]
    result = twin["jobs"][0]["results"][0]
    assert (result["status"], result["cause"], result["commit"]["revision"]) == (
        "FAILED", {"kind": "commit", "by": None}, "a" * 40,
    )  # fmt: skip
    assert Visitor(world).json("/")["projects"][0]["failing"] == 1
    assert [row.split()[0] for row in _rows(Visitor(world).page("/jobs/proj?filter=failing"))] == ["zoo"]


def test_a_config_with_problems_has_a_notice() -> None:
    """The notice names the active revision."""
    world = world_for()
    found = world.store.project("proj")
    assert found is not None
    world.store.commit([PutProject(replace(found.value, problems=("job 2: no id",)), found.version)])
    page = Visitor(world).page("/jobs/proj")
    assert "A newer config has problems and is not active" in page.text
    assert "job 2: no id" in page.text
    assert "Config revision rev1" in page.text
    assert "The last valid config, revision rev1, stays active" in page.text
    assert page.all("details") == []


def test_warnings_of_a_config_are_listed() -> None:
    """Warnings are folded, with their total number; the config is active, and the twin separates them from problems."""
    world = world_for()
    found = world.store.project("proj")
    assert found is not None
    warned = replace(found.value, warnings=('f:3: warning: job "a": old', "and 7 more"), warning_count=8)
    world.store.commit([PutProject(warned, found.version)])
    page = Visitor(world).page("/jobs/proj")
    (folded,) = page.all("details")
    assert "open" not in folded.attributes
    assert "8 warnings about the active config" in folded.text
    assert all(text in folded.text for text in warned.warnings)
    assert "is not in force" not in page.text
    twin = Visitor(world).json("/jobs/proj")
    assert (twin["problems"], twin["warnings"], twin["warning_count"]) == ([], list(warned.warnings), 8)


_ONE_REALM = json.dumps(
    {"version": 1, "grants": [{"project": "proj", "realm": "ci", "role": "OWNER", "to": [f"user:{OWNER}"]}]}
)


def test_texts_that_quote_the_config_need_full_visibility() -> None:
    """The page says only that problems and warnings exist, and whom to ask, because they may quote hidden jobs."""
    world = world_for(config(("job", "covert")), access=_ONE_REALM)
    _move_to_realm(world, JobId("proj/job"))
    found = world.store.project("proj")
    assert found is not None
    texts = {"problems": ('job "covert": secret text',), "warnings": ('job "covert": old',), "warning_count": 1}
    world.store.commit([PutProject(replace(found.value, **texts), found.version)])
    visitor = Visitor(world)
    page = visitor.page("/jobs/proj")
    assert "A newer config has problems and is not active" in page.text
    assert "1 warning about the active config" in page.text
    assert page.text.count("Ask a project owner or an administrator") == 2
    twin = visitor.json("/jobs/proj")
    assert (twin["has_problems"], twin["problems"], twin["warnings"], twin["warning_count"]) == (True, [], [], 1)
    assert "covert" not in visitor.get("/jobs/proj").text + str(twin)


def test_a_job_names_no_hidden_jobs_that_it_triggers() -> None:
    """The page lists only visible jobs; a caller who sees the whole project gets all of them, without another read."""
    for access, names in (({"access": _ONE_REALM}, ["proj/job"]), ({}, ["proj/covert", "proj/job"])):
        world = world_for(config(("job", "covert")), **access)
        for job_id in (POLLER, JobId("proj/job")):
            _move_to_realm(world, job_id)
        page = Visitor(world).page("/jobs/proj/poller")
        links = [link.text for link in page.all("a") if link.attributes["href"].startswith("/jobs/proj/")]
        assert [name for name in links if name in ("proj/job", "proj/covert")] == names


def _move_to_realm(world: World, job_id: JobId) -> None:
    found = world.store.job(job_id)
    assert found is not None
    put_job(world, replace(found.value, definition=replace(found.value.definition, realm="ci")))


def test_a_job_that_never_ran() -> None:
    """Each empty section has a sentence about that."""
    page = Visitor(world_for()).page("/jobs/proj/job")
    for words in (
        "No triggers are pending.",
        "No invocations are running.",
        "No invocation has finished yet.",
        "There has been no triage yet.",
    ):
        assert words in page.text
    assert page.all("figure") == []
    assert [item.text for item in page.all("pre")] == [
        'buildbucket: <\n  server: "cr-buildbucket.appspot.com"\n  bucket: "ci"\n  builder: "job"\n>',
        "kind: GREEDY_BATCHING\nmax_concurrent_invocations: 1\nmax_batch_size: 1000",
    ]


def test_a_reader_sees_why_there_are_no_actions() -> None:
    """The page says so instead of offering buttons that would be refused."""
    world = world_for()
    world.commit()
    identifier = world.invocations()[0].id
    visitor = Visitor(world, READER)
    assert "You can see this job, but you have no permission to act on it." in visitor.page("/jobs/proj/job").text
    page = visitor.page(f"/jobs/proj/job/{identifier}")
    assert "You can see this invocation, but you have no permission to act on it." in page.text
    assert Visitor(world, READER).get("/backfill/proj/job").status_code == 403


def test_a_running_and_a_finished_invocation() -> None:
    """Screen readers announce new lines of the log until it is complete."""
    world = world_for()
    world.commit()
    path = f"/jobs/proj/job/{world.invocations()[0].id}"
    page = Visitor(world).page(path)
    assert page.all("pre", id="live-log")[0].attributes["aria-live"] == "polite"
    assert "The invocation is running; new lines appear automatically." in page.text
    assert page.all("noscript")[0].inside[0].tag == "a"
    world.finish()
    world.notify("n1")
    page = Visitor(world).page(path)
    assert page.all("pre", id="live-log")[0].attributes["aria-live"] == "off"
    assert "The log is complete." in page.text
    assert page.all("div", id="live-facts")[0].attributes["data-final"] == ""


def _poll(world: World, status: Status, **more: Any) -> Page:
    job = world.store.job(POLLER)
    assert job is not None
    put_job(world, replace(job.value, last_poll=Instant(world.clock.now() - 5 * MINUTE)))
    started = Instant(world.clock.now() - MINUTE)
    invocation = Invocation(
        1 << 40, POLLER, started, job.value.definition.task, status=status, finished=Instant(started + MINUTE), **more
    )
    world.store.commit([CreateInvocation(invocation)])
    return Visitor(world).page("/jobs/proj/poller")


@pytest.mark.parametrize(
    ("status", "words"), [(Status.FAILED, "The last poll failed"), (Status.SUCCEEDED, "The last poll succeeded.")]
)
def test_the_health_of_a_poller(status: Status, words: str) -> None:
    """The page shows the last poll, its result and the known refs; a job that polls has no backfill."""
    world = world_for()
    assert "The job has not polled yet." in Visitor(world).page("/jobs/proj/poller").text
    world.store.commit([PutPoller(PollerRecord(POLLER, REPO, {"refs/heads/main": "a" * 40}), None)])
    page = _poll(world, status)
    assert words in page.text
    assert "2026-03-01 12:00:00 UTC (now)" in page.text
    assert "refs/heads/main" in page.text
    assert not any("/backfill/" in link.attributes["href"] for link in page.all("a"))
    assert Visitor(world).json("/jobs/proj/poller")["poller"]["known"] == {"refs/heads/main": "a" * 40}


NO_REVISION = "must be a hash, a branch, a tag or HEAD, perhaps followed by ~N or ^N"


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/jobs/proj/none", 404, "No such job or no permission to view it."),
        ("/jobs/proj/job/seven", 400, "Malformed invocation ID."),
        ("/jobs/proj/job/99999999999999999999", 400, "Malformed invocation ID."),
        ("/jobs/proj/job/7", 404, "The requested invocation is not found."),
        ("/jobs/proj/job?c=zzz", 400, "Malformed cursor."),
        ("/nowhere", 404, "There is no such page."),
        ("/commits?repo=x&revision=y..z", 400, f"revision {NO_REVISION}"),
        ("/backfill/proj/job?from=a..b&to=b", 400, f"from_revision {NO_REVISION}"),
    ],
)
def test_errors_have_the_originals_texts(path: str, code: int, words: str) -> None:
    """Errors have the original's texts if the original has any, as a page and as JSON."""
    visitor = Visitor(world_for())
    answer = visitor.get(path)
    assert answer.status_code == code
    assert words in Page(answer.text).text
    twin = visitor.get(f"{path}{'&' if '?' in path else '?'}format=json")
    assert (twin.status_code, twin.json["error"]) == (code, words)


def test_without_a_policy_the_pages_give_the_reason() -> None:
    """Every caller gets the error on every page."""
    answer = Visitor(world_for(access="")).get("/")
    assert answer.status_code == 403
    assert "set SCHEDULER_ACCESS" in answer.text


def test_a_store_that_does_not_answer() -> None:
    """The page says that a reload will probably help, and does not reveal the cause."""
    world = world_for()

    def fail(_: Any) -> Any:
        raise TransientError("secret detail")

    world.store.job = fail  # type: ignore[method-assign]
    answer = Visitor(world).get("/jobs/proj/job")
    assert answer.status_code == 500
    assert "The page is temporarily unavailable." in answer.text
    assert "secret" not in answer.text


def test_history_is_paged() -> None:
    """Each invocation is on one page; later pages show only history."""
    world = world_for()
    world.commit()
    newest = world.invocations()[0]
    for place in range(1, 71):
        past = replace(
            newest, id=newest.id + (place << 20), status=Status.SUCCEEDED, finished=newest.started, next_due=None
        )
        world.store.commit([CreateInvocation(past)])
    visitor = Visitor(world)
    first = visitor.page("/jobs/proj/job")
    (older,) = first.all("a", rel="next")
    second = visitor.page(older.attributes["href"])
    seen = [
        link.text for page in (first, second) for link in page.all("a") if link.text.isdigit() and len(link.text) > 10
    ]
    assert len(seen) == len(set(seen)) == 71
    assert "Triggering policy" not in second.text
    assert second.all("a", rel="next") == []


def test_the_page_of_a_commit() -> None:
    """The page has the result and the invocation for each job; without a commit, it has the form."""
    world = world_for()
    world.commit()
    visitor = Visitor(world)
    assert len(visitor.page("/commits").all("input")) == 3
    path = f"/commits?repo={REPO}&revision={'A' * 40}&ref=refs/heads/main"
    page = visitor.page(path)
    assert "1 running." in page.text
    assert visitor.json(path)["jobs"][0]["reason"] == "INVOCATION"
    assert page.all("a", href=f"/jobs/proj/job/{world.invocations()[0].id}")
    assert "No job that you can see watches" in Visitor(world, STRANGER).page(path).text


def test_the_caller_is_named() -> None:
    """The link is in the head of every page."""
    world = world_for()
    assert OWNER in Visitor(world).page("/").all("header")[0].text


@pytest.fixture(name="json_log")
def _json_log() -> Iterator[io.StringIO]:
    """The log as deployed. The tracebacks of structlog's default show each variable, which takes seconds."""
    file = io.StringIO()
    configure_logging(file=file)
    yield file
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("field"), "Internal error."),
        (ZeroDivisionError(), "Internal error."),
        (PermanentError("refused"), "The page is temporarily unavailable."),
    ],
)
def test_a_defect_is_a_page_with_its_headers(error: Exception, text: str, json_log: io.StringIO) -> None:
    """A page, its twin and an action answer 500 without revealing the cause, and write a line to the log."""
    world = world_for()
    visitor = Visitor(world)
    form = visitor.page("/jobs/proj/job").form("/actions/triggerJob/proj/job")
    assert form is not None

    def fail(_: Any) -> Any:
        raise error

    world.store.job = fail  # type: ignore[method-assign]
    answers = [visitor.get("/jobs/proj/job"), visitor.post("/actions/triggerJob/proj/job", form)]
    for answer in answers:
        assert answer.status_code == 500
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert text in answer.text
    twin = visitor.get("/jobs/proj/job?format=json")
    assert (twin.status_code, twin.is_json) == (500, True)
    assert "page_f" in json_log.getvalue()
