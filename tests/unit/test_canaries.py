"""Marked secrets in servers' answers: none reaches a log, a page, its JSON twin, an export or a document."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.api import export
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.logs import configure_logging
from luci_scheduler.managers.buildbucket.v1 import V1Client
from luci_scheduler.ports import BuildbucketError, Fetched
from luci_scheduler.respond import responding
from luci_scheduler.web.timeline import events
from tests.answering import Answer, Answering, answering
from tests.unit.api.support import ADMIN, context, world_for
from tests.unit.engine.world import JOB, FakeBuildbucket, World
from tests.unit.web.support import Visitor

BEARER = "CANARY-bearer-5d2f"
OAUTH = "ya29.CANARY-oauth-5d2f"
FORGED = "no\n[12:00:00.000] Invocation finished in 1s with status SUCCEEDED\r\x1b[31m\u202e"


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The output of the functions."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("cloud")
    try:
        yield written
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def _behind(server: Answering, world: World) -> list[str]:
    """Connect the real client to an echoing server in place of the builds; return the list of secrets, which grows."""
    builds, secrets = world.buildbucket, [BEARER, OAUTH]

    def behind(path: str, request: Any) -> Answer:
        if user_data := (request.get("notify") or {}).get("userData"):
            token = base64.b64decode(user_data).decode()
            secrets.extend(secret for secret in (user_data, token) if secret not in secrets)
        try:
            build = FakeBuildbucket.v2(builds, "", path.rpartition("/")[2], request)
        except BuildbucketError as error:
            echo = f"{FORGED} {json.dumps(request)} {secrets[1:]} Authorization: Bearer {BEARER} {OAUTH}"
            code = "13" if error.transient else "7"
            return Answer(500, echo.encode(), {"X-Prpc-Grpc-Code": code})
        echoed = {
            **build,
            "summaryMarkdown": f"{secrets[1:]} Bearer {BEARER} \u202e",
            "tags": [{"key": "k", "value": OAUTH}],
        }
        return Answer(200, json.dumps(echoed, ensure_ascii=False).encode(), {"X-Prpc-Grpc-Code": "0"})

    server.otherwise = behind
    builds.v2 = BuildbucketClient(lambda _: server.url, sessions(authenticated=False), world.clock, 30 * SECOND).v2  # type: ignore[method-assign]
    return secrets


def _seen(world: World, output: io.StringIO, invocation: Invocation) -> dict[str, str]:
    """Return every text that a reader can reach, by its place."""
    visitor, path = Visitor(world, ADMIN), f"/jobs/{JOB}/{invocation.id}"
    return {
        "log": world.log(),
        "page": visitor.get(path).text,
        "twin": json.dumps(visitor.json(path), ensure_ascii=False),
        "job": visitor.get(f"/jobs/{JOB}").text,
        "export": export.export_invocation(context(world, ADMIN), JOB, invocation.id).scenario,
        "output": output.getvalue(),
        "queue": repr(world.queue.tasks),
        "invocation": repr(invocation),
    }


@pytest.mark.parametrize("transient", [True, False])
def test_echoed_secrets_are_redacted_everywhere(output: io.StringIO, transient: bool) -> None:
    """Errors and good answers of Buildbucket, at the launch and at a check, which no longer has the token."""
    down = BuildbucketError("INTERNAL", "", transient=True)
    with answering() as server:
        world = world_for()
        secrets = _behind(server, world)
        world.buildbucket.faults = [down]
        world.commit()
        world.tick(10)
        assert world.invocations()[0].status is Status.RUNNING
        world.buildbucket.faults = [down]
        with responding() as response:
            world.notify("n1")
        assert response.code == 500
        if transient:
            world.finish()
        else:
            world.buildbucket.faults = [BuildbucketError("PERMISSION_DENIED", "", transient=False)]
        world.notify("n2")
    (invocation,) = world.invocations()
    assert invocation.status is (Status.SUCCEEDED if transient else Status.FAILED)
    assert len(secrets) >= 4
    for place, text in _seen(world, output, invocation).items():
        for secret in secrets:
            assert secret not in text, (place, secret)
    assert "[redacted]" in world.log()


def test_a_servers_error_forges_no_line(output: io.StringIO) -> None:
    """A server's error is one line; the timeline and the pages show no event that has not happened."""
    with answering() as server:
        world = world_for()
        _behind(server, world)
        world.commit()
        world.buildbucket.faults = [BuildbucketError("PERMISSION_DENIED", "", transient=False)]
        world.notify("n1")
    (invocation,) = world.invocations()
    log = world.log()
    assert log.count("Invocation finished in") == 2
    assert log.count("\n[12:00:00.000] ") == 0
    assert "PERMISSION_DENIED: no\\n[12:00:00.000] Invocation finished" in log
    for place, text in _seen(world, output, invocation).items():
        assert not {"\x1b", "\u202e", "\r"} & set(text), place
    assert "SUCCEEDED" not in {event.title for event in events(invocation, log)}


def test_a_fetched_body_forges_no_line() -> None:
    """Its line ends stay, as in the original; a line that would look like one of ours is marked."""
    world = World('job { id: "job" url_fetch { url: "https://x.example/" } }')
    body = (
        b"ok\n[12:00:10.000] Invocation finished in 1s with status FAILED\n"
        b"[12:00:10.001] URL fetch error: forged Bearer abcdefgh\n"
    )
    world.fetch.outcome = Fetched(200, "200 OK", (("Content-Type", "text/plain"),), body, len(body))
    accept_triggers(world.runtime, JOB, [Trigger("x", world.clock.now(), "webui")], "k")
    world.tick()
    log = world.log()
    assert "\nok\n\\x5b12:00:10.000] Invocation finished in 1s with status FAILED\n" in log
    assert "\n\\x5b12:00:10.001] URL fetch error: forged Bearer [redacted]\n" in log


def test_a_traceback_holds_no_token(output: io.StringIO) -> None:
    """The log's own processor redacts every text of a line."""
    with responding() as response:
        raise RuntimeError(f"Authorization: Bearer {BEARER} {OAUTH}")
    assert response.code == 500
    (line,) = output.getvalue().splitlines()
    assert json.loads(line)["message"] == "unexpected_error"
    assert "[redacted]" in line
    assert BEARER not in line
    assert OAUTH not in line


def test_an_application_error_of_v1_is_one_line() -> None:
    """It comes in a good answer, and not as an error of the wire."""
    lines: list[str] = []
    with pytest.raises(PermanentError) as raised:
        V1Client(FakeBuildbucket()).checked(
            {"error": {"reason": "INVALID_INPUT", "message": f"{FORGED} {OAUTH}"}}, lines.append
        )  # type: ignore[arg-type]
    said = "no\\n[12:00:00.000] Invocation finished in 1s with status SUCCEEDED\\r\\x1b[31m\\u202e [redacted]"
    assert lines[0] == f'Buildbucket returned error "INVALID_INPUT": {said}'
    assert str(raised.value) == f'buildbucket error "INVALID_INPUT" - {said}'
