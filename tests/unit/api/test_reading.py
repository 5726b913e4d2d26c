"""Reads over the API: pages of history, visibility, and costs."""

import json
from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.identifiers import JobId, make_invocation_id
from luci_scheduler.core.instants import SECOND, Instant, parse_rfc3339
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.ports import CreateInvocation, PutJob, PutProject
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER, Client, put_job, world_for
from tests.unit.engine.world import JOB, World, config
from tests.unit.web.support import Visitor

REF = {"project": "proj", "job": "job"}
TASK = TaskDefinition("noop")
START = parse_rfc3339("2026-01-01T00:00:00Z")


def _add(world: World, first: int, count: int) -> set[str]:
    """Add finished and active invocations, each a second newer than the one before; return their IDs."""
    items = []
    for number in range(first, first + count):
        at = Instant(START + number * SECOND)
        status = Status.RUNNING if number % 3 == 0 else Status.SUCCEEDED
        finished = None if status is Status.RUNNING else at
        items.append(Invocation(make_invocation_id(at, number & 0xFFFF), JOB, at, TASK, status, finished))
    world.store.commit([CreateInvocation(item) for item in items])
    return {str(item.id) for item in items}


def test_paging_over_ten_thousand_invocations_visits_each_once_while_new_ones_arrive() -> None:
    """Newest first, without repetition or omission; active and finished invocations are mixed."""
    world = world_for()
    there, client = _add(world, 0, 10_000), Client(world)
    seen: list[int] = []
    cursor, arrived = "", 10_000
    for _ in range(1000):
        reply = client.call("GetInvocations", {"jobRef": REF, "cursor": cursor, "pageSize": 50})
        seen += [int(item["invocationRef"]["invocationId"]) for item in reply["invocations"]]
        _add(world, arrived, 7)
        arrived += 7
        cursor = reply.get("nextCursor", "")
        if not cursor:
            break
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen))
    assert {str(item) for item in seen} == there


def test_page_sizes() -> None:
    """The default and the maximum is fifty; the last page has no cursor, even if it is full."""
    world = world_for()
    _add(world, 0, 100)
    client = Client(world)
    for asked, expected in ((0, 50), (-1, 50), (51, 50), (2_000_000, 50), (1, 1), (50, 50)):
        assert len(client.call("GetInvocations", {"jobRef": REF, "pageSize": asked})["invocations"]) == expected
    first = client.call("GetInvocations", {"jobRef": REF})
    last = client.call("GetInvocations", {"job_ref": REF, "cursor": first["nextCursor"]})
    assert len(last["invocations"]) == 50
    assert "nextCursor" not in last


def test_bad_cursors() -> None:
    """GetInvocations fails as for any internal error; GetJobs replies that there are no more jobs."""
    client = Client(world_for())
    answer = client.post("GetInvocations", {"jobRef": REF, "cursor": "%"})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (500, "13")
    assert answer.data == b"Internal server error\n"
    assert client.call("GetJobs", {"cursor": "%"}) == {}


def test_jobs_of_projects() -> None:
    """Enabled and visible jobs of one project or of all are listed; a missing project has none."""
    world = world_for(config(("job", "b")))
    secret = JobId("secret/job")
    world.store.commit(
        [PutJob(Job(secret, JobDefinition(TASK)), None), PutProject(ProjectRecord("secret", job_ids=(secret,)), None)]
    )
    client = Client(world)

    def names(message: Any, who: str) -> list[str]:
        jobs = client.call("GetJobs", message, who).get("jobs", [])
        return [f"{job['jobRef']['project']}/{job['jobRef']['job']}" for job in jobs]

    mine = ["proj/b", "proj/job", "proj/poller"]
    assert names({}, READER) == mine
    assert names({"project": "proj"}, READER) == mine
    assert names({"project": "secret"}, READER) == names({"project": "none"}, READER) == names({}, STRANGER) == []
    assert names({}, ADMIN) == [*mine, "secret/job"]
    put_job(world, replace(Job(JOB, JobDefinition(TASK)), enabled=False))
    assert names({}, READER) == ["proj/b", "proj/poller"]


def test_definitions_name_no_hidden_jobs() -> None:
    """Invisible targets are left out; a caller who sees the whole project gets all of them."""
    policy = {"version": 1, "grants": [{"project": "proj", "realm": "ci", "role": "OWNER", "to": [f"user:{OWNER}"]}]}
    for settings, named in (({"access": json.dumps(policy)}, ["proj/job"]), ({}, ["proj/b", "proj/job"])):
        world = world_for(config(("job", "b")), **settings)
        for name in ("proj/job", "proj/poller"):
            found = world.store.job(JobId(name))
            assert found is not None
            put_job(world, replace(found.value, definition=replace(found.value.definition, realm="ci")))
        reply = Client(world).call("GetDefinitions", {"project": "proj"}, service="scheduler.Operator")
        definitions = {item["jobRef"]["job"]: item["definition"] for item in reply["definitions"]}
        assert definitions["poller"]["triggered_jobs"] == named


def test_nothing_is_read_for_a_caller_who_sees_nothing() -> None:
    """No job is read in projects in which the caller sees none, and nothing at all if the caller sees none anywhere."""
    grants = [{"project": "other", "role": "READER", "to": [f"user:{READER}"]}]
    world = world_for(access=json.dumps({"version": 1, "grants": grants}))
    client = Client(world)
    for who, message, cost in (
        (STRANGER, {}, "0R/0W/0c"),
        (READER, {"project": "proj"}, "0R/0W/0c"),
        (READER, {}, "2R/0W/0c"),  # the projects; a call for no jobs is counted as one
    ):
        assert client.call("GetJobs", message, who) == {}
        assert world.counted() == cost
    assert client.call("GetDefinitions", {"project": "proj"}, STRANGER, "scheduler.Operator") == {}
    assert world.counted() == "0R/0W/0c"


def test_realms_decide_within_a_project() -> None:
    """A grant for one realm shows only its jobs."""
    policy = {"version": 1, "grants": [{"project": "proj", "realm": "ci", "role": "READER", "to": ["allUsers"]}]}
    world = world_for(access=json.dumps(policy))
    put_job(world, Job(JOB, JobDefinition(TASK, realm="ci")))
    jobs = Client(world).call("GetJobs", {}, who="")["jobs"]
    assert [job["jobRef"]["job"] for job in jobs] == ["job"]


@pytest.mark.parametrize("kind", [PayloadKind.NONE, PayloadKind.GITILES])
def test_a_cause_names_its_job_only_to_a_caller_who_sees_the_whole_project(kind: PayloadKind) -> None:
    """Neither the API nor a page names a job of a realm that the caller may not see."""
    grants = [
        {"project": "proj", "realm": "ci", "role": "READER", "to": [f"user:{READER}"]},
        {"project": "proj", "role": "READER", "to": [f"user:{OWNER}"]},
    ]
    world = world_for(access=json.dumps({"version": 1, "grants": grants}))
    put_job(world, Job(JOB, JobDefinition(TASK, realm="ci")))
    cause = Trigger("t", START, kind, job_id="proj/concealed")
    item = Invocation(
        make_invocation_id(START, 1), JOB, START, TASK, Status.SUCCEEDED, START, incoming_triggers=(cause,)
    )
    world.store.commit([CreateInvocation(item)])
    page = f"/jobs/proj/job/{item.id}"
    for who, is_named in ((OWNER, True), (READER, False)):
        client, visitor = Client(world), Visitor(world, who)
        for method, message in {
            "DescribeInvocation": {"jobRef": REF, "invocationId": str(item.id)},
            "DescribeJob": REF,
            "GetHistory": {"jobRef": REF},
        }.items():
            reply = client.call(method, message, who, "scheduler.Operator")
            assert ("proj/concealed" in json.dumps(reply)) is is_named, method
        assert ("concealed" in visitor.get(page).text) is is_named
        assert ("proj/concealed" in json.dumps(visitor.json("/jobs/proj/job"))) is is_named
        assert ("concealed" in visitor.get("/jobs/proj/job").text) is is_named


def test_reads_do_not_grow_with_the_history() -> None:
    """Every method's reads are counted with a short and with a long history."""
    for history in (60, 3000):
        world = world_for(config((*(f"j{n}" for n in range(20)), "job")))
        newest = max(_add(world, 0, history))
        client = Client(world)
        costs = {}
        for method, message in {
            "GetJobs": {},
            "GetInvocations": {"jobRef": REF},
            "GetInvocation": {"jobRef": REF, "invocationId": newest},
        }.items():
            world.store.counts.clear()
            client.call(method, message)
            costs[method] = world.counted()
        world.store.counts.clear()
        assert client.http(f"/jobs/proj/job/{newest}", who=OWNER, method="GET").status_code == 200
        costs["page"] = world.counted()
        assert costs == {
            "GetJobs": "23R/0W/0c",
            "GetInvocations": "52R/0W/0c",
            "GetInvocation": "2R/0W/0c",
            "page": "2R/0W/0c",
        }


def test_the_debug_log() -> None:
    """The reply has the log's invocation."""
    world = world_for()
    world.commit()
    (invocation,) = world.invocations()
    ref = {"jobRef": REF, "invocationId": str(invocation.id)}
    reply = Client(world).call("GetInvocationLog", ref, READER, "scheduler.Operator")
    assert reply["invocation"]["status"] == "RUNNING"
    assert "Starting the invocation" in reply["debugLog"]


def test_debug_state_is_for_administrators() -> None:
    """Owners get the same error as others."""
    world = world_for()
    world.commit()
    client, service = Client(world), "internal.admin.Admin"
    reply = client.call("GetDebugJobState", REF, ADMIN, service)
    assert reply["activeInvocations"] == [str(world.invocations()[0].id)]
    assert reply["triageLog"] == world.store.triage_log(JOB) != ""
    assert int(reply["lastTriageTs"]) * 1000 == world.clock.now()
    for who in (OWNER, STRANGER, ""):
        for ref in (REF, {"project": "no", "job": "no"}):
            answer = client.post("GetDebugJobState", ref, who, service)
            assert (answer.status_code, answer.data) == (403, b"not an administrator\n")


def test_invalid_invocation_ids() -> None:
    """None, zero, negative and the largest numbers are not found; other values are not numbers."""
    client = Client(world_for())
    for ref in ({}, {"invocationId": 0}, {"invocationId": "-5"}, {"invocationId": str(2**63 - 1)}):
        answer = client.post("GetInvocation", {"jobRef": REF, **ref})
        assert (answer.status_code, answer.data) == (404, b"no such invocation\n")
    for bad in ("x", 2**63, 1.5, "0x10", [], {}):
        assert client.post("GetInvocation", {"jobRef": REF, "invocationId": bad}).status_code == 400
