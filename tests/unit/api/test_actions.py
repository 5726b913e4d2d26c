"""Actions over the API: permissions, idempotence, and the audit trail."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from luci_scheduler.core.instants import DAY, HOUR, MICROSECOND, MINUTE
from luci_scheduler.core.invocation import Status
from luci_scheduler.ports import QueueTask
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER, TRIGGERER, Client, world_for
from tests.unit.engine.world import JOB, REPO, World, config

REF = {"project": "proj", "job": "job"}
NO_REF = {"project": "proj", "job": "none"}
SCHEDULER, OPERATOR = "scheduler.Scheduler", "scheduler.Operator"
NO_JOB = b"no such job or no permission to see it"


def _messages(ref: Any, invocation_id: str) -> dict[tuple[str, str], Any]:
    invocation = {"jobRef": ref, "invocationId": invocation_id}
    backfill = {
        "jobs": [ref], "repo": REPO, "ref": "refs/heads/main", "requestId": "k",
        "fromRevision": "a" * 40, "toRevision": "b" * 40,
    }  # fmt: skip
    return {
        (SCHEDULER, "GetInvocations"): {"jobRef": ref},
        (SCHEDULER, "GetInvocation"): invocation,
        (SCHEDULER, "PauseJob"): ref,
        (SCHEDULER, "ResumeJob"): ref,
        (SCHEDULER, "AbortJob"): ref,
        (SCHEDULER, "AbortInvocation"): invocation,
        (SCHEDULER, "EmitTriggers"): {"batches": [{"trigger": {"id": "t", "noop": {}}, "jobs": [ref]}]},
        (OPERATOR, "GetInvocationLog"): invocation,
        (OPERATOR, "ExportInvocation"): invocation,
        (OPERATOR, "GetJob"): ref,
        (OPERATOR, "PauseJob"): {"jobRef": ref, "reason": "because"},
        (OPERATOR, "ResumeJob"): {"jobRef": ref, "reason": "because"},
        (OPERATOR, "AbortJob"): {"jobRef": ref, "reason": "because"},
        (OPERATOR, "AbortInvocation"): {"invocationRef": invocation, "reason": "because"},
        (OPERATOR, "TriggerJob"): {"jobRef": ref, "requestId": "k"},
        (OPERATOR, "RerunInvocation"): {"invocationRef": invocation, "requestId": "k"},
        (OPERATOR, "BackfillCommits"): backfill,
    }


METHODS = list(_messages(REF, "1"))
NEEDS = {"Get": (OWNER, TRIGGERER, READER, ADMIN), "Export": (OWNER, TRIGGERER, READER, ADMIN),
         "Emit": (OWNER, TRIGGERER, ADMIN), "Trigger": (OWNER, TRIGGERER, ADMIN),
         "Rerun": (OWNER, TRIGGERER, ADMIN), "Backfill": (OWNER, TRIGGERER, ADMIN), "Pause": (OWNER, ADMIN),
         "Resume": (OWNER, ADMIN), "Abort": (OWNER, ADMIN)}  # fmt: skip
"""Prefix of a method's name → the users who may call it."""


def _running() -> World:
    world = world_for()
    world.commit()
    world.queue.purge()
    world.store.counts.clear()
    return world


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_without_permission_nothing_happens(service: str, method: str) -> None:
    """A user who may not see a job gets, byte for byte, the error of a missing job."""
    allowed = next(who for beginning, who in NEEDS.items() if method.startswith(beginning))
    world = _running()
    client, invocation_id = Client(world), str(world.invocations()[0].id)
    message, absent = (_messages(ref, invocation_id)[service, method] for ref in (REF, NO_REF))
    missing = client.post(method, absent, OWNER, service)
    assert missing.status_code == 404
    assert missing.data.startswith(NO_JOB)
    for who in (STRANGER, ""):
        hidden, nothing = (client.post(method, item, who, service) for item in (message, absent))
        assert hidden.status_code == nothing.status_code == 404
        assert dict(hidden.headers) | {"Content-Length": ""} == dict(nothing.headers) | {"Content-Length": ""}
        assert hidden.data.replace(b"proj/job", b"proj/none") == nothing.data == missing.data
    for who in {READER, TRIGGERER} - set(allowed):
        refused = client.post(method, message, who, service)
        assert (refused.status_code, refused.headers["X-Prpc-Grpc-Code"]) == (403, "7")
        assert refused.data == b"no permission to execute the action\n"
    assert world.store.counts["W"] == 0
    assert world.queue.tasks == []
    for who in allowed:
        assert client.post(method, message, who, service).status_code == 200


def test_emitting_to_one_forbidden_or_missing_job_emits_nothing() -> None:
    """Missing and invisible jobs are listed together."""
    world = world_for(config(("job", "b")))
    client = Client(world)
    refs = [REF, {"project": "zz", "job": "x"}, {"project": "proj", "job": "nope"}]
    message = {"batches": [{"trigger": {"id": "t"}, "jobs": refs}]}
    answer = client.post("EmitTriggers", message)
    assert (answer.status_code, answer.data) == (404, NO_JOB + b": proj/nope, zz/x\n")
    assert client.post("EmitTriggers", message, READER).data == NO_JOB + b": proj/nope, zz/x\n"
    assert world.queue.tasks == []


NOW = 1772366400000000
MINUTES = MINUTE // MICROSECOND


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"trigger": {}}, 'bad trigger #0 ("") - trigger id is required'),
        (
            {"trigger": {"id": "x", "cron": {}}},
            'bad trigger #0 ("x") - emitting cron triggers through API is not allowed',
        ),
        (
            {"trigger": {"id": "x", "webui": {}}},
            'bad trigger #0 ("x") - emitting web UI triggers through API is not allowed',
        ),
        (
            {"trigger": {"id": 'a"b', "buildbucket": {"tags": ["k:v", "kv"]}}},
            """bad trigger #0 ("a\\"b") - bad tag, not a 'key:value' pair: "kv\"""",
        ),
    ],
)
def test_bad_triggers(message: Any, error: str) -> None:
    """Errors have the original's texts; a bad tag is refused here because it would block the job later."""
    world = world_for()
    answer = Client(world).post("EmitTriggers", {"batches": [{**message, "jobs": [REF]}]})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (400, "3")
    assert answer.get_data(as_text=True) == error + "\n"
    assert world.queue.tasks == []


@pytest.mark.parametrize(
    ("timestamp", "error"),
    [
        (-1, "the provided timestamp doesn't look like a valid number of microseconds since epoch"),
        (2**53 + 1, "the provided timestamp doesn't look like a valid number of microseconds since epoch"),
        (NOW + 15 * MINUTES, ""),
        (NOW - 15 * MINUTES, ""),
        (
            NOW + 15 * MINUTES + 1,
            (
                "the provided timestamp (2026-03-01 12:15:00.000001 +0000 UTC) is more than 15 min in the future "
                "based on the server clock value 2026-03-01 12:00:00 +0000 UTC"
            ),
        ),
        (
            NOW - 15 * MINUTES - 1,
            (
                "the provided timestamp (2026-03-01 11:44:59.999999 +0000 UTC) is more than 15 min in the past "
                "based on the server clock value 2026-03-01 12:00:00 +0000 UTC"
            ),
        ),
    ],
)
def test_a_timestamp_must_be_close_to_the_servers_clock(timestamp: int, error: str) -> None:
    """A timestamp must be within a quarter of an hour of the server's clock."""
    world = world_for()
    message = {"batches": [{"trigger": {"id": "x"}, "jobs": [REF]}], "timestamp": timestamp}
    answer = Client(world).post("EmitTriggers", message)
    if error:
        assert (answer.status_code, answer.get_data(as_text=True)) == (400, error + "\n")
        assert world.queue.tasks == []
    else:
        assert answer.status_code == 200
        assert world.works()[0].payload["triggers"][0]["created"] == timestamp * MICROSECOND


def test_one_request_is_one_triage() -> None:
    """All triggers become one invocation with the properties of the last batch; the same IDs again start nothing."""
    world = world_for()
    client = Client(world)
    batches = [{"trigger": {"id": f"t{n}", "buildbucket": {"properties": {"n": n}}}, "jobs": [REF]} for n in range(3)]
    for _ in range(2):
        client.call("EmitTriggers", {"batches": batches}, TRIGGERER)
        _run(world)
    (invocation,) = world.invocations()
    assert [trigger.id for trigger in invocation.incoming_triggers] == ["t0", "t1", "t2"]
    assert invocation.properties == {"n": 2}
    assert invocation.triggered_by == f"user:{TRIGGERER}"


def test_a_paused_job_accepts_triggers_and_drops_them() -> None:
    """The original's method accepts the trigger; the project's own methods refuse it."""
    world = world_for()
    client = Client(world)
    client.call("PauseJob", REF)
    client.call("EmitTriggers", {"batches": [{"trigger": {"id": "t"}, "jobs": [REF]}]})
    _run(world)
    assert world.invocations() == []
    answer = client.post("TriggerJob", {"jobRef": REF, "requestId": "k"}, service=OPERATOR)
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (400, "9")
    assert answer.data == b"Cannot trigger a paused job. Resume it first.\n"


def _run(world: World) -> list[QueueTask]:
    """Run the due tasks of the queue."""
    done = []
    for number in range(5):
        due = world.tick(name=f"run-{number}")
        done += due
        if not due:
            break
        world.clock.advance(3 * 10**9)
    return done


def _five(call: Any) -> None:
    with ThreadPoolExecutor(5) as pool:
        for future in [pool.submit(call) for _ in range(5)]:
            future.result()


def test_triggering_five_times_at_once_with_one_key_has_one_effect() -> None:
    """The same key has no second effect even hours later; another key, or another caller's equal key, has its own."""
    world = world_for(config(policy="triggering_policy { max_concurrent_invocations: 9 }"))
    client = Client(world)
    _five(lambda: client.call("TriggerJob", {"jobRef": REF, "requestId": "k"}, service=OPERATOR))
    _run(world)
    assert len(world.invocations()) == 1
    world.finish()
    world.notify("n1")
    world.clock.advance(5 * HOUR)
    client.call("TriggerJob", {"jobRef": REF, "requestId": "k"}, service=OPERATOR)
    _run(world)
    assert len(world.invocations()) == 1
    for who, key in ((TRIGGERER, "k"), (OWNER, "k2")):
        client.call("TriggerJob", {"jobRef": REF, "requestId": key}, who, OPERATOR)
    _run(world)
    assert len(world.invocations()) == 3


def test_rerun_five_times_at_once_with_one_key_is_one_invocation_with_the_same_content() -> None:
    """A rerun has the same repository, ref and revision under a new ID, in the caller's name."""
    world = _running()
    world.finish()
    world.notify("n1")
    (first,) = world.invocations()
    client, ref = Client(world), {"jobRef": REF, "invocationId": str(first.id)}
    _five(lambda: client.call("RerunInvocation", {"invocationRef": ref, "requestId": "k"}, TRIGGERER, OPERATOR))
    _run(world)
    again, same = world.invocations()
    assert same.id == first.id
    assert again.incoming_triggers[0].payload == first.incoming_triggers[0].payload
    assert again.incoming_triggers[0].id != first.incoming_triggers[0].id
    assert again.properties == first.properties
    assert again.tags == first.tags
    assert again.triggered_by == f"user:{TRIGGERER}"


def test_rerun_of_an_old_invocation_is_as_new_as_its_request() -> None:
    """NEWEST_FIRST discards triggers that are a week old, and a rerun must not be one of them."""
    world = world_for(config(policy="triggering_policy { kind: NEWEST_FIRST }"))
    world.commit()
    world.finish()
    world.notify("n1")
    world.clock.advance(8 * DAY)
    ref = {"jobRef": REF, "invocationId": str(world.invocations()[0].id)}
    Client(world).call("RerunInvocation", {"invocationRef": ref, "requestId": "k"}, TRIGGERER, OPERATOR)
    requested = world.clock.now()
    _run(world)
    assert len(world.invocations()) == 2
    assert [trigger.created for trigger in world.invocations()[0].incoming_triggers] == [requested]


def test_pausing_and_resuming_five_times_at_once_is_one_change() -> None:
    """The first pause keeps its author and reason."""
    world = world_for()
    client = Client(world)
    numbers = itertools.count()
    before = _job(world).commits
    _five(lambda: client.call("PauseJob", {"jobRef": REF, "reason": f" r{next(numbers)}\n "}, OWNER, OPERATOR))
    paused = _job(world)
    assert paused.paused
    assert (paused.commits, paused.changed_by) == (before + 1, f"user:{OWNER}")
    assert paused.change_reason in {f"r{n}" for n in range(5)}
    assert paused.changed_when == world.clock.now()
    _five(lambda: client.call("ResumeJob", REF, ADMIN))
    resumed = _job(world)
    assert (resumed.paused, resumed.commits) == (False, before + 2)
    assert (resumed.changed_by, resumed.change_reason) == (f"user:{ADMIN}", "resumed through RPC API")


def _job(world: World) -> Any:
    found = world.store.job(JOB)
    assert found is not None
    return found.value


@pytest.mark.parametrize("method", ["AbortInvocation", "AbortJob"])
def test_aborting_five_times_at_once_cancels_one_build(method: str) -> None:
    """``on_task`` aborts; the invocation has author and reason; a finished invocation does not change."""
    world = _running()
    client, invocation_id = Client(world), str(world.invocations()[0].id)
    invocation = {"invocationRef": {"jobRef": REF, "invocationId": invocation_id}}
    message = {"reason": "broken", **(invocation if method == "AbortInvocation" else {"jobRef": REF})}
    _five(lambda: client.call(method, message, OWNER, OPERATOR))
    assert world.invocations()[0].status is Status.RUNNING
    assert world.buildbucket.canceled == []
    _run(world)
    (aborted,) = world.invocations()
    assert aborted.status is Status.ABORTED
    assert (aborted.abort_requested_by, aborted.abort_reason) == (f"user:{OWNER}", "broken")
    assert len(world.buildbucket.canceled) == 1
    assert f"manually aborted by user:{OWNER}" in world.log()
    world.queue.purge()
    client.call(method, message, OWNER, OPERATOR)
    assert world.queue.tasks == []


def test_every_action_leaves_a_line_of_the_audit_trail() -> None:
    """The line has who, when, why and what; a refused action has a line too."""
    world = _running()
    client = Client(world)
    structlog.reset_defaults()
    with capture_logs() as lines:
        for (service, method), message in _messages(REF, str(world.invocations()[0].id)).items():
            if not method.startswith("Get") and method != "BackfillCommits":
                client.call(method, message, OWNER, service)
                client.call("ResumeJob", REF)
        client.post("PauseJob", REF, READER)
    trail = [line for line in lines if line["event"] == "audit"]
    assert {line["action"].removeprefix("scheduler.jobs.") for line in trail} == {"pause", "resume", "abort", "trigger"}
    assert all(
        line["who"] == f"user:{OWNER}" and line["when"].endswith("Z") and line["job_id"] == JOB for line in trail
    )
    assert {line.get("how") for line in trail} == {None, "emit", "trigger", "rerun"}
    assert [line["reason"] for line in trail if line["action"].endswith("pause")] == [
        "paused through RPC API",
        "because",
    ]
    (denied,) = [line for line in lines if line["event"] == "audit_denied"]
    assert (denied["action"], denied["who"], denied["job_id"]) == ("scheduler.jobs.pause", f"user:{READER}", JOB)


@pytest.mark.parametrize("key", ["", "x" * 129, "a\nb", "\u00e9"])
def test_bad_request_ids(key: str) -> None:
    """A key is required: without one a repeated request looks like a new request."""
    world = world_for()
    answer = Client(world).post("TriggerJob", {"jobRef": REF, "requestId": key}, service=OPERATOR)
    assert answer.status_code == 400
    assert answer.data.startswith(b"request_id must have")
    assert world.queue.tasks == []


def test_too_many_and_too_large_triggers_are_refused() -> None:
    """No trigger is emitted."""
    world = world_for()
    client = Client(world)
    many = [{"trigger": {"id": f"t{n}"}, "jobs": [REF]} for n in range(1001)]
    assert b"at most 1000" in client.post("EmitTriggers", {"batches": many}).data
    large = [{"trigger": {"id": "t", "title": "\u00e9" * 200_000}, "jobs": [REF]}]
    answer = client.http(
        "/prpc/scheduler.Scheduler/EmitTriggers",
        json.dumps({"batches": large}, ensure_ascii=False).encode(),
        OWNER,
        Content_Type="application/json",
        Accept="application/json",
    )
    assert answer.status_code == 400
    assert b"bytes, at most 200000 are allowed" in answer.data
    assert world.queue.tasks == []


def test_the_markers_of_keys_outlive_the_keys_use() -> None:
    """The markers last for the retention time, not half an hour: the same request the next day starts nothing."""
    world = _running()
    world.finish()
    world.notify("n1")
    ref = {"jobRef": REF, "invocationId": str(world.invocations()[0].id)}
    for _ in range(2):
        Client(world).call("RerunInvocation", {"invocationRef": ref, "requestId": "k"}, OWNER, OPERATOR)
        _run(world)
        world.finish()
        world.tick(3600)
        world.clock.advance(DAY)
    assert len(world.invocations()) == 2
