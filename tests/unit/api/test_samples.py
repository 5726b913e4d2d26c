"""The recorded calls of the original's API get the recorded responses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from luci_scheduler.cloud_ports import make_identify
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import MICROSECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job, JobDefinition, TaskDefinition
from luci_scheduler.core.project_record import ProjectRecord
from luci_scheduler.ports import CreateInvocation, PutJob, PutProject
from tests.unit.adapters.tokeninfo import CLIENT, serve_tokeninfo
from tests.unit.api.support import Client, sample, world_for
from tests.unit.engine.world import World

MAC_REL, MAC_DBG, NIGHTLY = (JobId(f"tint/{name}") for name in ("mac-rel", "mac-dbg", "nightly"))
TASK = TaskDefinition("noop")
REVISION = "53b1770d06d76a04506ce944548178b3617a32d3"
RUNNING, SUCCEEDED, OLDER = (
    InvocationId(8852503288565728464),
    InvocationId(8852505479846020432),
    InvocationId(8852505479846030000),
)


def _at(microseconds: int) -> Instant:
    return Instant(microseconds * MICROSECOND)


def _world(method: str, **settings: Any) -> World:
    world = world_for(**settings)
    world.clock.move_to(_at(1773756310000000))
    jobs = [
        Job(MAC_REL, JobDefinition(TASK), active_invocations=(RUNNING,)),
        Job(NIGHTLY, JobDefinition(TASK, schedule="0 0 4 * * * *"), paused=True),
    ]
    if method == "EmitTriggers":
        jobs.append(Job(MAC_DBG, JobDefinition(TASK)))
    running = Invocation(RUNNING, MAC_REL, _at(1773758400000000), TASK, revision=REVISION)
    running = replace(running, status=Status.RUNNING, triggered_by="user:dev@example.com")
    succeeded = Invocation(SUCCEEDED, MAC_REL, _at(1773756310233000), TASK, revision=REVISION)
    succeeded = replace(
        succeeded,
        status=Status.SUCCEEDED,
        finished=_at(1773757901200000),
        view_url="https://cr-buildbucket.appspot.com/build/8687075417889513457",
    )
    world.store.commit(
        [
            *(PutJob(job, None) for job in jobs),
            *(CreateInvocation(item) for item in (running, succeeded, replace(succeeded, id=OLDER))),
            PutProject(ProjectRecord("tint", job_ids=tuple(sorted(job.id for job in jobs))), None),
        ]
    )
    return world


def _comparable(body: str) -> Any:
    """Return a body in a form for comparison; the sample's cursor is a placeholder."""
    if not body.startswith(")]}'\n"):
        return body
    assert body.endswith("\n")
    reply = json.loads(body.removeprefix(")]}'\n"))
    if "nextCursor" in reply:
        reply["nextCursor"] = "EXAMPLEcursor"
    return reply


@pytest.mark.parametrize(
    "name",
    [
        "AbortInvocation", "AbortJob", "EmitTriggers", "GetInvocation", "GetInvocations", "GetJobs", "PauseJob",
        "ResumeJob", "error-bad-trigger", "error-not-found",
    ],
)  # fmt: skip
def test_a_recorded_call_gives_the_recorded_answer(name: str) -> None:
    """Status, headers and body match, and fields have the recorded order."""
    recorded = sample(name)
    request, expected = recorded["request"], recorded["response"]
    client = Client(_world(name))
    path = request["url"].partition(".com")[2]
    headers = {key.replace("-", "_"): value for key, value in request["headers"].items()}
    answer = client.http(path, json.dumps(request["body"]).encode(), "owner@example.com", **headers)
    assert answer.status_code == expected["status"], answer.data
    assert {key: answer.headers[key] for key in expected["headers"]} == expected["headers"]
    got = _comparable(answer.get_data(as_text=True))
    assert got == _comparable(expected["body"])
    assert json.dumps(got) == json.dumps(_comparable(expected["body"]))


@pytest.mark.parametrize("name", ["GetJobs", "EmitTriggers"])
def test_a_luci_client_calls_with_its_access_token(name: str) -> None:
    """A good token gets the recorded response. A bad token has no effect, and a failure at Google is retryable."""
    recorded = sample(name)
    path, body = recorded["request"]["url"].partition(".com")[2], json.dumps(recorded["request"]["body"]).encode()
    with serve_tokeninfo() as google:
        google.know("ya29.good", email="owner@example.com")
        world = _world(name, local=True, tokeninfo_url=google.url, console_oauth_clients=(CLIENT,))
        client = Client(world, make_identify(world.app.settings, world.clock))

        def call(token: str) -> TestResponse:
            json_type = "application/json"
            return client.http(path, body, Authorization=f"Bearer {token}", Content_Type=json_type, Accept=json_type)

        refused = call("ya29.bad")
        google.trouble = (503, b"", {})
        delayed = call("ya29.good")
        google.trouble = None
        assert not world.queue.tasks
        answer = call("ya29.good")
    assert (refused.status_code, refused.headers["X-Prpc-Grpc-Code"]) == (401, "16")
    assert refused.data == b"the access token is not accepted: Google does not know it, or it has expired\n"
    assert (delayed.status_code, delayed.headers["X-Prpc-Grpc-Code"]) == (503, "14")
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (200, "0")
    assert _comparable(answer.get_data(as_text=True)) == _comparable(recorded["response"]["body"])
    emitted = [trigger["emitted_by_user"] for work in world.works() for trigger in work.payload["triggers"]]
    assert set(emitted) == ({"user:owner@example.com"} if name == "EmitTriggers" else set())


def test_the_emitted_triggers_of_the_sample_reach_the_jobs() -> None:
    """There is one deferred task for each job, with the client's data, the caller and the client's time."""
    world = _world("EmitTriggers")
    Client(world).call("EmitTriggers", sample("EmitTriggers")["request"]["body"])
    by_job = {work.payload["job"]: work.payload["triggers"] for work in world.works()}
    assert {job: len(items) for job, items in by_job.items()} == {MAC_REL: 2, MAC_DBG: 1}
    parent, commit = by_job[MAC_REL]
    assert parent["payload"] == {
        "properties": {"parent_build": "8687075417889513457"},
        "tags": ["user_agent:recipe", "parent_buildnumber:4127"],
    }
    assert commit["payload"] == {
        "repo": "https://dawn.googlesource.com/tint.git",
        "ref": "refs/heads/main",
        "revision": "7b1c0f8a2b0e4c46b9e6a0cf55d0b6a1c9f27e3d",
        "properties": {"extra": 1},
        "tags": ["k:v"],
    }
    assert isinstance(commit["payload"]["properties"]["extra"], int)
    assert [item.get("order_in_batch", 0) for item in (parent, commit)] == [0, 1]
    for item in (parent, commit):
        assert item["created"] == 1773756310000000 * MICROSECOND
        assert item["emitted_by_user"] == "user:owner@example.com"
