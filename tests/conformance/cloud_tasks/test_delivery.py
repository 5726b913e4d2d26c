"""Deliveries in real time: received requests, retries, pause, limits, deletion, stop."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2

from emulator.clock import RealClock
from emulator.cloud_tasks import CloudTasksServer
from tests.conformance.cloud_tasks.support import LOCATION, METHODS, Target, client_of
from tests.waiting import until


def http(url: str, **fields: Any) -> dict[str, Any]:
    """Return a task with an HTTP target."""
    return {"http_request": {"url": url, **fields}}


def is_gone(client: tasks_v2.CloudTasksClient, queue: str) -> bool:
    """Return whether the queue has no task left."""
    return not list(client.list_tasks(parent=queue))


def test_the_target_sees_method_body_and_headers_as_given(
    client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """The target gets the creator's headers, then those of Cloud Tasks.

    Reserved headers are replaced, and no other is added.
    """
    headers = {
        "Content-Type": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Text": "grüße",
        "User-Agent": "mine",
        "X-CloudTasks-TaskName": "forged",
        "X-AppEngine-Thing": "forged",
    }
    name = f"{queue}/tasks/t-1"
    created = client.create_task(
        parent=queue, task={"name": name, **http(target.url("/a?b=c"), headers=headers, body=b"\0{}")}
    )
    until(lambda: is_gone(client, queue), "the task to be delivered")
    (received,) = target.received
    assert (received.method, received.path, received.body) == ("POST", "/a?b=c", b"\0{}")
    eta = float(received.headers.pop("x-cloudtasks-tasketa"))
    assert eta == pytest.approx(created.schedule_time.timestamp(), abs=1e-5)
    assert received.headers.pop("x-text").encode("latin-1").decode() == "grüße"
    transport = {"host", "accept-encoding", "connection"}
    assert {name: value for name, value in received.headers.items() if name not in transport} == {
        "content-length": "3",
        "content-type": "application/json",
        "traceparent": headers["traceparent"],
        "user-agent": "Google-Cloud-Tasks",
        "x-cloudtasks-queuename": queue.rpartition("/")[2],
        "x-cloudtasks-taskname": "t-1",
        "x-cloudtasks-taskretrycount": "0",
        "x-cloudtasks-taskexecutioncount": "0",
    }


def test_every_method_is_sent(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """POST, GET, HEAD, PUT, DELETE, PATCH and OPTIONS."""
    for method in METHODS:
        client.create_task(parent=queue, task=http(target.url(f"/{method}"), http_method=method))
    until(lambda: is_gone(client, queue), "all methods to be delivered")
    assert sorted((received.method, received.path) for received in target.received) == sorted(
        (method, f"/{method}") for method in METHODS
    )


def test_redirects_are_not_followed_and_cookies_not_kept(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """A redirect is a failed attempt like any other."""
    target.scripts["/"].statuses.append(302)
    target.scripts["/"].headers.update({"Location": target.url("/elsewhere"), "Set-Cookie": "a=b"})
    client.create_task(parent=queue, task=http(target.url()))
    until(lambda: is_gone(client, queue), "the retry after the redirect")
    assert [received.path for received in target.received] == ["/", "/"]
    assert target.received[1].headers["x-cloudtasks-taskpreviousresponse"] == "302"
    assert target.received[1].headers["x-cloudtasks-taskretryreason"] == ""
    assert "cookie" not in target.received[1].headers


def test_proxies_of_the_machine_are_not_used(
    client: tasks_v2.CloudTasksClient, queue: str, target: Target, monkeypatch: pytest.MonkeyPatch
):
    """A delivery goes to its URL directly."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    client.create_task(parent=queue, task=http(target.url()))
    until(lambda: is_gone(client, queue), "the delivery")
    assert len(target.received) == 1


def test_failures_are_retried_with_growing_waits(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """At least 0.1, 0.2 and 0.4 s lie between the attempts."""
    target.scripts["/"].statuses.extend([500, 409, 404])
    client.create_task(parent=queue, task=http(target.url()))
    until(lambda: is_gone(client, queue), "the fourth attempt")
    at = [received.at for received in target.received]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    # The wait counts from the response, which follows the request, so a gap is never shorter than its backoff.
    assert [gap >= wait for gap, wait in zip(gaps, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_a_scheduled_task_is_not_early_and_run_task_runs_it_at_once(
    client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """The delivery follows the schedule time. RunTask delivers a task of next week at once, even on a paused queue."""
    at = time.time_ns() + 300_000_000
    soon = timestamp_pb2.Timestamp(seconds=at // 10**9, nanos=at % 10**9)
    client.create_task(parent=queue, task={"schedule_time": soon, **http(target.url("/soon"))})
    until(lambda: bool(target.received), "the scheduled task")
    assert time.time_ns() >= at
    client.pause_queue(name=queue)
    next_week = timestamp_pb2.Timestamp(seconds=int(time.time()) + 7 * 86_400)
    name = client.create_task(parent=queue, task={"schedule_time": next_week, **http(target.url("/forced"))}).name
    client.run_task(name=name)
    until(lambda: len(target.received) == 2, "the forced task")
    until(lambda: is_gone(client, queue), "its end")


def test_a_paused_queue_delivers_only_after_resume(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """While one queue is paused another one delivers; after resuming, no task is lost."""
    client.pause_queue(name=queue)
    client.create_task(parent=queue, task=http(target.url("/paused")))
    other = f"{queue}-2"
    client.create_queue(parent=LOCATION, queue={"name": other})
    client.create_task(parent=other, task=http(target.url("/other")))
    until(lambda: bool(target.at("/other")), "the other queue")
    assert target.at("/paused") == []
    client.resume_queue(name=queue)
    until(lambda: bool(target.at("/paused")), "the resumed queue")


def test_concurrency_follows_the_setting_live(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """With a limit of two the third task waits. A higher limit lets it start while the others still run."""
    client.update_queue(queue={"name": queue, "rate_limits": {"max_concurrent_dispatches": 2}})
    target.scripts["/"].is_held = True
    for _ in range(3):
        client.create_task(parent=queue, task=http(target.url()))
    until(lambda: len(target.received) == 2, "two deliveries")
    counts = sorted(task.dispatch_count for task in client.list_tasks(parent=queue))
    assert counts == [0, 1, 1]
    client.update_queue(queue={"name": queue, "rate_limits": {"max_concurrent_dispatches": 3}})
    until(lambda: len(target.received) == 3, "the third")
    target.release()
    until(lambda: is_gone(client, queue), "all to end")


def test_the_rate_limit_holds_after_the_burst(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """At 50/s with a burst of 10, 25 tasks take at least 0.3 s."""
    client.update_queue(queue={"name": queue, "rate_limits": {"max_dispatches_per_second": 50}})
    client.pause_queue(name=queue)
    for _ in range(25):
        client.create_task(parent=queue, task=http(target.url()))
    began = time.monotonic()
    client.resume_queue(name=queue)
    until(lambda: len(target.received) == 25, "all")
    assert time.monotonic() - began >= 15 / 50 - 0.001


def test_deleting_and_purging_running_tasks(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """Their failure does not restore them."""
    target.scripts["/"].is_held = True
    target.scripts["/"].statuses.extend([500, 500])
    first, _ = (client.create_task(parent=queue, task=http(target.url())).name for _ in range(2))
    until(lambda: len(target.received) == 2, "both to run")
    client.delete_task(name=first)
    client.purge_queue(name=queue)
    assert is_gone(client, queue)
    target.release()
    client.create_task(parent=queue, task=http(target.url("/after")))
    until(lambda: bool(target.at("/after")), "the queue to go on")
    assert len(target.at("/")) == 2


def test_a_deadline_that_passes_is_a_504_and_is_retried(target: Target):
    """After the deadline, in real time, the server stops waiting and retries the task."""
    with CloudTasksServer(clock=RealClock()) as server, client_of(server) as client:
        queue = server.create_queue(f"{LOCATION}/queues/q")
        target.scripts["/"].is_held = True
        client.pause_queue(name=queue)
        deadline = duration_pb2.Duration(seconds=15)
        name = client.create_task(parent=queue, task={"dispatch_deadline": deadline, **http(target.url())}).name
        # The shortest deadline that the API allows is too long for a test.
        with server._lock:
            server._queues.get_queue(queue).get(name, 0).dispatch_deadline = 200_000_000
        client.resume_queue(name=queue)
        until(lambda: len(target.received) >= 2, "a retry")
        target.release()
    first, retry = target.received[:2]
    assert "x-cloudtasks-taskpreviousresponse" not in first.headers
    assert retry.headers["x-cloudtasks-taskpreviousresponse"] == "504"
    assert retry.headers["x-cloudtasks-taskretrycount"] == "1"


def test_a_fast_clock_makes_an_hour_short(target: Target):
    """Schedule times and backoff follow the injected clock."""
    with CloudTasksServer(clock=RealClock(speed=36_000)) as server, client_of(server) as client:
        queue = server.create_queue(f"{LOCATION}/queues/q")
        clock = server._clock
        at = clock.now() + 3_600 * 10**9
        soon = timestamp_pb2.Timestamp(seconds=at // 10**9, nanos=at % 10**9)
        client.create_task(parent=queue, task={"schedule_time": soon, **http(target.url())})
        until(lambda: bool(target.received), "an hour in a tenth of a second")
        assert clock.now() >= at


def test_a_thousand_deliveries(client: tasks_v2.CloudTasksClient, queue: str, target: Target):
    """All tasks of a full queue are delivered once."""
    client.pause_queue(name=queue)
    for _ in range(1_000):
        client.create_task(parent=queue, task=http(target.url(), body=b"{}"))
    client.resume_queue(name=queue)
    until(lambda: len(target.received) == 1_000, "a thousand deliveries")
    until(lambda: is_gone(client, queue), "the last one's end")
    assert len(target.received) == 1_000


def test_stop_leaves_no_thread_although_a_target_hangs(target: Target):
    """A delivery that would take ten minutes is cut; the next server can use the ports."""
    before = set(threading.enumerate())
    server = CloudTasksServer(clock=RealClock()).start()
    with client_of(server) as client:
        queue = server.create_queue(f"{LOCATION}/queues/q")
        target.scripts["/"].is_held = True
        client.create_task(parent=queue, task=http(target.url()))
        until(lambda: target.holds == 1, "the delivery to begin")
        server.stop()
        assert target.holds == 1
    left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("cloud-tasks")]
    assert left == []
    server.stop()
    port = int(server.grpc_address.rpartition(":")[2])
    with CloudTasksServer(clock=RealClock(), port=port) as again:
        assert again.grpc_address == server.grpc_address


def test_a_port_in_use_raises_os_error():
    """The failed start leaves no port open."""
    with CloudTasksServer(clock=RealClock()) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        with pytest.raises(OSError, match="cannot listen"):
            CloudTasksServer(clock=RealClock(), port=port).start()
