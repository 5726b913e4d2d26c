"""Requests of callers without any grant cost a check of the policy, no read, and little memory."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from luci_scheduler.api.call import MAX_TEXT_BYTES, MAX_UNGRANTED_BYTES, MAX_VALUES
from luci_scheduler.api.schema import METHODS, NAMES_ONE_JOB, NEEDS, fields_of, message_class
from luci_scheduler.core.identity import ANONYMOUS, Identity
from tests.unit.api.support import OWNER, READER, STRANGER, TRIGGERER, Client, world_for
from tests.unit.engine.world import REPO, World

SCHEDULER, OPERATOR = "scheduler.Scheduler", "scheduler.Operator"
EMIT = f"/prpc/{SCHEDULER}/EmitTriggers"
BINARY = "application/prpc; encoding=binary"


def _padded(document: dict[str, Any], size: int = 1024) -> bytes:
    """Return a JSON request of exactly this many bytes."""
    text = json.dumps(document)
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


def _example(message: str) -> dict[str, Any]:
    """Return a request that names an existing job."""
    if message in ("JobRef", "InvocationRef"):
        return (
            {"project": "proj", "job": "job"}
            if message == "JobRef"
            else {"jobRef": _example("JobRef"), "invocationId": "16"}
        )
    kinds = {field.name: field.kind for field in fields_of(message)}
    document: dict[str, Any] = {
        "repo": REPO,
        "revision": "a" * 40,
        "ref": "refs/heads/main",
        "project": "proj",
        "request_id": "r",
    }
    document |= {"from_revision": "a" * 40, "to_revision": "b" * 40, "jobs": [_example("JobRef")]}
    document |= {"batches": [{"trigger": {"id": "t", "noop": {}}, "jobs": [_example("JobRef")]}]}
    document |= {
        name: _example(kind) for name, kind in kinds.items() if kind in ("JobRef", "InvocationRef") and name != "jobs"
    }
    return {name: value for name, value in document.items() if name in kinds}


def test_a_thousand_requests_without_access_read_nothing() -> None:
    """Each method costs one identification, and no document or call of another service."""
    world, identified = world_for(), []

    def identify(headers: Any) -> Identity:
        identified.append(headers)
        return ANONYMOUS

    client = Client(world, identify)
    paths = (
        "/",
        "/jobs/proj",
        "/jobs/proj/job",
        "/jobs/proj/job/16",
        f"/commits?repo={REPO}&revision={'a' * 40}",
        "/backfill/proj/job",
    )
    rounds = [(path, b"", "GET") for path in paths] + [(m.path, _padded(_example(m.request)), "POST") for m in METHODS]
    world.store.counts.clear()
    for number in range(1000):
        path, body, method = rounds[number % len(rounds)]
        answer = client.http(path, body, method=method, Content_Type="application/json", Accept="application/json")
        assert answer.status_code in (200, 403, 404), (path, answer.data)
    assert world.counted() == "0R/0W/0c"
    assert len(identified) <= 1000
    assert (world.queue.tasks, world.buildbucket.calls, world.fetch.calls) == ([], [], [])


@pytest.mark.parametrize("who", [OWNER, TRIGGERER, READER, STRANGER])
def test_both_forms_of_the_api_have_the_same_permissions(who: str) -> None:
    """Each method answers a caller in plain JSON as in pRPC."""

    def camel(value: Any) -> Any:
        if isinstance(value, list):
            return [camel(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {re.sub("_([a-z])", lambda found: found[1].upper(), name): camel(item) for name, item in value.items()}

    for method in METHODS:
        body = json.dumps(camel(_example(method.request))).encode()
        answers = [
            Client(world_for()).http(path, body, who, Content_Type="application/json", Accept="application/json")
            for path in (method.path, method.plain_path)
        ]
        prpc, plain = answers
        assert prpc.status_code == plain.status_code, method
        if prpc.status_code != 200:
            assert json.loads(plain.data)["message"] == prpc.data.decode().strip(), method


def test_projects_without_a_grant_are_not_read() -> None:
    """A caller who sees another project gets the error of missing jobs: 1,000 of them cost nothing."""
    world = world_for()
    client, service = Client(world), SCHEDULER
    jobs = [{"project": "zz", "job": f"j{number}"} for number in range(999)]
    emit = {"batches": [{"trigger": {"id": "t", "noop": {}}, "jobs": jobs}]}
    world.store.counts.clear()
    hidden = client.post("EmitTriggers", emit, TRIGGERER, service)
    assert (hidden.status_code, hidden.data.count(b"zz/j")) == (404, 999)
    for method, message in (("GetInvocations", {"jobRef": jobs[0]}), ("PauseJob", jobs[0])):
        assert client.post(method, message, OWNER, service).status_code == 404
    assert world.counted() == "0R/0W/0c"
    mixed = {"batches": [{"trigger": {"id": "t", "noop": {}}, "jobs": [jobs[0], {"project": "proj", "job": "job"}]}]}
    assert (
        client.post("EmitTriggers", mixed, TRIGGERER, service).data
        == b"no such job or no permission to see it: zz/j0\n"
    )
    assert world.counted() == "1R/0W/0c"


def test_triggers_for_projects_without_a_grant_are_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who may trigger elsewhere is refused before a trigger's properties become objects."""

    def refuse(_: Any) -> Any:
        raise AssertionError("nothing may be converted")

    monkeypatch.setattr("luci_scheduler.api.methods.trigger_of", refuse)
    batches = [{"trigger": {"id": "t", "noop": {}}, "jobs": [{"project": "zz", "job": name}]} for name in ("b", "a")]
    answer = Client(world_for()).post("EmitTriggers", {"batches": batches}, TRIGGERER)
    assert (answer.status_code, answer.data) == (404, b"no such job or no permission to see it: zz/a, zz/b\n")


def test_hidden_and_absent_jobs_cost_the_same() -> None:
    """In a project with a grant both are read; in a project without one neither is."""
    policy = {"version": 1, "grants": [{"project": "proj", "realm": "other", "role": "OWNER", "to": [f"user:{OWNER}"]}]}
    world = world_for(access=json.dumps(policy))
    client = Client(world)
    for who, cost in ((OWNER, "1R/0W/0c"), (STRANGER, "0R/0W/0c")):
        answers = [
            client.post("GetInvocations", {"jobRef": {"project": "proj", "job": job}}, who) for job in ("job", "none")
        ]
        assert answers[0].data == answers[1].data
        for job in ("job", "none"):
            world.store.counts.clear()
            client.post("GetInvocations", {"jobRef": {"project": "proj", "job": job}}, who)
            assert world.counted() == cost


def test_the_path_of_a_method_gives_its_permission() -> None:
    """Each permission of the table is one of the policy's; each request about one job names one."""
    assert {method.permission for method in METHODS} == set(NEEDS)
    one_job = {"JobRef", "InvocationRef"}
    for method in METHODS:
        fields = list(fields_of(method.request))
        names = method.request in one_job or any(field.kind in one_job and not field.is_repeated for field in fields)
        assert names == (method.request in NAMES_ONE_JOB), method


def test_requests_about_one_job_are_refused_before_their_body_is_read() -> None:
    """A body that cannot be decoded gets the response of a good body."""
    client = Client(world_for())
    for method in METHODS:
        if method.request in NAMES_ONE_JOB:
            answers = [client.http(method.path, body, STRANGER) for body in (b"", b"\xff" * 100, b"x" * 600_000)]
            assert len({(answer.status_code, answer.data) for answer in answers}) == 1
            assert answers[0].status_code in (403, 404)


@pytest.mark.parametrize(
    ("who", "allowed"), [(STRANGER, MAX_UNGRANTED_BYTES), (READER, MAX_UNGRANTED_BYTES), (TRIGGERER, 1 << 19)]
)
def test_a_caller_without_trigger_permission_has_a_small_request_limit(who: str, allowed: int) -> None:
    """The limit applies before and after decompression; text protos have a limit for every caller."""
    client = Client(world_for())
    body = message_class("EmitTriggersRequest")(batches=[{}] * (allowed // 2 + 1)).SerializeToString()
    for sent, headers in ((body, {}), (gzip.compress(body), {"Content_Encoding": "gzip"})):
        answer = client.http(EMIT, sent, who, Content_Type=BINARY, **headers)
        assert (answer.status_code, answer.data) == (400, f"a request has at most {allowed} bytes\n".encode())
    text = b"batches {} " * (MAX_TEXT_BYTES // 11 + 1)
    answer = client.http(EMIT, text, TRIGGERER, Content_Type="application/prpc; encoding=text")
    assert answer.data == f"a request has at most {MAX_TEXT_BYTES} bytes\n".encode()


def _emitted(world: World, *batches: dict[str, Any]) -> bytes:
    return Client(world).post("EmitTriggers", {"batches": list(batches)}, TRIGGERER).data


def test_objects_are_counted_before_they_are_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, jobs, values and bytes of a trigger are bounded even for a caller who may trigger."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing may be converted")

    for name in ("trigger_of", "job_ids_of"):
        monkeypatch.setattr(f"luci_scheduler.api.methods.{name}", refuse)
    world, ref = world_for(), {"project": "proj", "job": "job"}
    assert _emitted(world, *[{}] * 1001).startswith(b"1001 triggers, counted for each job, are too many")
    assert _emitted(world, {"jobs": [ref] * 600}, {"jobs": [ref] * 401}).startswith(b"1001 triggers, counted")
    monkeypatch.setattr("luci_scheduler.api.json_values.json_format.ParseDict", refuse)
    values: Any = {"trigger": {"id": "t", "buildbucket": {"properties": {"x": [1] * MAX_VALUES}}}}
    assert _emitted(world, values) == f"a JSON request has at most {MAX_VALUES} values\n".encode()
    monkeypatch.undo()
    monkeypatch.setattr("luci_scheduler.api.messages.json_format.MessageToDict", refuse)
    large: Any = {"trigger": {"id": "t", "buildbucket": {"properties": {"x": "y" * 200_001}}}, "jobs": [ref]}
    assert b"at most 200000 are allowed" in _emitted(world, large)
    many = {"jobs": [ref] * 1001, "repo": REPO}
    assert Client(world).post("BackfillCommits", many, TRIGGERER, OPERATOR).data.startswith(b"1001 jobs are too many")
    assert world.counted() == "0R/0W/0c"


def test_a_bad_cursor_from_a_caller_without_access_logs_no_warning() -> None:
    """Only a caller who sees the job gets a refusal, and only such a refusal is logged."""
    client, request = Client(world_for()), {"jobRef": {"project": "proj", "job": "job"}, "cursor": "%"}
    with capture_logs() as logs:
        assert client.post("GetInvocations", request, STRANGER).status_code == 404
        assert (
            client.post("GetInvocations", {**request, "jobRef": {"project": "zz", "job": "j"}}, READER).status_code
            == 404
        )
    assert not logs
    assert client.post("GetInvocations", request, READER).status_code == 500


_MEMORY = """
import gzip, sys, threading
from pathlib import Path
import functions_framework
from emulator.supervisor import SOURCE
from luci_scheduler import process
from tests.unit.api.support import world_for

process.use(world_for().app)
app = functions_framework.create_app("console", str(SOURCE), "http")
bodies = [Path(name).read_bytes() for name in sys.argv[1:]]
kinds = ["application/prpc; encoding=binary"] * 3 + ["application/json"]
paths = ("scheduler.Scheduler/EmitTriggers", "scheduler.Operator/ExplainCommit", "scheduler.Scheduler/PauseJob")

def peak():
    # Not getrusage: its peak includes the parent process.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

def send(client, path, body, kind, encoding="gzip"):
    answer = client.post(f"/prpc/{path}", data=body, headers={"Content-Type": kind, "Content-Encoding": encoding})
    assert answer.status_code in (200, 400, 404), answer.data

send(app.test_client(), paths[0], gzip.compress(b""), kinds[0])
send(app.test_client(), paths[0], gzip.compress(b"{}"), kinds[3])
idle = peak()

def stranger():
    client = app.test_client()
    for _ in range(4):
        for path in paths:
            for body, kind in zip(bodies, kinds):
                send(client, path, body, kind)

threads = [threading.Thread(target=stranger) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("peaks", idle, peak())
"""


def test_memory_with_sixteen_callers_without_access(tmp_path: Path) -> None:
    """Small bodies could become hundreds of thousands of objects: the process stays under 1.5 times its idle size."""
    json_body = b'{"batches":[' + b",".join([b"{}"] * 174_000) + b"]}"
    bodies = (b"\n\0" * 262_143, b"\n\5\n\3\x9a\3\0" * 74_000, b"0" * 50_000_000, json_body)
    files = [tmp_path / str(number) for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(gzip.compress(body))
    command = [sys.executable, "-c", _MEMORY, *map(str, files)]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    idle, peak = (int(number) for number in done.stdout.rpartition("peaks")[2].split())
    print(f"\nidle {idle // 1024} MiB, with 16 callers without access {peak // 1024} MiB")  # noqa: T201 - the measure
    assert peak < 1.5 * idle
