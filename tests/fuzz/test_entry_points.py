"""Generated bodies at every entry point: no defect, and for each refusal one log line and no write.

Every run draws the same bodies. FUZZ_BODIES and FUZZ_SEED set their number and their seed.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
import structlog
from google.auth import jwt
from google.protobuf import json_format, text_format

from luci_scheduler.api.schema import METHODS, fields_of, message_class
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.engine.tasks import TASK_KINDS
from luci_scheduler.web.tokens import form_token
from tests.fuzz.hostile import Hostile
from tests.fuzz.site import CONSOLE, ON_TASK, Answer, Site, site
from tests.unit.api.support import ADMIN, OWNER, READER, STRANGER
from tests.unit.engine.world import JOB, REPO

BODIES = int(os.environ.get("FUZZ_BODIES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
WHO = (ADMIN, OWNER, READER, STRANGER, "")
REVISION = "c" * 40

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="functions")
def _functions() -> Iterator[Site]:
    with site() as served:
        served.world.commit()
        structlog.contextvars.clear_contextvars()
        yield served


Send = Callable[[Hostile], tuple[Answer, Any]]


def _fuzz(name: str, send: Send, check: Callable[[Answer], bool]) -> Counter[int]:
    """Send the bodies; ``check`` judges each answer. A failure shows the body of the wrong answer."""
    hostile, codes = Hostile(SEED), Counter[int]()
    for number in range(BODIES):
        answer, sent = send(hostile)
        codes[answer.code] += 1
        assert not answer.is_fault, (name, number, sent, answer)
        assert check(answer), (name, number, sent, answer)
    print(f"\n{name}: {BODIES} bodies, answers {dict(sorted(codes.items()))}")  # noqa: T201 - the measure
    return codes


def _refused_in_one_way(answer: Answer) -> bool:
    """Whether a delivery is done, is delivered again, or is refused with one line and without a write."""
    if answer.code in (200, 409) and "permanent_error" not in answer.events:
        return True
    return answer.writes == 0 and len(answer.lines) == 1


EVENT = {"repo": REPO, "ref": "refs/heads/main", "revision": REVISION}
GERRIT = {
    "url": REPO,
    "refUpdateEvent": {
        "refUpdates": {
            "refs/heads/x": {"refName": "refs/heads/x", "updateType": "UPDATE_FAST_FORWARD", "newId": REVISION}
        }
    },
}


def _push(hostile: Hostile, data: bytes, attributes: dict[str, Any]) -> bytes:
    """Return a Pub/Sub push, damaged or not."""
    message = {
        "messageId": str(hostile.pick(range(10**6))),
        "publishTime": "2026-03-01T12:00:00Z",
        "data": hostile.base64(data),
        "attributes": attributes,
    }
    body = {"message": message, "subscription": "projects/p/subscriptions/s"}
    return json.dumps(body).encode() if hostile.entropy() < 0.5 else hostile.body(body)


def _event_headers(hostile: Hostile) -> dict[str, str]:
    headers = {
        "Content-Type": hostile.pick(("application/json",) * 6 + ("text/plain", "", "application/cloudevents+json"))
    }
    if hostile.entropy() < 0.15:
        names = ("ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time")
        good = ("1", "google.cloud.pubsub.topic.v1.messagePublished", "//pubsub", "1.0", "2026-03-01T12:00:00Z")
        headers |= {
            name: value if hostile.entropy() < 0.8 else hostile.header()
            for name, value in zip(names, good, strict=True)
        }
    if hostile.entropy() < 0.1:
        headers |= {"traceparent": hostile.header(), "X-Cloud-Trace-Context": hostile.header()}
    return headers


def test_commit_events(functions: Site) -> None:
    """Messages of the topic ``gitiles-commit``, and bodies that are not."""

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        data = hostile.body(hostile.pick((EVENT, GERRIT)))
        body, headers = _push(hostile, data, {}), _event_headers(hostile)
        return functions.call("on_gitiles_commit", "/projects/p/topics/t", body, headers), (body, headers)

    codes = _fuzz("on_gitiles_commit", send, _refused_in_one_way)
    assert min(codes[200], codes[400]) > BODIES / 50


def test_generated_notifications(functions: Site) -> None:
    """Messages of a build service's topic with good and bad tokens. Only those with good tokens write."""
    secret, now = "secret", functions.world.clock.now()
    (invocation,) = functions.world.invocations()
    good = make_token(secret, JOB, invocation.id, now)
    tokens = [good, make_token("other", JOB, invocation.id, now), make_token(secret, JOB, InvocationId(16), now), ""]

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        token = hostile.pick(tokens) if hostile.entropy() < 0.5 else hostile.text()
        encoded = base64.b64encode(token.encode(errors="replace")).decode()
        data = hostile.body({"buildPubsub": {"build": {"id": "9000"}}, "userData": encoded, "user_data": token})
        attributes = {"auth_token": hostile.pick((token, hostile.value(1)))} if hostile.entropy() < 0.4 else {}
        body, headers = _push(hostile, data, attributes), _event_headers(hostile)
        return functions.call("on_build_completion", "/projects/p/topics/t", body, headers), (body, headers)

    codes = _fuzz("on_build_completion", send, _refused_in_one_way)
    assert min(codes[200], codes[400]) > BODIES / 50


def test_messages_of_cloud_build(functions: Site) -> None:
    """Anybody may start a build in the project, with any substitutions: no message writes, and none is refused."""
    (invocation,) = functions.world.invocations()

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        texts = {"APP": "luci-scheduler", "JOB": JOB, "INVOCATION": str(invocation.id)}
        values = {
            f"_SCHEDULER_{name}": text if hostile.entropy() < 0.8 else hostile.value(1) for name, text in texts.items()
        }
        data = hostile.body({"id": hostile.pick(("b", "../x", 5)), "status": "QUEUED", "substitutions": values})
        body, headers = _push(hostile, data, {}), _event_headers(hostile)
        return functions.call("on_cloud_build", "/projects/p/topics/cloud-builds", body, headers), (body, headers)

    codes = _fuzz("on_cloud_build", send, lambda answer: answer.writes == 0)
    assert min(codes[200], codes[400]) > BODIES / 50


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _odd_tokens(functions: Site, audience: str) -> list[str]:
    """Return tokens with a valid signature and other claims, and texts that are not tokens."""
    now = functions.world.clock.now() // 10**9
    good = {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "email": OWNER,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    values: list[Any] = [
        None,
        "",
        "x",
        0,
        -1,
        10**30,
        float("nan"),
        float("inf"),
        float("-inf"),
        True,
        [],
        {},
        ["x"],
        "\ud800",
        {"x": 1},
    ]
    signed = []
    for name in good:
        for value in values:
            if (name, value) != ("email_verified", True):
                claims = {**good, name: value}
                signed.append(jwt.encode(functions.issuer._signer, claims).decode())
    head = _segment(json.dumps({"alg": "RS256", "kid": functions.issuer.key_id}).encode())
    deep = b"[" * 8_000
    parts = [
        head,
        _segment(deep),
        _segment(b"null"),
        _segment(b"[]"),
        _segment(b'{"alg":[]}'),
        _segment(b'{"alg":"RS256","kid":{}}'),
        "ey",
        "!",
        "",
    ]
    made = [
        f"{first}.{second}.{third}" for first in parts for second in parts for third in ("", "AA", _segment(b"x" * 256))
    ]
    return [*signed, *made, "x" * 20_000, "a.b", "ey.ey.ey.ey"]


def _authorizations(functions: Site, audience: str) -> Callable[[Hostile], dict[str, str]]:
    tokens = _odd_tokens(functions, audience)

    def draw(hostile: Hostile) -> dict[str, str]:
        if hostile.entropy() < 0.1:
            return {}
        scheme = hostile.pick(("Bearer", "Bearer", "Bearer", "bearer", "OAuth", "Basic", ""))
        token = hostile.pick(tokens) if hostile.entropy() < 0.8 else hostile.header()
        return {"Authorization": f"{scheme} {token}"}

    return draw


NOW = 1_772_366_400 * 10**9
TASKS: dict[str, dict[str, Any]] = {
    "abort": {"job": JOB, "invocation": "16", "created": NOW, "who": "user:a@b.c", "reason": "r"},
    "cleanup": {"job": JOB, "invocation": "16", "attempts": 0, "created": NOW},
    "cron": {"job": JOB, "nonce": 1, "generation": 1, "created": NOW},
    "deferred": {"deferred": "trigger-0123456789abcdef", "tries": 0, "created": NOW},
    "dispatch": {"job": JOB, "invocation": "16", "mutation": 1, "created": NOW},
    "dispatch-to": {"job": JOB, "invocation": "16", "target": "proj/x", "first": 0, "created": NOW},
    "launch": {"job": JOB, "invocation": "16", "attempts": 0, "created": NOW},
    "probe": {"probe": "0123456789abcdef"},
    "sweep": {"after": {"due": 5, "job": JOB, "invocation": "16"}},
    "timer": {"job": JOB, "invocation": "16", "timer": f"{JOB}:16:2:0", "created": NOW},
    "triage": {"job": JOB},
    "trigger": {
        "job": JOB,
        "delivery": "d",
        "triggers": [
            {
                "id": "t",
                "created": NOW,
                "kind": "gitiles",
                "title": "t",
                "url": "u",
                "payload": {"repo": REPO, "ref": "r", "revision": "v", "tags": ["a:b"], "properties": {"x": [1]}},
            },
            {"id": "c", "created": NOW, "kind": "cron", "payload": {"generation": 5}, "emitted_by_user": "user:a"},
        ],
    },
}


def _task(hostile: Hostile) -> tuple[str, bytes, dict[str, str]]:
    kind = hostile.pick(tuple(TASKS))
    body = hostile.body(TASKS[kind])
    if hostile.entropy() < 0.05:
        kind = hostile.text()
    headers = {"X-CloudTasks-TaskName": hostile.header()} if hostile.entropy() < 0.2 else {}
    if hostile.entropy() < 0.1:
        headers["X-CloudTasks-TaskRetryCount"] = hostile.pick(("10", "x", "-1", "9" * 30, ""))
    return kind, body, headers


def test_tasks_from_other_accounts(functions: Site) -> None:
    """Nothing but the token is read: 401, one log line, no read and no write."""
    draw = _authorizations(functions, ON_TASK)

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        kind, body, headers = _task(hostile)
        headers |= draw(hostile)
        functions.world.store.counts.clear()
        return functions.call("on_task", f"/{kind}".encode(errors="replace").decode("latin-1"), body, headers), (
            body,
            headers,
        )

    def check(answer: Answer) -> bool:
        untouched = functions.world.store.counts["R"] == answer.writes == 0
        # The framework has no route for an address with a line feed.
        wanted = ["unauthenticated"] if answer.code == 401 else ["refused_by_framework"]
        return answer.code in (401, 404) and answer.events == wanted and untouched

    codes = _fuzz("on_task, stranger", send, check)
    assert codes[401] > BODIES * 9 / 10


def test_generated_tasks(functions: Site) -> None:
    """From the queue's own account: malformed tasks are refused, and accepted tasks break no later triage."""
    assert {*TASKS, "sync"} == set(TASK_KINDS)
    authorization = functions.token()

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        kind, body, headers = _task(hostile)
        headers["Authorization"] = authorization
        return functions.call("on_task", f"/{kind}".encode(errors="replace").decode("latin-1"), body, headers), (
            kind,
            body,
        )

    codes = _fuzz("on_task", send, _refused_in_one_way)
    assert min(codes[200], codes[400]) > BODIES / 50
    answer = functions.call("on_task", "/triage", json.dumps({"job": JOB}).encode(), {"Authorization": authorization})
    assert (answer.code, answer.is_fault) == (200, False)
    data = base64.b64encode(json.dumps(EVENT).encode()).decode()
    body = {"messageId": "last", "publishTime": "2026-03-01T12:00:00Z", "data": data}
    message = {"message": body, "subscription": "s"}
    assert (
        functions.call(
            "on_gitiles_commit", "/", json.dumps(message).encode(), {"Content-Type": "application/json"}
        ).code
        == 200
    )
    page = functions.call("console", f"/jobs/{JOB}", headers=_signed_in(functions, OWNER), REQUEST_METHOD="GET")
    assert (page.code, page.is_fault) == (200, False)


def _signed_in(functions: Site, who: str) -> dict[str, str]:
    return {"Authorization": functions.token(CONSOLE, who)} if who else {}


def _example(message: str, depth: int = 0) -> dict[str, Any]:
    """Return a request with every field set."""
    values: dict[str, Any] = {
        "string": "proj",
        "bool": True,
        "int32": 1,
        "int64": "16",
        "Struct": {"a": [1, {"b": None}]},
    }
    document = {}
    for field in fields_of(message):
        value = values[field.kind] if field.kind in values else _example(field.kind, depth + 1)
        value = {"job": "job", "ref": "refs/heads/main", "repo": REPO, "revision": REVISION}.get(field.name, value)
        if not field.is_payload or field.name == "gitiles":
            document[field.name] = [value] if field.is_repeated else value
    return document


def _encoded(hostile: Hostile, request: str) -> tuple[bytes, str]:
    document = _example(request)
    match hostile.pick(("json", "json", "binary", "text")):
        case "json":
            return hostile.body(document), "application/json"
        case "binary":
            message = json_format.ParseDict(document, message_class(request)())
            return hostile.damaged(message.SerializeToString()), "application/prpc; encoding=binary"
        case _:
            message = json_format.ParseDict(document, message_class(request)())
            return hostile.damaged(text_format.MessageToString(message).encode()), "application/prpc; encoding=text"


def _plain(hostile: Hostile, request: str) -> tuple[bytes, str]:
    """Return a request of the plain form, whose members are in camel case."""

    def camel(value: Any) -> Any:
        if isinstance(value, list):
            return [camel(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {re.sub("_([a-z])", lambda found: found[1].upper(), name): camel(item) for name, item in value.items()}

    return hostile.body(camel(_example(request))), "application/json"


def _in_one_line(answer: Answer) -> bool:
    """Whether the console has refused a request with one answer. A malformed request is logged once, never twice."""
    if answer.code < 400:
        return True
    wanted = ["request_refused"] if answer.code in (400, 401, 405, 406, 413, 415, 429) else answer.events[:1]
    return answer.writes == 0 and answer.events == wanted and "X-Content-Type-Options" in answer.headers


def test_api_calls(functions: Site) -> None:
    """Every method, in both forms and all encodings, compressed or not, by five callers and with invalid tokens."""
    draw, signed_in = _authorizations(functions, CONSOLE), {who: _signed_in(functions, who) for who in WHO}

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        method, is_plain = hostile.pick(METHODS), hostile.entropy() < 0.4
        path = method.plain_path if is_plain else method.path
        body, kind = _plain(hostile, method.request) if is_plain else _encoded(hostile, method.request)
        headers = {"Content-Type": kind, "Accept": hostile.pick(("application/json", kind, "*/*"))}
        headers |= {"Accept": hostile.header()} if hostile.entropy() < 0.05 else {}
        if hostile.entropy() < 0.2:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
            body = hostile.damaged(body) if hostile.entropy() < 0.4 else body
        name = hostile.pick(
            ("X-Prpc-Grpc-Timeout", "X-Prpc-Max-Response-Size", "Trace-Bin", "Origin", "Content-Encoding")
        )
        headers |= {name: hostile.header()} if hostile.entropy() < 0.1 else {}
        headers |= signed_in[hostile.pick(WHO)] if hostile.entropy() < 0.85 else draw(hostile)
        length = {"CONTENT_LENGTH": hostile.pick(("", "x", "-1", "9" * 9))} if hostile.entropy() < 0.05 else {}
        return functions.call("console", path, body, headers, **length), (path, body, headers, length)

    codes = _fuzz("API", send, _in_one_line)
    assert min(codes[200], codes[400], codes[401], codes[404]) > BODIES / 100


PATHS = (
    "",
    "jobs",
    "proj",
    "job",
    "commits",
    "backfill",
    "grid",
    "actions",
    "triggerJob",
    "abortInvocation",
    "assets",
    "style.css",
    "16",
    "prpc",
    "description",
)


def _path(hostile: Hostile) -> str:
    parts = [
        hostile.pick(PATHS) if hostile.entropy() < 0.85 else hostile.header() for _ in range(hostile.pick(range(6)))
    ]
    if hostile.entropy() < 0.4:
        parts = ["jobs", "proj", "job", *parts[:1]]
    return "/" + "/".join(parts)


def _query(hostile: Hostile) -> str:
    names = ("format", "c", "repo", "ref", "revision", "from", "to", "filter", "job", "done", hostile.text())
    pairs = [(hostile.pick(names), hostile.text()) for _ in range(hostile.pick(range(4)))]
    text = urlencode([(a.encode(errors="replace"), b.encode(errors="replace")) for a, b in pairs])
    return text if hostile.entropy() < 0.9 else quote_from_bytes(hostile.bytes(9), safe="%&=+")


def test_generated_page_addresses(functions: Site) -> None:
    """Addresses with any path and query, by five callers and with invalid tokens: a page, an error, or a redirect."""
    draw, signed_in = _authorizations(functions, CONSOLE), {who: _signed_in(functions, who) for who in WHO}

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        path, query = _path(hostile), _query(hostile)
        headers = signed_in[hostile.pick(WHO)] if hostile.entropy() < 0.85 else draw(hostile)
        method = hostile.pick(("GET", "GET", "GET", "HEAD", "PUT", "OPTIONS"))
        return functions.call("console", path, b"", headers, QUERY_STRING=query, REQUEST_METHOD=method), (
            path,
            query,
            headers,
        )

    codes = _fuzz("pages", send, lambda answer: answer.writes == 0 and _in_one_line(answer))
    assert min(codes[200], codes[401], codes[404], codes[405]) > BODIES / 100


def test_generated_forms(functions: Site) -> None:
    """Posts to any path, urlencoded or not, with and without a valid form token, sent whole or in chunks."""
    clock, kinds = (
        functions.world.clock,
        ("application/x-www-form-urlencoded",) * 5 + ("multipart/form-data; boundary=x", "text/plain", ""),
    )
    draw, signed_in = _authorizations(functions, CONSOLE), {who: _signed_in(functions, who) for who in WHO}
    actions = ("triggerJob", "pauseJob", "resumeJob", "abortJob", "backfillJob", "abortInvocation", "rerunInvocation")

    def send(hostile: Hostile) -> tuple[Answer, Any]:
        who, action = hostile.pick(WHO), hostile.pick(actions)
        path = f"/actions/{action}/proj/job" + ("/16" if "Invocation" in action else "")
        path = path if hostile.entropy() < 0.7 else _path(hostile)
        token = form_token("secret", f"user:{who}" if who else "anonymous:anonymous", clock.now())
        fields = {
            "token": token,
            "key": hostile.text(),
            "repo": hostile.text(),
            "ref": hostile.text(),
            "from": "a" * 40,
            "to": hostile.text(),
        }
        fields = {name: value for name, value in fields.items() if hostile.entropy() < 0.9}
        body = urlencode({name: value.encode(errors="replace") for name, value in fields.items()}).encode()
        body = (
            body
            if hostile.entropy() < 0.7
            else hostile.pick((hostile.damaged(body), b"x=" + b"y" * 70_000, b"--x\r\n" + body))
        )
        headers = {
            "Content-Type": hostile.pick(kinds),
            **(signed_in[who] if hostile.entropy() < 0.9 else draw(hostile)),
        }
        headers |= {"Sec-Fetch-Site": hostile.pick(("same-origin", "cross-site", hostile.header()))}
        length = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"} if hostile.entropy() < 0.2 else {}
        return functions.call("console", path, body, headers, **length), (path, body[:2000], headers, length)

    codes = _fuzz("forms", send, _in_one_line)
    assert min(codes[302], codes[403], codes[413]) > BODIES / 100
