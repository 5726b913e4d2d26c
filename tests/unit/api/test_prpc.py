"""pRPC itself: formats, headers, codes, and hostile requests."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
import pytest

from luci_scheduler import entry
from luci_scheduler.api.access import load_access
from luci_scheduler.api.description import openapi
from luci_scheduler.api.json_values import proto_name
from luci_scheduler.api.methods import HANDLERS
from luci_scheduler.api.schema import MESSAGES, METHODS, fields_of, message_class
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from tests.unit.api.support import OWNER, READER, STRANGER, Client, world_for

JSON = "application/json"
JOBS = "/prpc/scheduler.Scheduler/GetJobs"
EMIT = "/prpc/scheduler.Scheduler/EmitTriggers"


@pytest.fixture(name="client")
def _client() -> Client:
    """A console with three jobs."""
    return Client(world_for())


def _json(client: Client, path: str, body: bytes, **headers: str) -> Any:
    return client.http(path, body, OWNER, **{"Content_Type": JSON, "Accept": JSON, **headers})


def test_binary_is_the_default_encoding(client: Client) -> None:
    """Existing clients send no headers, or either name of the format."""
    request = message_class("JobsRequest")(project="proj").SerializeToString()
    binary = "application/prpc; encoding=binary"
    for headers in (
        {},
        {"Content_Type": binary, "Accept": binary},
        {"Accept": "*/*"},
        {"Content_Type": "application/grpc"},
    ):
        answer = client.http(JOBS, request, READER, **headers)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == binary
        reply = message_class("JobsReply")()
        reply.ParseFromString(answer.data)
        assert [job.job_ref.job for job in reply.jobs] == ["job", "poller"]


def test_text_protos_and_mixed_formats(client: Client) -> None:
    """The reply has the requested format, regardless of the request's format."""
    text = "application/prpc; encoding=text"
    answer = client.http(JOBS, b'project: "proj"', READER, Content_Type=text, Accept=JSON)
    assert len(json.loads(answer.data.removeprefix(b")]}'\n"))["jobs"]) == 2
    answer = client.http(JOBS, b"{}", READER, Content_Type="application/prpc; encoding=json", Accept=text)
    assert b'job: "poller"' in answer.data


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", JSON),
        ("application/prpc; encoding=json", JSON),
        ("text/html, application/json;q=0.5", JSON),
        ("application/json;q=0.4, application/prpc;encoding=binary;q=0.6", "application/prpc; encoding=binary"),
        ("text/html", None),
        ("application/json;q=0", None),
        ("", None),
        (";;;,,,=q", None),
    ],
)
def test_the_reply_has_an_accepted_format(client: Client, accept: str, expected: str | None) -> None:
    """The best accepted format is used; without one the status is 406."""
    answer = client.http(JOBS, b"{}", READER, Content_Type=JSON, Accept=accept)
    if expected:
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, expected)
    else:
        assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (406, "3")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", JOBS, {}, 405, "12"),
        ("PUT", JOBS, {}, 405, "12"),
        ("POST", "/prpc/scheduler.Scheduler/DropJobs", {}, 501, "12"),
        ("POST", "/prpc/scheduler.Scheduler/getjobs", {}, 501, "12"),
        ("POST", "/prpc/scheduler.Scheduler/GetJobs/", {}, 501, "12"),
        ("POST", "/prpc/", {}, 501, "12"),
        ("POST", "/prpc/../prpc/x", {}, 501, "12"),
        ("POST", JOBS, {"Content_Type": "text/plain"}, 415, "3"),
        ("POST", JOBS, {"Content_Type": "application/x-www-form-urlencoded"}, 415, "3"),
        ("POST", JOBS, {"X_Prpc_Grpc_Timeout": "soon"}, 400, "3"),
        ("POST", JOBS, {"X_Prpc_Max_Response_Size": "0"}, 400, "3"),
        ("POST", JOBS, {"X_Prpc_Max_Response_Size": "9" * 5000}, 400, "3"),
        ("POST", JOBS, {"X_Prpc_Max_Response_Size": "10"}, 503, "14"),
        ("POST", JOBS, {"Trace_Bin": "%"}, 400, "3"),
        ("POST", JOBS, {"Content_Encoding": "br"}, 400, "3"),
        ("POST", JOBS, {"Content_Encoding": "gzip"}, 400, "3"),
        ("POST", JOBS, {"Origin": "https://evil.example.com"}, 403, "7"),
        ("POST", JOBS, {"Origin": "null"}, 403, "7"),
        ("POST", JOBS, {"Origin": "http://localhost"}, 200, "0"),
        ("POST", JOBS, {"X_Prpc_Grpc_Timeout": "60S", "Trace_Bin": "AAEC"}, 200, "0"),
    ],
)  # fmt: skip
def test_the_rules_of_the_transport(
    client: Client, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """Errors have status and code, and are plain text for browsers."""
    answer = client.http(path, b"{}", READER, method, **{"Content_Type": JSON, "Accept": JSON, **headers})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (status, code), answer.data
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == (JSON if status == 200 else "text/plain; charset=utf-8")
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nonsense", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"batches": {}}',
        b'{"batches": [{"trigger": {"id": 5}}]}', b'{"batches": [{"trigger": {"id": "\\ud800"}}]}',
        b'{"timestamp": NaN}',
        b'{"timestamp": 1e400}', b'{"timestamp": "9223372036854775808"}',
        b'{"batches": [{"trigger": {"noop": {}, "cron": {}}}]}',
        b'{"batches": [{"trigger": {"id": "x", "buildbucket": {"properties": {"x": NaN}}}}]}', b'{"batches": [null]}',
        b'{"batches": [{"trigger": {"id": "x", "buildbucket": {"properties": '
        + b'{"x":' * 300 + b"1" + b"}" * 300 + b"}}}]}",
        b'{"batches": [{"trigger": {"id": "x", "buildbucket": {"tags": "k:v"}}}]}',
    ],
)  # fmt: skip
def test_bodies_that_are_not_requests(body: bytes) -> None:
    """Each fault is the caller's (3), with one line; none is ours (13), and nothing is emitted."""
    world = world_for()
    answer = _json(Client(world), EMIT, body)
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (400, "3"), answer.data
    assert answer.data.startswith(b"could not decode body: ")
    assert answer.data.count(b"\n") == 1
    assert len(answer.data) < 400
    assert world.queue.tasks == []


def test_binary_rubbish(client: Client) -> None:
    """The body is cut, endless, or another message."""
    for body in (b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 100, b"\x0b" * 10_000):
        assert client.http(JOBS, body, READER).status_code == 400


def test_large_and_compressed_requests(client: Client) -> None:
    """There is a limit before and after decompression; a body within it is read."""
    large = json.dumps({"cursor": "x" * 600_000}).encode()
    for body, headers in ((large, {}), (gzip.compress(large), {"Content_Encoding": "gzip"})):
        answer = _json(client, JOBS, body, **headers)
        assert (answer.status_code, answer.data) == (400, b"a request has at most 524288 bytes\n")
    bomb = gzip.compress(b"{}".ljust(50_000_000))
    assert _json(client, JOBS, bomb, Content_Encoding="gzip").data == b"a request has at most 524288 bytes\n"
    assert _json(client, JOBS, gzip.compress(b"{}")[:-9], Content_Encoding="gzip").status_code == 400
    assert _json(client, JOBS, gzip.compress(b"{}"), Content_Encoding="gzip").status_code == 200


def test_members_in_both_spellings_and_unknown_ones(client: Client) -> None:
    """The rules of proto JSON apply; members of newer clients are ignored."""
    for body in (b'{"page_size": 1, "project": "proj"}', b'{"pageSize": "1", "project": "proj", "new": {"x": [1]}}'):
        assert _json(client, JOBS, body).status_code == 200


@pytest.mark.parametrize("name", ["a/b", "../x", "", "x" * 5000, "a\x00b", "__x__", "\u2028"])
def test_invalid_job_names(client: Client, name: str) -> None:
    """Jobs with impossible names are not found."""
    for ref in ({"project": "proj", "job": name}, {"project": name, "job": "job"}):
        answer = _json(client, "/prpc/scheduler.Scheduler/PauseJob", json.dumps(ref).encode())
        assert (answer.status_code, answer.data) == (404, b"no such job or no permission to see it\n")


def test_a_slash_does_not_move_a_job_to_another_project(client: Client) -> None:
    """Project and job name come from separate members."""
    answer = _json(client, "/prpc/scheduler.Scheduler/PauseJob", b'{"project": "proj/job", "job": ""}')
    assert answer.status_code == 404


def _serve(app: Any) -> Any:
    server = flask.Flask("console")
    server.add_url_rule("/<path:_>", "console", lambda **_: entry.page(app, flask.request), methods=["GET", "POST"])
    return server.test_client()


def test_a_refused_token_is_not_an_anonymous_call() -> None:
    """Neither API nor pages accept it; keys that cannot be fetched are our fault."""
    world = world_for()

    def refuse(_: Any) -> Any:
        raise UnauthenticatedError("the token's audience is not accepted")

    def trouble(_: Any) -> Any:
        raise TransientError("secret address")

    console = _serve(replace(world.app, identify=refuse))
    answer = console.post(JOBS, data=b"{}", headers={"Content-Type": JSON, "Accept": JSON})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (401, "16")
    assert answer.data == b"the token's audience is not accepted\n"
    assert console.get("/jobs/proj/job").status_code == 401
    answer = _serve(replace(world.app, identify=trouble)).post(JOBS, data=b"")
    assert (answer.status_code, answer.data) == (503, b"Service unavailable\n")
    answer = _serve(replace(world.app, identify=trouble)).get("/jobs/proj/job")
    assert (answer.status_code, answer.data) == (500, b"The page cannot be shown now. Try again in a minute.\n")


@pytest.mark.parametrize("access", ["", "{", '{"version": 7}'])
def test_without_a_policy_every_call_is_refused_with_the_reason(access: str) -> None:
    """Pages and API behave the same."""
    client = Client(world_for(access=access))
    answer = client.post("GetJobs", {})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (403, "7")
    assert b"all access is denied" in answer.data
    page = client.http("/jobs/proj/job", who=OWNER, method="GET")
    assert page.status_code == 403
    assert b"SCHEDULER_ACCESS" in page.data


def test_no_response_quotes_an_invalid_policy() -> None:
    """Every caller reads that the policy is invalid; its owners find the place in the log."""
    policy = json.dumps({"version": 1, "grants": [{"project": "p", "role": "READER", "to": ["usr:boss@corp.example"]}]})
    client = Client(world_for(access=policy))
    for answer in (client.post("GetJobs", {}), client.http("/", who=OWNER, method="GET")):
        assert answer.status_code == 403
        assert b"SCHEDULER_ACCESS is not valid" in answer.data
        assert b"boss" not in answer.data
    assert "boss@corp.example" in load_access(policy).fault


@pytest.mark.parametrize("origin", ["http://[", "//localhost", "ftp://localhost", "null", "https://evil.example"])
def test_a_foreign_origin_is_refused(origin: str) -> None:
    """Malformed calls have the same status."""
    json_type = "application/json"
    answer = Client(world_for()).http(
        "/prpc/scheduler.Scheduler/GetJobs", b"{}", OWNER, Content_Type=json_type, Accept=json_type, Origin=origin
    )
    assert answer.status_code == 403


def test_pages_show_only_visible_objects() -> None:
    """An invisible object gives the error of a missing one."""
    world = world_for()
    world.commit()
    client, invocation = Client(world), world.invocations()[0].id
    for path in ("/jobs/proj/job", f"/jobs/proj/job/{invocation}"):
        assert client.http(path, who=READER, method="GET").status_code == 200
        hidden = client.http(path, who=STRANGER, method="GET")
        missing = client.http(path.replace("/job", "/none", 2).replace("/nones", "/jobs"), who=STRANGER, method="GET")
        assert (hidden.status_code, hidden.data) == (missing.status_code, missing.data)
        assert hidden.status_code == 404


def test_only_the_log_has_the_cause_of_our_faults() -> None:
    """The caller gets a fixed text, with the code on which its client retries."""
    world = world_for()
    client = Client(world)
    world.store.project = None  # type: ignore[method-assign, assignment]
    answer = client.post("GetJobs", {"project": "proj"})
    assert (answer.status_code, answer.headers["X-Prpc-Grpc-Code"]) == (500, "13")
    assert answer.data == b"Internal server error\n"


def test_the_description_matches_the_methods(client: Client) -> None:
    """The description has every method and message, and its references resolve."""
    answer = client.http("/prpc/description", method="GET")
    document = json.loads(answer.data)
    assert document == json.loads(json.dumps(openapi()))
    assert set(document["paths"]) == {method.plain_path for method in METHODS}
    assert {(method.service, method.name) for method in METHODS} == set(HANDLERS)
    schemas = document["components"]["schemas"]
    assert set(schemas) == {*MESSAGES, "Error", "ErrorDetail"}
    for reference in [part.split('"')[0] for part in answer.get_data(as_text=True).split("#/components/schemas/")[1:]]:
        assert reference in schemas
    for name in MESSAGES:
        descriptor = message_class(name).DESCRIPTOR
        assert [(field.json_name, field.number) for field in descriptor.fields] == [
            (proto_name(field), field.number) for field in fields_of(name)
        ]


def test_the_reference_page_matches_the_methods() -> None:
    """The page has every method with its messages, and every field."""
    page = Path("docs/reference/api.md").read_text(encoding="utf-8")
    for method in METHODS:
        row = f"| `{method.name}` | {method.request} → {method.reply} | {method.permission} | {method.summary} |"
        assert row in page, row
    for name, fields in MESSAGES.items():
        row = f"| {name} | {'`' + fields.replace('|', '') + '`' if fields else 'no fields'} |"
        assert row in page, row
