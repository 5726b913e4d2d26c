"""Queue tasks: codecs, versions, and the table of handlers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from luci_scheduler.core import queue_tasks
from luci_scheduler.core.due_cursor import DueCursor
from luci_scheduler.core.errors import MalformedError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId, timer_id
from luci_scheduler.core.instants import LAST_INSTANT, Instant
from luci_scheduler.core.queue_tasks import (
    AbortTask,
    CleanupTask,
    DeferredTask,
    DispatchTask,
    DispatchToTask,
    LaunchTask,
    ProbeTask,
    SweepTask,
    SyncTask,
    Task,
    TickTask,
    TimerTask,
    TriageTask,
    TriggerTask,
    with_version,
)
from luci_scheduler.core.trigger import PayloadKind, Trigger
from luci_scheduler.engine.tasks import TASK_KINDS, on_task, read_task
from luci_scheduler.respond import responding
from tests.unit.engine.world import World

JOB = JobId("proj/job")
INVOCATION = InvocationId(9_104_120_001_953_349_632)
CREATED = Instant(1_772_366_400_123_456_789)
TRIGGER = Trigger(
    "t", CREATED, "gitiles", {"repo": "https://x", "ref": "refs/heads/main", "revision": "a"}, title="title"
)

RELEASED: list[tuple[Task, dict[str, Any]]] = [
    (
        LaunchTask(JOB, INVOCATION, 2, CREATED),
        {"job": "proj/job", "invocation": "9104120001953349632", "attempts": 2, "created": 1772366400123456789},
    ),
    (
        TimerTask(JOB, INVOCATION, "proj/job:9104120001953349632:3:0", CREATED),
        {
            "job": "proj/job",
            "invocation": "9104120001953349632",
            "timer": "proj/job:9104120001953349632:3:0",
            "created": 1772366400123456789,
        },
    ),
    (
        AbortTask(JOB, INVOCATION, CREATED),
        {"job": "proj/job", "invocation": "9104120001953349632", "created": 1772366400123456789},
    ),
    (
        AbortTask(JOB, INVOCATION, who="user:a@example.com", reason="too slow"),
        {
            "job": "proj/job",
            "invocation": "9104120001953349632",
            "who": "user:a@example.com",
            "reason": "too slow",
        },
    ),
    (
        CleanupTask(JOB, INVOCATION, 1, CREATED),
        {"job": "proj/job", "invocation": "9104120001953349632", "attempts": 1, "created": 1772366400123456789},
    ),
    (
        DispatchTask(JOB, INVOCATION, 4, CREATED),
        {"job": "proj/job", "invocation": "9104120001953349632", "mutation": 4, "created": 1772366400123456789},
    ),
    (
        DispatchToTask(JOB, INVOCATION, JobId("proj/other"), 5, CREATED),
        {
            "job": "proj/job",
            "invocation": "9104120001953349632",
            "target": "proj/other",
            "first": 5,
            "created": 1772366400123456789,
        },
    ),
    (
        TickTask(JOB, 8_123_456_789_012_345_678, 6, CREATED),
        {"job": "proj/job", "nonce": "8123456789012345678", "generation": 6, "created": 1772366400123456789},
    ),
    (TriageTask(JOB, CREATED), {"job": "proj/job", "created": 1772366400123456789}),
    (
        TriggerTask(JOB, (TRIGGER,), "commit-1"),
        {
            "job": "proj/job",
            "triggers": [
                {
                    "id": "t",
                    "created": 1772366400123456789,
                    "kind": "gitiles",
                    "payload": {"repo": "https://x", "ref": "refs/heads/main", "revision": "a"},
                    "title": "title",
                }
            ],
            "delivery": "commit-1",
        },
    ),
    (
        DeferredTask("trigger-0123456789abcdef", 3, CREATED),
        {"deferred": "trigger-0123456789abcdef", "tries": 3, "created": 1772366400123456789},
    ),
    (SweepTask(None, CREATED), {"created": 1772366400123456789}),
    (
        SweepTask(DueCursor(CREATED, JOB, INVOCATION), CREATED),
        {
            "after": {
                "due": 1772366400123456789,
                "job": "proj/job",
                "invocation": "9104120001953349632",
                "deferred": "",
            },
            "created": 1772366400123456789,
        },
    ),
    (ProbeTask("0123456789abcdef"), {"probe": "0123456789abcdef"}),
    (SyncTask(), {}),
]
"""A payload of each kind and form as release 0.1.0 wrote it, with the record that it holds.

A kind that is younger has its first form."""

OLDER: list[tuple[str, dict[str, Any], Task]] = [
    ("sweep", {}, SweepTask(None, Instant(0))),
    ("triage", {"job": "proj/job"}, TriageTask(JOB, Instant(0))),
    ("trigger", {"job": "proj/job", "triggers": []}, TriggerTask(JOB, (), "")),
    (
        "sweep",
        {"after": {"due": 5, "job": "proj/job", "invocation": "16"}},
        SweepTask(DueCursor(Instant(5), JOB, InvocationId(16)), Instant(0)),
    ),
]
"""Calls of Cloud Scheduler, and payloads without a member that later functions write."""


def _kinds() -> Iterator[type[Task]]:
    for value in vars(queue_tasks).values():
        if isinstance(value, type) and issubclass(value, Task) and value is not Task:
            yield value


_jobs = st.from_regex(r"[a-z0-9_.-]{1,20}/[A-Za-z0-9_. -]{1,20}", fullmatch=True).map(JobId)
_invocations = st.integers(1, 2**63 - 1).map(InvocationId)
_instants = st.integers(0, LAST_INSTANT).map(Instant)
_counts = st.integers(0, 10**6)
_texts = st.text(min_size=1, max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
)
_commits = st.fixed_dictionaries({"repo": st.text(), "ref": st.text(), "revision": st.text()})
_payloads = st.builds(dict, _commits, properties=st.dictionaries(_texts, _values), tags=st.lists(st.text()))
_triggers = st.builds(
    Trigger,
    id=_texts,
    created=_instants,
    kind=st.sampled_from(PayloadKind),
    payload=_payloads,
    title=st.text(),
    order_in_batch=st.integers(0, 10**9),
    emitted_by_user=st.text(),
)


def _common(task: Any, **others: SearchStrategy[Any]) -> SearchStrategy[Task]:
    return st.builds(task, job_id=_jobs, invocation_id=_invocations, created=_instants, **others)


_TASKS: dict[type[Task], SearchStrategy[Task]] = {
    LaunchTask: _common(LaunchTask, attempts=_counts),
    TimerTask: _common(TimerTask, timer_id=st.builds(timer_id, _jobs, _invocations, _counts, _counts)),
    AbortTask: _common(AbortTask)
    | st.builds(AbortTask, job_id=_jobs, invocation_id=_invocations, who=_texts, reason=st.text()),
    CleanupTask: _common(CleanupTask, attempts=_counts),
    DispatchTask: _common(DispatchTask, mutation=_counts),
    DispatchToTask: _common(DispatchToTask, target=_jobs, first=_counts),
    TickTask: st.builds(TickTask, _jobs, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), _instants),
    TriageTask: st.builds(TriageTask, _jobs, _instants),
    TriggerTask: st.builds(TriggerTask, _jobs, st.lists(_triggers, max_size=3).map(tuple), st.text()),
    DeferredTask: st.builds(DeferredTask, _texts, _counts, _instants),
    SweepTask: st.builds(
        SweepTask,
        st.none()
        | st.builds(DueCursor, _instants, _jobs, st.just(InvocationId(0)) | _invocations)
        | st.builds(DueCursor, _instants, st.just(JobId("")), deferred=_texts),
        _instants,
    ),
    ProbeTask: st.builds(ProbeTask, _texts),
    SyncTask: st.just(SyncTask()),
}


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.one_of(list(_TASKS.values())))
def test_a_payload_survives_a_round_trip_through_json(task: Task) -> None:
    """The strategies cover all kinds; see the next test."""
    assert type(task).from_payload(json.loads(json.dumps(task.payload()))) == task


def test_every_kind_has_a_handler_and_tests() -> None:
    """``probe`` and ``sync`` are the only kinds that the composition root handles."""
    kinds = list(_kinds())
    assert len({kind.kind for kind in kinds}) == len(kinds) == len(TASK_KINDS)
    assert {kind.kind for kind in kinds} == set(TASK_KINDS)
    assert set(kinds) == set(_TASKS) == {type(task) for task, _ in RELEASED}
    for task, payload in RELEASED:
        if not isinstance(task, ProbeTask | SyncTask):
            assert read_task(task.kind, payload) == task


@pytest.mark.parametrize(("task", "payload"), RELEASED)
def test_payloads_of_the_last_release_are_read_and_written(task: Task, payload: dict[str, Any]) -> None:
    """With the version that the queue's adapter adds, and without, as deferred work stores them."""
    assert type(task).from_payload(payload) == type(task).from_payload({"v": 1, **payload}) == task
    assert json.dumps(task.payload()) == json.dumps(payload)
    assert with_version(payload) == {"v": 1, **payload}


@pytest.mark.parametrize(("kind", "payload", "task"), OLDER)
def test_payloads_with_fewer_members_are_read(kind: str, payload: dict[str, Any], task: Task) -> None:
    """Cloud Scheduler sends an empty object; older functions wrote fewer members."""
    assert read_task(kind, payload) == task


@pytest.mark.parametrize("kind", ["launch", "triage", "a-kind-of-tomorrow"])
def test_a_newer_version_is_refused_so_that_the_queue_delivers_the_task_again(kind: str) -> None:
    """During a deployment a newer function may handle the next delivery. The answer is 500, and nothing is read."""
    world = World()
    world.store.counts.clear()
    payload = {"v": 2, "task": {"moved": True}}
    with pytest.raises(TransientError, match=f"a {kind} task has version 2, and this function reads version 1"):
        read_task(kind, payload)
    with responding(give_up=True) as response:
        on_task(world.runtime, kind, payload, "k")
    assert (response.body.partition(":")[0], response.code) == ("Transient error", 500)
    assert world.counted() == "0R/0W/0c"


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, []])
def test_a_version_that_is_not_a_positive_integer_is_malformed(version: Any) -> None:
    """No release wrote such a version."""
    with pytest.raises(MalformedError, match="bad payload of a triage task: ValueError"):
        read_task("triage", {"v": version, "job": "proj/job"})


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("nonsense", {}, "no such task: 'nonsense'"),
        ("sync", {}, "no such task: 'sync'"),
        ("launch", {}, r"bad payload of a launch task: KeyError\('job'\)"),
        ("launch", {"job": "no-slash"}, "bad payload of a launch task: ValueError"),
        ("launch", {"job": 5}, "bad payload of a launch task: AttributeError"),
        ("timer", {"job": "proj/job"}, r"bad payload of a timer task: KeyError\('invocation'\)"),
        ("timer", {"job": "proj/job", "invocation": "1", "created": -1}, "created is no time"),
        ("timer", {"job": "proj/job", "invocation": "1", "created": 1, "timer": "x"}, "not a timer ID"),
        ("abort", {"job": "proj/job", "invocation": "1"}, r"KeyError\('created'\)"),
        ("trigger", {"job": "proj/job", "triggers": [{"id": "t", "kind": "x"}]}, "is not a kind of trigger"),
        ("sweep", {"after": {"due": 5}}, r"bad payload of a sweep task: KeyError\('job'\)"),
    ],
)
def test_bad_payloads_are_malformed(kind: str, payload: dict[str, Any], words: str) -> None:
    """The message names the kind and the fault."""
    with pytest.raises(MalformedError, match=words):
        read_task(kind, payload)
