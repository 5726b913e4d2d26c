"""Results: each job's document keeps its latest ends. The commit that records an end writes the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.adapters import documents
from luci_scheduler.api.causes import commit_of, result_commit
from luci_scheduler.core.errors import StoreConflictError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Invocation, Status, result_of
from luci_scheduler.core.job import MAX_RECENT, MAX_RESULT_REVISIONS, Job, Result
from luci_scheduler.core.trigger import PayloadKind
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.jobs import pause_job
from luci_scheduler.ports import BuildbucketError, GitilesError
from tests.unit.engine.stub import made
from tests.unit.engine.world import JOB, REPO, World, config

_POLLER = JobId("proj/poller")
_POLLED = f"""
trigger {{ id: "poller" schedule: "with 10m interval" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }} }}
"""
_REFUSED = BuildbucketError("PERMISSION_DENIED", "no", transient=False)
_DOWN = BuildbucketError("UNAVAILABLE", "no", transient=True)


def _job(world: World, job_id: JobId = JOB) -> Job:
    with world.uncounted():
        found = world.store.job(job_id)
    assert found is not None
    return found.value


def _document(world: World, job_id: JobId = JOB) -> dict[str, Any]:
    return world.store._documents["jobs", job_id].document


def _ends(world: World) -> None:
    world.commit()
    world.finish()
    world.notify("n")


def _fails(world: World) -> None:
    world.commit()
    world.finish("FAILURE")
    world.notify("n")


def _is_refused(world: World) -> None:
    world.buildbucket.faults = [_REFUSED]
    world.commit()


def _is_aborted(world: World) -> None:
    world.commit()
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "abort")


def _is_aborted_before_its_build(world: World) -> None:
    world.buildbucket.faults = [_DOWN]
    world.commit()
    world.buildbucket.faults = [_DOWN] * 9
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, "user:a@example.com", "abort")
    world.buildbucket.faults = []
    world.tick(10)


def _runs_out_of_attempts(world: World) -> None:
    world.runtime = replace(world.runtime, limits=replace(world.runtime.limits, max_attempts=1))
    world.buildbucket.faults = [_DOWN] * 9
    world.commit()


@pytest.mark.parametrize(
    ("live", "status"),
    [
        (_ends, Status.SUCCEEDED),
        (_fails, Status.FAILED),
        (_is_refused, Status.FAILED),
        (_is_aborted, Status.ABORTED),
        (_is_aborted_before_its_build, Status.ABORTED),
        (_runs_out_of_attempts, Status.FAILED),
    ],
)
def test_every_end_leaves_a_result(live: Callable[[World], None], status: Status) -> None:
    """With or without a build, the commit of the end writes the result and the fields that lists query."""
    world = World()
    assert (_job(world).recent, _document(world)["place"]) == ((), "1job")
    live(world)
    (invocation,) = world.invocations()
    assert invocation.finished is not None
    (result,) = _job(world).recent
    assert result == Result(
        invocation.id, status, invocation.started, invocation.finished,
        revisions=("a" * 40,), repo=REPO, ref="refs/heads/main", view_url=invocation.view_url,
        summary=invocation.summary.partition("\n")[0], commit_count=1,
    )  # fmt: skip
    document = _document(world)
    assert {name: document[name] for name in ("project", "realm", "state", "place", "triggers")} == {
        "project": "proj", "realm": "@legacy", "state": "WAITING", "triggers": [],
        "place": "0job" if status is Status.FAILED else "1job",
    }  # fmt: skip


def test_the_queried_fields_follow_the_job() -> None:
    """The state is that of the pages, a job that polls comes last, and its jobs are named."""
    world = World()
    world.commit()
    assert _document(world)["state"] == "RUNNING"
    world.finish()
    world.notify("n")
    pause_job(world.runtime, JOB, "user:a@example.com", "why", "k")
    assert _document(world)["state"] == "PAUSED"
    poller = _document(world, JobId("proj/poller"))
    assert (poller["place"], poller["triggers"]) == ("2poller", ["proj/job"])


def test_a_job_keeps_its_latest_results() -> None:
    """The newest end comes first, and the oldest results are dropped."""
    world = World()
    for number in range(MAX_RECENT + 2):
        world.commit(f"{number:x}", f"m{number}")
        world.finish("FAILURE" if number % 2 else "SUCCESS")
        world.notify(f"n{number}")
    job = _job(world)
    assert [result.invocation_id for result in job.recent] == [item.id for item in world.invocations()[:MAX_RECENT]]
    assert [result.revisions[0][0] for result in job.recent] == list("ba98765432")
    assert job.is_failing


def test_an_end_that_landed_without_an_answer_is_one_result() -> None:
    """The store's client repeats a commit whose answer was lost: the handler recognizes its own commit."""
    world, commit = World(), None
    world.commit()
    world.finish()
    commit = world.store.commit

    def landed(writes: Any) -> Any:
        commit(writes)
        raise StoreConflictError("the commit landed; this is the answer to the client's second try")

    world.store.commit = landed  # type: ignore[method-assign]
    world.notify("n")
    assert [result.status for result in _job(world).recent] == [Status.SUCCEEDED]
    world.store.commit = commit  # type: ignore[method-assign]
    world.notify("n2")
    assert [result.status for result in _job(world).recent] == [Status.SUCCEEDED]


def test_a_changed_job_is_read_again() -> None:
    """A pause between the read of the job and the commit of the end: the second attempt writes the result once."""
    world = World()
    world.commit()
    world.finish()

    def pause(_: list[Any]) -> None:
        world.store.before_commit = None
        pause_job(world.runtime, JOB, "user:a@example.com", "why", "k")

    world.store.before_commit = pause
    world.notify("n")
    assert [result.status for result in _job(world).recent] == [Status.SUCCEEDED]
    assert _job(world).paused


def test_a_poll_without_an_invocation_leaves_no_result() -> None:
    """A failed poll leaves one; after a quiet poll the job is no longer failing."""
    gitiles = MemoryGitiles()
    gitiles.push("refs/heads/main")

    def refuse(*_: Any) -> None:
        raise GitilesError("PERMISSION_DENIED", "no", transient=False)

    gitiles.before_call = refuse
    world = World(_POLLED, gitiles)
    world.tick(600)
    assert [result.status for result in _job(world, _POLLER).recent] == [Status.FAILED]
    assert _document(world, _POLLER)["place"].startswith("0")
    gitiles.before_call = lambda *_: None
    for _ in range(3):
        world.tick(600)
    job = _job(world, _POLLER)
    assert job.last_poll is not None
    assert Status.FAILED in [result.status for result in job.recent]
    assert (job.is_failing, _document(world, _POLLER)["place"][0]) == (False, "2")


def _ended(**changes: Any) -> Invocation:
    world = World()
    _ends(world)
    return replace(world.invocations()[0], **changes)


def test_a_batch_names_its_newest_commits() -> None:
    """Each commit once, newest first, for any order of the triggers; other triggers count for nothing."""
    payloads = [{"repo": REPO, "ref": f"refs/heads/{n}", "revision": f"{n:040x}"} for n in range(20)]
    triggers = [
        replace(made(f"t{n}"), created=n * SECOND, kind=PayloadKind.GITILES, payload=payload)
        for n, payload in enumerate([*payloads, payloads[19]])
    ]
    manual = replace(made("webui"), created=MINUTE, kind=PayloadKind.WEBUI)
    result = result_of(_ended(incoming_triggers=(manual, *reversed(triggers))))
    assert result.revisions == tuple(f"{n:040x}" for n in range(19, 19 - MAX_RESULT_REVISIONS, -1))
    assert (result.repo, result.ref) == (REPO, "refs/heads/19")
    # A list shows the same number of commits, whether it reads the result or the invocation.
    assert commit_of(_ended(incoming_triggers=(manual, *triggers))) == result_commit(result)
    assert (result.commit_count, result_commit(result).others) == (20, 19)  # type: ignore[union-attr]


def test_long_texts_of_a_caller_stay_out() -> None:
    """The API takes triggers with any text: ten results must fit into the document of a job."""
    payload = {"repo": "r" * 90_000, "ref": 5, "revision": "\N{GRINNING FACE}" * 501}
    trigger = replace(made("t"), kind=PayloadKind.GITILES, payload=payload)
    result = result_of(_ended(incoming_triggers=(trigger,), triggered_by="u" * 501, view_url="https://" + "v" * 500))
    assert (result.repo, result.ref, result.revisions, result.triggered_by, result.view_url) == ("", "", (), "", "")


def test_documents_without_results_are_read() -> None:
    """Functions of before wrote neither the member nor the fields."""
    world = World()
    _ends(world)
    document = _document(world)
    record = json.loads(document["record"])
    del record["recent"]
    job = documents.decode_job(JOB, {**document, "record": json.dumps(record)})
    assert job == replace(_job(world), recent=())


def test_unknown_members_of_results_stay() -> None:
    """A newer version may say more about an end; this version writes the job again and keeps it."""
    world = World(config(policy="triggering_policy { max_concurrent_invocations: 2 }"))
    _ends(world)
    document = _document(world)
    record = json.loads(document["record"])
    record["recent"][0]["mood"] = "good"
    document["record"] = json.dumps(record)
    world.commit("b", "m2")
    world.finish("FAILURE")
    world.notify("n2")
    latest, first = json.loads(_document(world)["record"])["recent"]
    assert (first["mood"], first["status"], latest["status"], "mood" in latest) == (
        "good",
        "SUCCEEDED",
        "FAILED",
        False,
    )
