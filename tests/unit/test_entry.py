"""Between the functions framework and the entry points: the refusals there, the reading of bodies, and the headers."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from luci_scheduler import process
from luci_scheduler.adapters.identity import OidcVerifier
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.settings_reader import SettingsError
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.tokens import form_token
from tests.fuzz.site import ACCOUNT, CONSOLE, ON_TASK, Answer, Site, site
from tests.unit.api.support import OWNER, context, world_for
from tests.unit.engine.world import JOB, REPO

JSON = {"Content-Type": "application/json"}
EVENT = {"repo": REPO, "ref": "refs/heads/main", "revision": "c" * 40}


@pytest.fixture(name="functions")
def _functions() -> Iterator[Site]:
    with site() as served:
        structlog.contextvars.clear_contextvars()
        yield served


def _context(**members: Any) -> bytes:
    values = {
        "eventId": "1",
        "timestamp": "x",
        "eventType": "google.pubsub.topic.publish",
        "resource": "projects/p/topics/t",
    }
    return json.dumps({"context": {**values, **members}, "data": {}}).encode()


UNREADABLE = {
    "text": b'"x"',
    "text with the word": b'"context"',
    "list": b"[]",
    "list with the word": b'["context"]',
    "number": b"5",
    "null": b"null",
    "context": b'{"context":5}',
    "no context": b'{"context":null,"data":null}',
    "data": (
        b'{"context":{"eventId":"1","timestamp":"x","eventType":"google.pubsub.topic.publish","resource":"n"},"data":[]}'
    ),
    "resource": _context(resource={}),
    "list for a type": _context(eventType=["x"]),
    "number for a resource": _context(resource=5),
    "message": b'{"message":5,"subscription":"s"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"message":' * 30_000,
    "not UTF-8": b'{"message":"\xff"}',
    "long number": b'{"context":' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("function", ["on_gitiles_commit", "on_build_completion"])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_bodies_that_the_framework_cannot_read(functions: Site, function: str, body: bytes) -> None:
    """The answer is 400 until the dead-letter topic has the message, and one line is logged."""
    answer = functions.call(function, "/projects/p/topics/t", body, {**JSON, "Authorization": "Bearer canary-7d1"})
    assert (answer.code, answer.writes, len(answer.lines)) == (400, 0, 1), answer
    assert answer.events in (["refused_by_framework"], ["malformed"])
    assert b"canary-7d1" not in answer.body
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "headers",
    [
        {"ce-type": "x", "ce-source": "y", "ce-id": "1", "ce-specversion": "1.0"},
        {"ce-type": "x", "ce-source": "y", "ce-id": "\u00e9", "ce-specversion": "9"},
        {"ce-type": "t", "ce-source": "s", "ce-id": "i", "ce-specversion": "1.0", "ce-time": "not a time"},
    ],
)
def test_binary_cloud_events_that_hold_no_message(functions: Site, headers: dict[str, str]) -> None:
    """400 and one line."""
    answer = functions.call("on_gitiles_commit", "/", b"{}", {**JSON, **headers})
    assert (answer.code, len(answer.lines)) == (400, 1)


_FIRST = """
import functions_framework
from emulator.supervisor import SOURCE
from luci_scheduler import entry
entry.is_local = lambda: False  # reads no settings
client = functions_framework.create_app("on_gitiles_commit", str(SOURCE), "cloudevent").test_client()
assert client.post("/t", data=b'"x"', content_type="application/json").status_code == 400
"""


def test_the_first_request_of_a_process_is_logged_like_all_others() -> None:
    """One JSON line, although no request has reached an entry point that reads the settings."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _FIRST], cwd=root, capture_output=True, text=True, timeout=100, check=True
    )
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["message"], told["severity"], told["code"]) == ("refused_by_framework", "ERROR", 400)


def _push(**changes: Any) -> bytes:
    data = base64.b64encode(json.dumps(EVENT).encode()).decode()
    message = {"messageId": "1", "publishTime": "2026-03-01T12:00:00Z", "data": data, **changes}
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"messageId": "\ud800"},
        {"messageId": "x" * 501},
        {"publishTime": "0001-01-01T00:00:00Z"},
        {"publishTime": "9999-12-31T23:59:59Z"},
        {"publishTime": [5]},
        {"data": "\ud800"},
        {"data": "%"},
        {"data": ["x"]},
        {"attributes": "x"},
    ],
    ids=ascii,
)
def test_messages_that_cannot_be_stored(functions: Site, changes: dict[str, Any]) -> None:
    """Nothing of them gets into a document: one half of a surrogate pair there would stop every later reader."""
    answer = functions.call("on_gitiles_commit", "/projects/p/topics/t", _push(**changes), JSON)
    assert (answer.code, answer.events, answer.writes) == (400, ["malformed"], 0)


def _sent(functions: Site, function: str, headers: dict[str, str]) -> Answer:
    """Push a message that starts a build, and check that nothing is read or written unless it is accepted."""
    functions.world.counted()
    answer = functions.call(function, "/projects/p/topics/t", _push(), {**JSON, **headers})
    if answer.code != 200:
        assert functions.world.counted() == "0R/0W/0c"
    return answer


@pytest.mark.parametrize("function", ["on_gitiles_commit", "on_build_completion"])
def test_a_push_needs_the_token_of_its_account(functions: Site, function: str) -> None:
    """A refused push comes again until its topic's dead letters have it; the line shows a wrong setting."""
    audience, account = "https://on-event.invalid", "push@cloud-project.iam.gserviceaccount.com"
    keys = json.dumps(functions.issuer.certificates()).encode()
    verifier = OidcVerifier(lambda: keys, audience, {account}, functions.world.clock)
    process.use(replace(functions.world.app, verify_push=verifier.verify))
    for bad in (
        {},
        {"Authorization": "Bearer canary-7d1"},
        {"Authorization": functions.token()},
        {"Authorization": functions.token(audience)},
        {"Authorization": functions.token(ON_TASK, account)},
    ):
        answer = _sent(functions, function, bad)
        assert (answer.code, answer.body, answer.events) == (401, b"Unauthenticated\n", ["unauthenticated"])
        assert answer.lines[0]["function"] == function
        assert "canary-7d1" not in str(answer.lines)
    good = _sent(functions, function, {"Authorization": functions.token(audience, account)})
    # A notification also needs a token of its own.
    assert (good.code, good.events[:1]) == (
        200,
        ["permanent_error"] if function == "on_build_completion" else ["triggers_arrived"],
    )


def test_a_task_needs_the_token_of_its_account(functions: Site) -> None:
    """The sweep reads the store; without a good token it does not run."""
    for bad in ({}, {"Authorization": functions.token(ON_TASK, OWNER)}, {"Authorization": functions.token(CONSOLE)}):
        functions.world.counted()
        answer = functions.call("on_task", "/sweep", b"{}", bad)
        assert (answer.code, answer.events, functions.world.counted()) == (401, ["unauthenticated"], "0R/0W/0c")
    assert functions.call("on_task", "/sweep", b"{}", {"Authorization": functions.token()}).code == 200


@pytest.mark.parametrize("function", ["on_gitiles_commit", "on_build_completion"])
def test_a_push_whose_token_cannot_be_verified_now_comes_again(functions: Site, function: str) -> None:
    """Without Google's keys nothing is known about the sender."""

    def fail() -> bytes:
        raise OSError("no network")

    verifier = OidcVerifier(fail, "https://on-event.invalid", {ACCOUNT}, functions.world.clock)
    process.use(replace(functions.world.app, verify_push=verifier.verify))
    answer = _sent(functions, function, {"Authorization": functions.token("https://on-event.invalid")})
    assert (answer.code, answer.events) == (500, ["transient_error"])


def test_a_page_shows_the_remedy(functions: Site) -> None:
    """A person whose token is for another audience reads what to do, on the page and from the API."""
    headers = {"Authorization": functions.token("https://elsewhere.invalid", OWNER), **JSON}
    page = functions.call("console", "/", b"", headers, REQUEST_METHOD="GET")
    call = functions.call("console", "/prpc/scheduler.Scheduler/GetJobs", b"{}", headers)
    for answer in (page, call):
        assert answer.code == 401
        assert f"'https://elsewhere.invalid', and the accepted audience is {CONSOLE}. " in answer.body.decode()
        assert b"run `luci-scheduler login`" in answer.body


def test_a_message_in_base64_with_line_ends(functions: Site) -> None:
    """The message is read, as Go reads it."""
    data = base64.encodebytes(json.dumps(EVENT).encode()).decode().replace("\n", "\r\n")
    answer = functions.call("on_gitiles_commit", "/projects/p/topics/t", _push(data=data), JSON)
    assert answer.code == 200
    assert functions.world.invocations()


def test_an_internal_failure_is_not_a_refusal(functions: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With incomplete settings, the answer is 500 with one line, so that the message is delivered again."""

    def fail() -> Any:
        raise SettingsError(["SCHEDULER_PROJECT: must be set"])

    monkeypatch.setattr(process, "app", fail)
    for function in ("on_gitiles_commit", "on_build_completion", "on_task", "console"):
        answer = functions.call(function, "/", _push(), JSON)
        assert (answer.code, answer.events) == (500, ["unexpected_error"])


def test_credentials_that_are_not_available_yet_are_no_refusal(
    functions: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender delivers again, and the line names the reason."""

    def fail() -> Any:
        raise TransientError("the credentials are not available")

    monkeypatch.setattr(process, "app", fail)
    for function in ("on_gitiles_commit", "on_build_completion", "on_task", "console"):
        answer = functions.call(function, "/", _push(), JSON)
        assert (answer.code, answer.events) == (500, ["transient_error"])


def _signed_in(functions: Site) -> dict[str, str]:
    return {"Authorization": functions.token(CONSOLE, OWNER)}


def test_every_answer_is_declared_as_text(functions: Site) -> None:
    """Refusals by the entry points and by the framework have safe headers: nosniff, no-store, no page content."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    bad = {"Authorization": "Bearer nonsense"}
    answers = {
        "framework 404": functions.call("console", "/favicon.ico", REQUEST_METHOD="GET"),
        "framework 405": functions.call("on_gitiles_commit", "/", REQUEST_METHOD="GET"),
        "line feed": functions.call("console", "/x\ny", REQUEST_METHOD="GET"),
        "401": functions.call("console", "/", b"", bad, REQUEST_METHOD="GET"),
        "405": functions.call("console", "/", REQUEST_METHOD="PUT"),
        "413": functions.call("console", f"/actions/pauseJob/{JOB}", b"x" * 70_000, {**form, **_signed_in(functions)}),
        "task 401": functions.call("on_task", "/timer", b"{}", bad),
        "event": functions.call("on_gitiles_commit", "/", b"[", JSON),
    }
    for name, answer in answers.items():
        assert 400 <= answer.code < 500, name
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name
        assert answer.headers["Cache-Control"] == "no-store", name
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], name
        assert answer.headers["Content-Type"].startswith("text/plain"), name
        assert len(answer.lines) == 1, (name, answer.lines)
    assert answers["405"].headers["Allow"] == "GET, HEAD, POST"
    assert answers["framework 405"].headers["Allow"]


class _LongBody:
    """A long body. It counts the bytes that were read, and the largest piece."""

    def __init__(self, size: int) -> None:
        self.read_bytes = 0
        self._left = size
        self.largest = 0

    def read(self, size: int = -1) -> bytes:
        number = self._left if size < 0 else min(size, self._left)
        self._left -= number
        self.read_bytes += number
        self.largest = max(self.largest, number)
        return b"x" * number

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def test_chunked_forms_have_the_same_limit(functions: Site) -> None:
    """A body that is too long is refused, and no more of it is kept than a form may have."""
    stream = _LongBody(50_000_000)
    headers = {"Content-Type": "application/x-www-form-urlencoded", **_signed_in(functions)}
    about: Any = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": stream}
    answer = functions.call("console", f"/actions/pauseJob/{JOB}", b"", headers, **about)
    assert (answer.code, answer.events) == (413, ["request_refused"])
    assert stream.read_bytes == 50_000_000  # the body is read to its end, so that the sender sees the answer
    assert stream.largest <= 1 << 17


@pytest.mark.parametrize("function", ["console", "on_task"])
@pytest.mark.parametrize("path", ["/prpc/scheduler.Scheduler/EmitTriggers", "/actions/x", "/"])
def test_no_body_of_an_unauthenticated_caller_is_kept(functions: Site, function: str, path: str) -> None:
    """Even with ``Content-Length``: the framework would read all of it into memory before it answers."""
    stream = _LongBody(50_000_000)
    about: Any = {"CONTENT_LENGTH": "50000000", "wsgi.input": stream}
    answer = functions.call(function, path, b"", {"Content-Type": "application/json"}, **about)
    assert 400 <= answer.code < 500
    assert stream.largest <= 1 << 17


def test_forms_of_too_many_parts(functions: Site) -> None:
    """They are refused like other forms that are too large."""
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1_001 + b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x", **_signed_in(functions)}
    answer = functions.call("console", f"/actions/pauseJob/{JOB}", body, headers)
    assert (len(body) < 1 << 16, answer.code, answer.events) == (True, 413, ["request_refused"])


def test_a_chunked_form_is_a_form(functions: Site) -> None:
    """A body that fits is read, with or without ``Content-Length``."""
    token = form_token("secret", f"user:{OWNER}", functions.world.clock.now())
    headers = {"Content-Type": "application/x-www-form-urlencoded", **_signed_in(functions)}
    for name, about in (("pauseJob", {}), ("resumeJob", {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"})):
        answer = functions.call(
            "console", f"/actions/{name}/{JOB}", f"token={token}&reason=x".encode(), headers, **about
        )
        assert answer.code == 302
        assert answer.writes


def test_bodies_that_end_early(functions: Site) -> None:
    """A sender that hangs up has sent a malformed body; this is not a defect of the functions."""
    token = {"Authorization": functions.token()}
    calls = [
        functions.call("on_task", "/timer", b"{", token, CONTENT_LENGTH="50"),
        functions.call("console", "/prpc/scheduler.Scheduler/GetJobs", b"{", JSON, CONTENT_LENGTH="50"),
        functions.call("console", f"/actions/pauseJob/{JOB}", b"x=", JSON, CONTENT_LENGTH="50"),
        functions.call("on_gitiles_commit", "/", b"{", JSON, CONTENT_LENGTH="50"),
    ]
    assert [(answer.code, len(answer.lines)) for answer in calls] == [(400, 1)] * 4


def test_too_many_unknown_tokens_are_answered_429() -> None:
    """429 and code 8 with the pause, on the pages and in the API; neither a refusal of the token nor a defect."""
    world = world_for()

    def throttled(_: Any) -> Any:
        raise TransientError("too many", throttled=True, retry_after=2 * SECOND + 1)

    with site(world) as functions:
        process.use(replace(world.app, identify=throttled))
        page = functions.call("console", "/", REQUEST_METHOD="GET")
        call = functions.call("console", "/prpc/scheduler.Scheduler/GetJobs", b"{}", JSON)
    for answer in (page, call):
        assert (answer.code, answer.headers["Retry-After"], answer.events) == (429, "3", ["request_refused"])
    assert call.headers["X-Prpc-Grpc-Code"] == "8"


def test_a_page_request_does_not_show_its_secrets() -> None:
    """The token does not appear even if a line prints it by mistake."""
    assert "canary-a7" not in repr(PageRequest(context(world_for()), ("canary-a7",)))


def _task(functions: Site, kind: str, body: bytes, retries: int = 0) -> Answer:
    headers = {"Authorization": functions.token(), "X-CloudTasks-TaskRetryCount": str(retries)}
    return functions.call("on_task", f"/{kind}", body, headers)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("timer", b'{"job":null}'),
        ("timer", b'{"timer":1}'),
        ("timer", b'{"job":"proj/job","invocation":"16","created":1,"timer":1}'),
        ("timer", b'{"job":"proj/job","invocation":[],"created":1,"timer":"a:b:c:d"}'),
        ("triage", b'{"job":5}'),
        ("triage", b'{"job":"proj/\\ud800"}'),
        ("triage", b'{"job":["proj/job"]}'),
        ("launch", b'{"job":"proj/job","invocation":"16","attempts":0,"created":NaN}'),
        ("launch", b'{"job":"proj/job","invocation":"16","attempts":0,"created":1e999}'),
        ("launch", b'{"job":"proj/job","invocation":"16","attempts":0,"created":-5}'),
        ("launch", b'{"job":"proj/job","invocation":"16","attempts":0,"created":99999999999999999999}'),
        ("sweep", b'{"after":5}'),
        ("sweep", b'{"after":{"due":null}}'),
        ("trigger", b'{"job":"proj/job","triggers":5}'),
        ("trigger", b'{"job":"proj/job","triggers":null}'),
        ("trigger", b'{"job":"proj/job","triggers":[null]}'),
        ("triage", b"[" * 100_000),
        ("triage", b'{"job":' + b"[" * 200 + b"]" * 200 + b"}"),
        ("triage", b'{"job":"\xff"}'),
        ("triage", b"5"),
    ],
)  # fmt: skip
def test_tasks_that_cannot_be_read(functions: Site, kind: str, body: bytes) -> None:
    """The answer is 400 while a newer version may understand the task. Afterwards the task is dropped."""
    answer = _task(functions, kind, body)
    assert (answer.code, answer.events, answer.writes) == (400, ["malformed"], 0)
    answer = _task(functions, kind, body, retries=10)
    assert (answer.code, answer.events, answer.writes) == (200, ["malformed"], 0)


@pytest.mark.parametrize(
    ("retries", "code", "event"), [(0, 500, "transient_error"), (149, 500, "transient_error"), (150, 200, "malformed")]
)
def test_a_task_of_a_newer_version_waits_a_day_for_a_newer_function(
    functions: Site, retries: int, code: int, event: str
) -> None:
    """Then it is dropped: no task is retried forever, and the sweep enqueues a task of this version."""
    answer = _task(functions, "triage", b'{"v":2,"job":"proj/job"}', retries)
    assert (answer.code, answer.events, answer.writes) == (code, [event], 0)


BAD_TRIGGERS = [
    {"id": ""}, {"id": None}, {"id": 5}, {"id": ["x"]}, {"title": 5}, {"url": []}, {"kind": "nonsense"}, {"kind": None},
    {"payload": []}, {"payload": "x"}, {"kind": "gitiles", "payload": {"repo": 5}}, {"kind": "gitiles"},
    {"kind": "buildbucket", "payload": {"tags": 5}}, {"kind": "buildbucket", "payload": {"tags": [5]}},
    {"kind": "buildbucket", "payload": {"properties": 7}}, {"created": 10**18 * 5000},
    {"created": -(10**18)}, {"created": "1"}, {"created": True}, {"created": 1.5},
    {"order_in_batch": -1}, {"order_in_batch": 10**12}, {"emitted_by_user": 5}, {"job_id": {}}, {"invocation_id": "16"},
]  # fmt: skip


@pytest.mark.parametrize("changes", BAD_TRIGGERS, ids=str)
def test_triggers_that_no_later_reader_could_decode(functions: Site, changes: dict[str, Any]) -> None:
    """They are refused at the entry point, and the job continues."""
    good = {"id": "t", "created": functions.world.clock.now(), "kind": "noop"}
    body = json.dumps({"job": JOB, "delivery": "d", "triggers": [{**good, **changes}]}).encode()
    answer = _task(functions, "trigger", body)
    assert (answer.code, answer.events, answer.writes) == (400, ["malformed"], 0)
    assert _task(functions, "trigger", json.dumps({"job": JOB, "triggers": [good]}).encode()).code == 200
    assert len(functions.world.invocations()) == 1
