"""Every caller at every page, form and method: each gets what its role gives, and no hint of anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
from werkzeug.test import TestResponse

from luci_scheduler.api.access import Permission
from luci_scheduler.api.schema import METHODS, NEEDS, Method, fields_of
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import HOUR
from luci_scheduler.web.tokens import form_token
from tests.unit.api.support import Client
from tests.unit.engine.world import HOST, REPO, World

CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "refs/heads/main" }}
  triggers: "plain" triggers: "covert" }}
job {{ id: "plain" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}
job {{ id: "covert" realm: "secret" buildbucket {{ server: "{HOST}" bucket: "ci" builder: "b" }} }}
"""
PLAIN, HIDDEN = JobId("proj/plain"), JobId("proj/covert")
READ, TRIGGER = {Permission.GET}, {Permission.GET, Permission.TRIGGER}
ALL = set(Permission)
PEOPLE: Mapping[str, tuple[set[Permission], set[Permission]]] = {
    "admin": (ALL, ALL),
    "owner": (ALL, ALL),
    "triggerer": (TRIGGER, TRIGGER),
    "reader": (READ, READ),
    "plain-owner": (ALL, set()),  # of the realm @legacy only
    "plain-reader": (READ, set()),
    "elsewhere": (set(), set()),  # owner of another project
    "stranger": (set(), set()),
    "": (set(), set()),  # without a token
}
"""Caller → permissions on the plain job and on the hidden job."""
POLICY = {
    "version": 1,
    "admins": ["user:admin@example.com"],
    "grants": [
        {"project": "proj", "role": "OWNER", "to": ["user:owner@example.com"]},
        {"project": "proj", "role": "TRIGGERER", "to": ["user:triggerer@example.com"]},
        {"project": "proj", "role": "READER", "to": ["user:reader@example.com"]},
        {"project": "proj", "realm": "@legacy", "role": "OWNER", "to": ["user:plain-owner@example.com"]},
        {"project": "proj", "realm": "@legacy", "role": "READER", "to": ["user:plain-reader@example.com"]},
        {"project": "tint", "role": "OWNER", "to": ["user:elsewhere@example.com"]},
    ],
}
FORMS = {
    "triggerJob": Permission.TRIGGER,
    "pauseJob": Permission.PAUSE,
    "resumeJob": Permission.RESUME,
    "abortJob": Permission.ABORT,
    "backfillJob": Permission.TRIGGER,
    "abortInvocation": Permission.ABORT,
    "rerunInvocation": Permission.TRIGGER,
}


def _email(who: str) -> str:
    return f"{who}@example.com" if who else ""


@pytest.fixture(name="world", scope="module")
def _world() -> Iterator[World]:
    def drop(*_: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    world = World(CONFIG, access=json.dumps(POLICY))
    world.commit()
    yield world
    structlog.reset_defaults()


def _invocation(world: World, job: JobId) -> str:
    return str(world.invocations(job)[-1].id)


def _request(message: str, job: JobId, invocation: str) -> dict[str, Any]:
    """Return a request of a type that names a job, if it can."""
    project, name = job.split("/")
    reference = {"project": project, "job": name}
    values: dict[str, Any] = {
        "project": project, "job": name, "invocation_id": invocation, "repo": REPO, "revision": "a" * 40,
        "ref": "refs/heads/main", "request_id": "r", "reason": "r", "from_revision": "b" * 40, "to_revision": "a" * 40,
        "jobs": [reference], "trigger_ids": ["t"], "probe_id": "0" * 16, "preview": True,
        "batches": [{"trigger": {"id": "t", "noop": {}}, "jobs": [reference]}],
    }  # fmt: skip
    document = {}
    for field in fields_of(message):
        if field.kind in ("JobRef", "InvocationRef") and not field.is_repeated:
            document[field.name] = _request(field.kind, job, invocation)
        elif field.name in values:
            document[field.name] = values[field.name]
    if message == "TriggerJobRequest":
        del document["repo"], document["ref"], document["revision"]
    return document


def _call(client: Client, method: Method, who: str, job: JobId, invocation: str) -> TestResponse:
    body = json.dumps(_request(method.request, job, invocation)).encode()
    kind = "application/json"
    return client.http(method.path, body, _email(who), Content_Type=kind, Accept=kind)


def _names_a_job(method: Method) -> bool:
    """Return whether the request names the job, so that the caller must have the permission on it."""
    return "jobs" in _request(method.request, PLAIN, "1") or "job" in json.dumps(_request(method.request, PLAIN, "1"))


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("job", [PLAIN, HIDDEN])
def test_each_method_of_the_api(world: World, who: str, job: JobId) -> None:
    """403 for a visible job, 404 for others; a reply about other jobs never names the hidden one."""
    client, invocation = Client(world), _invocation(world, job)
    granted = PEOPLE[who][job == HIDDEN]
    for method in METHODS:
        with world.uncounted():
            writes = world.store.counts["W"]
            answer = _call(client, method, who, job, invocation)
            written = world.store.counts["W"] - writes
        about, needed = (method.service, method.name, answer.data), NEEDS[method.permission]
        if needed is None and who != "admin":
            assert answer.status_code == 403, about
        elif method.permission != "everyone" and needed is not None and _names_a_job(method):
            expected = _expected(needed, granted, is_named="EmitTriggers" in method.name or "jobs" in method.request)
            assert (answer.status_code in (200, 400)) == (expected == 200), about
            assert answer.status_code in (200, 400, expected), about
        if answer.status_code not in (200, 400):
            assert written == 0, about
        if job == PLAIN and Permission.GET not in PEOPLE[who][1]:
            assert b"covert" not in answer.data, about
        if Permission.GET not in PEOPLE[who][0]:
            assert b"9000" not in answer.data, about  # a build


def _expected(needed: Permission, granted: set[Permission], *, is_named: bool) -> int:
    if needed in granted:
        return 200
    return 403 if Permission.GET in granted else 404


@cache
def _pages(job: JobId, invocation: str) -> tuple[str, ...]:
    commit = urlencode({"repo": REPO, "revision": "a" * 40})
    return (f"/jobs/{job}", f"/jobs/{job}/{invocation}", f"/backfill/{job}", "/", "/jobs/proj", "/grid/proj",
            f"/commits?{commit}")  # fmt: skip


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("job", [PLAIN, HIDDEN])
@pytest.mark.parametrize("twin", ["", "format=json"])
def test_each_page(world: World, who: str, job: JobId, twin: str) -> None:
    """A page about a hidden job is that of an absent job, and no other page or twin names the hidden job."""
    client, invocation = Client(world), _invocation(world, job)
    granted, (sees_plain, sees_hidden) = PEOPLE[who][job == HIDDEN], (Permission.GET in p for p in PEOPLE[who])
    for page in _pages(job, invocation):
        path = page + (f"{'&' if '?' in page else '?'}{twin}" if twin else "")
        answer = client.http(path, b"", _email(who), "GET")
        about = (path, answer.status_code, answer.text[:300])
        if f"/{job}" in page:
            wanted = Permission.TRIGGER if page.startswith("/backfill/") else Permission.GET
            assert answer.status_code == _expected(wanted, granted, is_named=True), about
            absent = client.http(path.replace(f"/{job}", "/proj/absent"), b"", _email(who), "GET")
            if answer.status_code == 404:
                assert _plain(absent) == _plain(answer).replace(f"/{job}", "/proj/absent"), about
        elif not sees_hidden:
            assert "covert" not in answer.text, about
        if not sees_plain:
            assert "9000" not in answer.text, about


def _plain(answer: TestResponse) -> str:
    """Return a page without the values that differ each time."""
    lines = answer.text.splitlines()
    return "\n".join(line for line in lines if 'name="token"' not in line)


def _form(world: World, who: str, **changes: str) -> bytes:
    identity = f"user:{_email(who)}" if who else "anonymous:anonymous"
    fields = {"token": form_token("secret", identity, world.clock.now()), "key": "k", "reason": "r"}
    fields |= {"repo": REPO, "ref": "refs/heads/main", "from": "b" * 40, "to": "a" * 40}
    return urlencode({**fields, **changes}).encode()


def _act(world: World, action: str, who: str, job: JobId, body: bytes, **headers: str) -> TestResponse:
    path = f"/actions/{action}/{job}" + (f"/{_invocation(world, job)}" if action.endswith("Invocation") else "")
    kind = "application/x-www-form-urlencoded"
    return Client(world).http(path, body, _email(who), Content_Type=kind, **headers)


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("job", [PLAIN, HIDDEN])
def test_each_form(world: World, who: str, job: JobId) -> None:
    """A refused form writes nothing. A form cannot choose the page that follows."""
    granted = PEOPLE[who][job == HIDDEN]
    for action, needed in FORMS.items():
        world.store.counts.clear()
        body = _form(world, who, next="https://evil.example/", page="https://evil.example/")
        answer = _act(world, action, who, job, body)
        about = (action, answer.status_code, answer.text[:300])
        expected = _expected(needed, granted, is_named=True)
        if expected == 200:
            assert answer.status_code in (302, 400, 409), about
            assert "evil" not in answer.headers.get("Location", ""), about
        else:
            assert answer.status_code == expected, about
            assert world.store.counts["W"] == 0, about


FOREIGN: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "no token": ({"token": ""}, {}),
    "a made-up token": ({"token": "1772366400000.AAAA"}, {}),
    "a page of another site": ({}, {"Sec_Fetch_Site": "cross-site"}),
    "a page of a neighbor site": ({}, {"Sec_Fetch_Site": "same-site"}),
}


@pytest.mark.parametrize("action", FORMS)
def test_forms_of_other_pages(world: World, action: str) -> None:
    """Neither without a token of a page, nor with that of another person, key or day, nor from another site."""
    now = world.clock.now()
    tokens = {
        "another person": form_token("secret", "user:reader@example.com", now),
        "nobody": form_token("secret", "anonymous:anonymous", now),
        "another key": form_token("other", "user:owner@example.com", now),
        "yesterday": form_token("secret", "user:owner@example.com", now - 13 * HOUR),  # type: ignore[arg-type]
        "tomorrow": form_token("secret", "user:owner@example.com", now + HOUR),  # type: ignore[arg-type]
    }
    cases = {**FOREIGN, **{name: ({"token": token}, {}) for name, token in tokens.items()}}
    for name, (fields, headers) in cases.items():
        world.store.counts.clear()
        answer = _act(world, action, "owner", PLAIN, _form(world, "owner", **fields), **headers)
        assert (answer.status_code, world.counted()) == (403, "0R/0W/0c"), name


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1", "file://", "http://[", ""],
)
@pytest.mark.parametrize("path", ["/prpc/scheduler.Scheduler/PauseJob", "/api/v1/scheduler.Scheduler/PauseJob"])
def test_calls_of_other_pages(world: World, path: str, origin: str) -> None:
    """A browser names the site of a page that sends a request, and the API refuses all but its own."""
    kind = "application/json"
    world.store.counts.clear()
    body = b'{"project":"proj","job":"plain"}'
    answer = Client(world).http(path, body, _email("owner"), Content_Type=kind, Accept=kind, Origin=origin)
    assert (answer.status_code, world.counted()) == (403, "0R/0W/0c")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("path", ["/prpc/scheduler.Scheduler/PauseJob", "/api/v1/scheduler.Scheduler/PauseJob"])
def test_calls_in_the_form_of_a_form(world: World, path: str, kind: str) -> None:
    """These are the types that a page of another site sends without asking first. A link calls nothing either."""
    client = Client(world)
    world.store.counts.clear()
    body = b'{"project":"proj","job":"plain"}'
    answer = client.http(path, body, _email("owner"), Content_Type=kind, Accept="application/json")
    assert answer.status_code == 415
    assert client.http(path, b"", _email("owner"), "GET").status_code == 405
    assert world.counted() == "0R/0W/0c"


@pytest.mark.parametrize("policy", ["", "{", '{"version": 2}', '{"version": 1, "grants": [{"project": "proj"}]}'])
def test_without_a_valid_policy_all_access_is_denied(policy: str) -> None:
    """Pages, forms and calls of every person, before anything is read."""
    denied = World(CONFIG, access=policy)
    client = Client(denied)
    for who in PEOPLE:
        for page in ("/", "/jobs/proj", f"/jobs/{PLAIN}"):
            assert client.http(page, b"", _email(who), "GET").status_code == 403, (who, page)
        for method in METHODS:
            if method.permission != "everyone":
                assert _call(client, method, who, PLAIN, "16").status_code == 403, (who, method)
        action = "application/x-www-form-urlencoded"
        form = client.http(f"/actions/pauseJob/{PLAIN}", _form(denied, who), _email(who), Content_Type=action)
        assert form.status_code == 403
    assert denied.counted() == "0R/0W/0c"
