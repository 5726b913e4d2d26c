"""url_fetch: its log, its outcome, and how the engine runs it."""

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.core.instants import MINUTE, SECOND
from luci_scheduler.core.invocation import Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.triggers import accept_triggers
from luci_scheduler.managers.registry import launch_time
from luci_scheduler.managers.url_fetch.manager import dump_response
from luci_scheduler.ports import Fetched, FetchError, PutJob, UpdateInvocation
from tests.unit.engine.world import JOB, World

URL = "https://example.com/hook?x=%25d"
TEXT = ("Content-Type", "text/plain")


def world(task: str = f'url: "{URL}"', **fields: str) -> World:
    """Return a world whose only job fetches a URL; ``fields`` sets task fields that no config may have."""
    it = World(f'job {{ id: "job" url_fetch {{ {task} }} }}')
    found = it.store.job(JOB)
    assert found is not None
    bad = TaskDefinition("url_fetch", {**found.value.definition.task.fields, **fields})
    definition = replace(found.value.definition, task=bad)
    it.store.commit([PutJob(replace(found.value, definition=definition), found.version)])
    return it


def triggered(it: World, trigger_id: str = "t1") -> World:
    """Trigger the job of a world, and deliver the tasks that are due."""
    trigger = Trigger(trigger_id, it.clock.now(), "webui")
    accept_triggers(it.runtime, JOB, [trigger], trigger_id)
    it.tick(1)
    return it


def answer(body: bytes = b"", *headers: tuple[str, str], code: int = 200, length: int | None = None) -> Fetched:
    """Return a response."""
    return Fetched(code, f"{code} Words", headers, body, length)


@pytest.mark.parametrize(
    ("outcome", "summary"),
    [(answer(code=503), "503 Words"), (FetchError("no answer in time"), "no answer in time"), (answer(), "")],
)
def test_summaries(outcome: Fetched | FetchError, summary: str) -> None:
    """The invocation keeps the status line, or the reason why there is no answer."""
    it = world()
    it.fetch.outcome = outcome
    triggered(it)
    assert [item.summary for item in it.invocations()] == [summary]


def test_golden_log() -> None:
    """The whole log of a fetch: percent signs stay, headers are sorted and end in CRLF, an empty line follows."""
    it = world()
    it.fetch.outcome = answer(b"100%s %d\n", ("X-b", "2"), ("x-A", "1%v"), TEXT, ("X-B", "1"), length=9)
    triggered(it)
    assert it.log() == (
        "[12:00:00.000] New invocation is queued and will start shortly\n"
        "[12:00:01.000] Starting the invocation (attempt 1)\n"
        "[12:00:01.000] GET https://example.com/hook?x=%25d\n"
        "[12:00:11.000] Finished with overall status SUCCEEDED in 10s\n"
        "[12:00:11.000] 200 Words\n"
        "Content-Type: text/plain\r\n"
        "X-A: 1%v\r\n"
        "X-B: 2\r\n"
        "X-B: 1\r\n"
        "\n"
        "100%s %d\n"
        "\n"
        "[12:00:11.000] Invocation finished in 11s with status SUCCEEDED\n"
    )
    (invocation,) = it.invocations()
    assert (invocation.status, invocation.mutations) == (Status.SUCCEEDED, 3)
    assert it.fetch.calls == [(URL, 60 * SECOND, 4096)]


def test_golden_log_of_an_error() -> None:
    """Without a response the invocation fails at once; there is no retry."""
    it = world(f'method: "GET" url: "{URL}" timeout_sec: 7')
    it.fetch.outcome = FetchError("no answer from example.com: Connection refused")
    triggered(it)
    assert it.log().splitlines()[3:] == [
        "[12:00:11.000] Finished with overall status FAILED in 10s",
        "[12:00:11.000] URL fetch error: no answer from example.com: Connection refused",
        "[12:00:11.000] Invocation finished in 11s with status FAILED",
    ]
    assert it.fetch.calls == [(URL, 7 * SECOND, 4096)]
    assert it.queue.tasks == []


@pytest.mark.parametrize(("code", "status"), [(200, "SUCCEEDED"), (399, "SUCCEEDED"), (400, "FAILED"), (503, "FAILED")])
def test_code_decides(code: int, status: str) -> None:
    """A code of 400 or more fails the invocation."""
    it = world()
    it.fetch.outcome = answer(code=code)
    triggered(it)
    assert it.invocations()[0].status == status


def test_credentials_and_control_characters_reach_no_log() -> None:
    """The log shows no user information, no cookies and no escape sequences."""
    it = world(url="https://user:canary@example.com/\n[00:00:00.000] forged")
    it.fetch.outcome = answer(
        b"a\x1b[2Jb\xff\r\n",
        TEXT,
        ("set-cookie", "sid=canary"),
        ("Authorization", "Bearer canary"),
        ("X", "\x1b]0;\x9b"),
    )
    triggered(it)
    log = it.log()
    assert "canary" not in log
    assert "GET https://xxxxx@example.com/\\n[00:00:00.000] forged\n" in log
    assert "Set-Cookie: <redacted>\r\n" in log
    assert "X: \\x1b]0;\\u009b\r\n" in log
    assert "a\\x1b[2Jb\ufffd\r\n" in log


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(), "200 Words\n\n<empty body>\n"),
        (answer(b"", TEXT, length=5), "200 Words\nContent-Type: text/plain\r\n\n<empty body>\n"),
        (answer(b"ab", TEXT), "200 Words\nContent-Type: text/plain\r\n\nab\n"),
        (answer(b"ab", TEXT, length=2), "200 Words\nContent-Type: text/plain\r\n\nab\n"),
        (answer(b"ab", TEXT, length=3), "200 Words\nContent-Type: text/plain\r\n\nab\n<truncated>\n"),
        (answer(b"ab\n", TEXT, length=4), "200 Words\nContent-Type: text/plain\r\n\nab\n<truncated>\n"),
        (
            answer(b"{}", ("Content-Type", "application/json; charset=utf-8")),
            "200 Words\nContent-Type: application/json; charset=utf-8\r\n\n{}\n",
        ),
        (answer(b"<a/>", ("Content-Type", "application/xml")), "200 Words\nContent-Type: application/xml\r\n\n<a/>\n"),
        (answer(b"ab", ("Content-Type", "image/png")), "200 Words\nContent-Type: image/png\r\n\n<binary response>\n"),
        (answer(b"ab", length=9), "200 Words\n\n<binary response>\n"),
        (
            answer(b"ab", TEXT, ("Content-Encoding", "gzip")),
            "200 Words\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\n\n<binary response>\n",
        ),
        (answer(b"", ("transfer-encoding", "chunked"), ("a b", " c\t")), "200 Words\na b: c\r\n\n<empty body>\n"),
    ],
)
def test_the_log_shows_only_readable_bodies(given: Fetched, expected: str) -> None:
    """The log shows a body of text and marks a cut; it only names compressed and binary bodies."""
    assert dump_response(given) == expected


def test_other_methods_fail() -> None:
    """Only GET is supported."""
    it = triggered(world(method="POST"))
    assert it.invocations()[0].status is Status.FAILED
    assert it.fetch.calls == []


@pytest.mark.parametrize(("seconds", "expected"), [(0, 60 * SECOND), (1, SECOND), (480, 8 * MINUTE), (900, 8 * MINUTE)])
def test_launch_time(seconds: int, expected: int) -> None:
    """The default is a minute, the maximum is eight."""
    fields: dict[str, Any] = {"timeout_sec": seconds} if seconds else {}
    assert launch_time(TaskDefinition("url_fetch", fields)) == expected


def test_the_fetch_runs_in_a_separate_task() -> None:
    """The delivery of the trigger queues a launch task. A repeated delivery queues it again; one fetch happens."""
    it = world()
    trigger = Trigger("t1", it.clock.now(), "webui")
    accept_triggers(it.runtime, JOB, [trigger], "d1")
    accept_triggers(it.runtime, JOB, [trigger], "d1")
    assert it.fetch.calls == []
    assert [task.kind for task in it.queue.tasks] == ["launch", "launch"]
    it.tick(1)
    assert len(it.fetch.calls) == 1
    assert [invocation.status for invocation in it.invocations()] == [Status.SUCCEEDED]


def test_claim_outlives_the_fetch() -> None:
    """During a long fetch, no other handler treats the launch as abandoned."""
    it = world(f'url: "{URL}" timeout_sec: 300')

    def look() -> None:
        (invocation,) = it.invocations()
        assert invocation.claim_until is not None
        assert invocation.claim_until - it.clock.now() > 300 * SECOND
        it.fetch.on_fetch = None
        it.run_task(launch)

    trigger = Trigger("t1", it.clock.now(), "webui")
    accept_triggers(it.runtime, JOB, [trigger], "d1")
    (launch,) = it.queue.tasks
    it.fetch.on_fetch = look
    it.tick(1)
    assert len(it.fetch.calls) == 1
    assert it.invocations()[0].status is Status.SUCCEEDED


def test_abort_during_the_fetch() -> None:
    """The abort takes effect at once. The result of the fetch is dropped, and the fetch is not repeated."""
    it = world()
    it.fetch.on_fetch = lambda: abort_invocation(it.runtime, JOB, it.invocations()[0].id, "user:a@b.c", "abort")
    triggered(it)
    it.tick(10)
    assert it.invocations()[0].status is Status.ABORTED
    assert len(it.fetch.calls) == 1
    assert "Invocation was manually aborted by user:a@b.c" in it.log()
    assert "Finished with overall status" not in it.log()


def test_a_lost_race_fetches_once() -> None:
    """A launch that decides again keeps the response and its duration."""
    it = world()

    def touch() -> None:
        """Commit another change of the same document during the fetch."""
        (invocation,) = it.invocations()
        found = it.store.invocation(JOB, invocation.id)
        assert found is not None
        it.store.commit([UpdateInvocation(replace(found.value, last_event="other", commits=99), found.version)])

    it.fetch.on_fetch = touch
    triggered(it)
    assert len(it.fetch.calls) == 1
    assert it.invocations()[0].status is Status.SUCCEEDED
    assert it.log().count("Finished with overall status SUCCEEDED in 10s") == 1
