"""The API in plain JSON: its types, its errors, and the description that clients are generated from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from luci_scheduler.api.description import openapi
from luci_scheduler.api.json_values import plain_name
from luci_scheduler.api.methods import HANDLERS
from luci_scheduler.api.schema import ALWAYS, ENUMS, MESSAGES, METHODS, OPERATOR, SCHEDULER, fields_of
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.invocation import Status
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER, Client, world_for
from tests.unit.engine.world import World

JSON = "application/json"
JOB = {"project": "proj", "job": "job"}


def _plain(client: Client, method: str, message: Any, who: str = OWNER, service: str = SCHEDULER) -> tuple[int, Any]:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    answer = client.http(f"/api/v1/{service}/{method}", body, who, Content_Type=JSON)
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status_code, json.loads(answer.data)


@pytest.fixture(name="world")
def _world() -> World:
    """A console whose job has an ended and a running invocation."""
    world = world_for()
    world.commit("a", "m1")
    world.finish()
    world.notify("n1")
    world.commit("b", "m2")
    return world


def test_a_reply_has_times_and_numbers_that_clients_can_use(world: World) -> None:
    """No guard line; RFC 3339; digits of 64-bit numbers; empty optional members are left out."""
    status, reply = _plain(Client(world), "GetInvocations", {"jobRef": JOB, "pageSize": 5})
    running, ended = reply["invocations"]
    assert (status, reply["nextCursor"]) == (200, "")
    assert ended["started"] == "2026-03-01T12:00:01Z"
    assert ended["finished"] == "2026-03-01T12:00:02Z"
    assert ended["status"] == Status.SUCCEEDED
    assert isinstance(ended["invocationRef"]["invocationId"], str)
    assert (running["final"], running["triggeredBy"], "finished" in running) == (False, "", False)


def test_a_request_has_times_as_replies_have(world: World) -> None:
    """The time of emitted triggers is RFC 3339 here, and microseconds on pRPC."""
    trigger = {"id": "t1", "buildbucket": {"properties": {"x": 1.5}, "tags": ["k:v"]}}
    request = {"batches": [{"trigger": trigger, "jobs": [JOB]}], "timestamp": "2026-03-01T11:59:00.5Z"}
    assert _plain(Client(world), "EmitTriggers", request) == (200, {})
    (work,) = world.works()
    assert work.payload["triggers"][0]["created"] == 1772366340500000000


@pytest.mark.parametrize(
    ("method", "message", "member", "problem"),
    [
        ("GetJobs", {"project": 1}, "project", "must be a text, not the number 1"),
        ("GetJobs", {"project": True}, "project", "must be a text, not true"),
        ("GetJobs", {"pageSize": "x"}, "pageSize", "must be a whole number of 32 bits, not this text"),
        ("GetJobs", {"pageSize": 1 << 31}, "pageSize", "must be a whole number of 32 bits, not the number 2147483648"),
        ("GetJobs", {"pageSize": 1.5}, "pageSize", "must be a whole number of 32 bits, not the number 1.5"),
        ("GetJobs", {"projct": "proj"}, "projct", "is not a member of JobsRequest; did you mean project?"),
        ("GetJobs", {"zz": 1}, "zz", "is not a member of JobsRequest, which has project, cursor, pageSize"),
        ("GetJobs", {"page_size": 1}, "page_size", "is not a member of JobsRequest; did you mean pageSize?"),
        ("GetInvocations", {"jobRef": []}, "jobRef", "must be an object, not a list"),
        ("GetInvocations", {"jobRef": {"project": {}}}, "jobRef.project", "must be a text, not an object"),
        ("EmitTriggers", {"batches": {}}, "batches", "must be a list, not an object"),
        ("EmitTriggers", {"batches": [None]}, "batches[0]", "must be an object, not null"),
        ("EmitTriggers", {"batches": [{"trigger": {"id": 1 << 80}}]}, "batches[0].trigger.id",
         "must be a text, not a number"),
        ("EmitTriggers", {"timestamp": 5}, "timestamp",
         "must be a time such as 2026-03-01T12:00:00Z, not the number 5"),
        ("EmitTriggers", {"timestamp": "soon"}, "timestamp",
         "must be a time such as 2026-03-01T12:00:00Z, not this text"),
        ("EmitTriggers", {"batches": [{"trigger": {"cron": {"generation": "1" * 30}}}]},
         "batches[0].trigger.cron.generation",
         "must be a whole number of 64 bits, or a text with its digits, not this text"),
        ("GetInvocations", {"jobRef": JOB, "cursor": 7}, "cursor", "must be a text, not the number 7"),
        ("PauseJob", {**JOB, "reason": "x"}, "reason", "is not a member of JobRef, which has project, job"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named_with_what_it_must_be(
    world: World, method: str, message: Any, member: str, problem: str
) -> None:
    """In the message for people, and as a detail for programs; nothing is done."""
    status, error = _plain(Client(world), method, message)
    assert (status, error) == (
        400,
        {
            "code": "INVALID_ARGUMENT",
            "message": f"could not decode body: {member} {problem}",
            "details": [{"member": member, "problem": problem}],
        },
    )


def test_prpc_names_wrong_members_too(world: World) -> None:
    """Our own methods refuse unknown members; those of the original ignore them, as the original does."""
    client = Client(world)
    answer = client.post("GetJobs", {"project": 1})
    assert answer.data == b"could not decode body: project must be a text, not the number 1\n"
    assert client.post("GetJobs", {"projct": "proj"}).status_code == 200
    answer = client.post("PauseJob", {"job_ref": JOB, "raeson": "x"}, OWNER, OPERATOR)
    assert (answer.status_code, answer.data) == (
        400,
        b"could not decode body: raeson is not a member of JobAction; did you mean reason?\n",
    )
    assert client.call("PauseJob", {"job_ref": JOB, "reason": None}, OWNER, OPERATOR) == {"changed": True}


@pytest.mark.parametrize(
    ("path", "changes", "status", "code"),
    [
        ("/api/v1/scheduler.Scheduler/DropJobs", {}, 404, "UNIMPLEMENTED"),
        ("/api/v1/", {}, 404, "UNIMPLEMENTED"),
        ("/api/v2/scheduler.Scheduler/GetJobs", {}, 404, "UNIMPLEMENTED"),
        ("", {"method": "GET"}, 405, "UNIMPLEMENTED"),
        ("", {"Content_Type": "text/plain"}, 415, "INVALID_ARGUMENT"),
        ("", {"Content_Type": ""}, 415, "INVALID_ARGUMENT"),
        ("", {"Origin": "https://evil.example.com"}, 403, "PERMISSION_DENIED"),
        ("", {"body": b"nonsense"}, 400, "INVALID_ARGUMENT"),
        ("", {"body": b"[]"}, 400, "INVALID_ARGUMENT"),
        ("", {"body": b'{"x": ' * 200}, 400, "INVALID_ARGUMENT"),
        ("", {"body": b'{"cursor": "' + b"x" * 600_000 + b'"}'}, 400, "INVALID_ARGUMENT"),
        ("", {"Content_Encoding": "br"}, 400, "INVALID_ARGUMENT"),
    ],
)
def test_every_refusal_is_json(world: World, path: str, changes: dict[str, Any], status: int, code: str) -> None:
    """The code, a message, and the HTTP status of the code."""
    options = {"method": "POST", "body": b"{}", "Content_Type": JSON, **changes}
    path = path or "/api/v1/scheduler.Scheduler/GetJobs"
    answer = Client(world).http(path, options.pop("body"), READER, **options)
    error = json.loads(answer.data)
    assert (answer.status_code, error["code"], error["details"]) == (status, code, [])
    assert error["message"]
    assert answer.headers["Content-Type"] == JSON
    assert (answer.headers.get("Allow") == "POST") is (status == 405)


def test_errors_have_the_status_of_their_code(world: World) -> None:
    """Missing objects, missing rights, bad cursors, outages and defects."""
    client = Client(world)
    assert _plain(client, "PauseJob", JOB, STRANGER)[0] == 404
    assert _plain(client, "PauseJob", JOB, READER) == (
        403, {"code": "PERMISSION_DENIED", "message": "no permission to execute the action", "details": []},
    )  # fmt: skip
    assert _plain(client, "GetInvocation", {"jobRef": JOB, "invocationId": "5"})[1]["message"] == "no such invocation"
    status, error = _plain(client, "GetInvocations", {"jobRef": JOB, "cursor": "zzz"})
    assert (status, error["code"]) == (400, "INVALID_ARGUMENT")
    assert "pass nextCursor of a reply" in error["message"]

    def down(_: str) -> Any:
        raise TransientError("the store's own words")

    world.store.job = down  # type: ignore[method-assign, assignment]
    assert _plain(client, "PauseJob", JOB) == (
        503, {"code": "UNAVAILABLE", "message": "Service unavailable", "details": []},
    )  # fmt: skip
    world.store.job = None  # type: ignore[method-assign, assignment]
    assert _plain(client, "PauseJob", JOB)[1]["message"] == "Internal server error"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.service}.{method.name}")
def test_empty_names_never_reach_the_store(world: World, method: Any) -> None:
    """The store refuses an empty name, which would be our fault: each method answers before."""
    full = {plain_name(field): {} for field in fields_of(method.request) if field.is_message and not field.is_repeated}
    lists = {plain_name(field): [{}] for field in fields_of(method.request) if field.is_message and field.is_repeated}
    for message in ({}, full, lists):
        status, reply = _plain(Client(world), method.name, message, ADMIN, method.service)
        assert status < 500, reply


def test_definitions_need_a_project(world: World) -> None:
    """The same answer on both forms."""
    for message in ({}, {"project": ""}):
        assert _plain(Client(world), "GetDefinitions", message, OWNER, OPERATOR)[1] == {
            "code": "INVALID_ARGUMENT",
            "message": "project must name a project",
            "details": [{"member": "project", "problem": "must name a project"}],
        }
        assert Client(world).post("GetDefinitions", message, OWNER, OPERATOR).status_code == 400


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "type" in value and not isinstance(value["type"], dict):
            yield value
        for item in value.values():
            yield from _schemas(item)
    elif isinstance(value, list):
        for item in value:
            yield from _schemas(item)


def test_the_description_has_types_that_generators_use() -> None:
    """Times, 64-bit numbers, fixed texts, errors and the sign-in are declared; names are unique."""
    document = openapi()
    operations = [item["post"] for item in document["paths"].values()]
    assert len({item["operationId"] for item in operations}) == len(METHODS)
    assert set(document["paths"]) == {f"/api/v1/{service}/{name}" for service, name in HANDLERS}
    for operation in operations:
        error = operation["responses"]["default"]["content"][JSON]["schema"]["$ref"]
        assert error.endswith("/Error")
    schemas = document["components"]["schemas"]
    assert schemas["Invocation"]["properties"]["started"] == {"type": "string", "format": "date-time"}
    assert schemas["InvocationRef"]["properties"]["invocationId"]["format"] == "int64"
    assert schemas["Invocation"]["properties"]["status"]["enum"] == [str(status) for status in Status]
    assert schemas["JobRef"]["required"] == ["project", "job"]
    assert "required" not in schemas["JobsRequest"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {item.get("format") for item in _schemas(schemas)} == {None, "int32", "int64", "date-time"}


def test_every_fixed_text_is_a_field() -> None:
    """A renamed field would silently lose its values."""
    fields = {f"{message}.{field.name}" for message in MESSAGES for field in fields_of(message)}
    assert set(ENUMS) | ALWAYS <= fields
    assert all(values and all(values) for values in ENUMS.values())
