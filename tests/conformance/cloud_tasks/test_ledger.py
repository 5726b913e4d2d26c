"""All known differences still exist: if a difference of the ledger has vanished, its probe fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import duration_pb2, field_mask_pb2

from emulator.clock import RealClock, SteppedClock
from emulator.cloud_tasks import CloudTasksServer, RateLimits
from tests.conformance.cloud_tasks import ledger
from tests.conformance.cloud_tasks.support import LOCATION, START, Target, client_of
from tests.waiting import until

SECOND = 10**9
DAY = 86_400 * SECOND
QUEUE = f"{LOCATION}/queues/q"
HTTP = {"url": "http://127.0.0.1:1/"}


class Bench:
    """A manual server with one queue, a client and a target, for a probe."""

    def __init__(
        self, server: CloudTasksServer, client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
    ) -> None:
        self.server, self.client, self.clock, self.target = server, client, clock, target
        server.create_queue(QUEUE)

    def add(self, path: str = "/", **task: Any) -> str:
        """Create a task for the target; return its name."""
        return self.client.create_task(parent=QUEUE, task={"http_request": {"url": self.target.url(path)}, **task}).name

    def is_refused(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Return whether the call fails with UNIMPLEMENTED."""
        try:
            method(*args, **kwargs)
        except exceptions.MethodNotImplemented:
            return True
        return False


@pytest.fixture
def bench(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
) -> Bench:
    """A bench for one probe."""
    return Bench(manual, manual_client, clock, target)


PROBES: dict[str, Callable[[Bench], bool]] = {}


def probe(function: Callable[[Bench], bool]) -> Callable[[Bench], bool]:
    """Register a probe, which returns whether the difference of its name still exists."""
    PROBES[function.__name__.replace("_", "-")] = function
    return function


@probe
def app_engine_targets(bench: Bench) -> bool:
    """CreateTask with an App Engine target."""
    task = {"app_engine_http_request": {"relative_uri": "/"}}
    return bench.is_refused(bench.client.create_task, parent=QUEUE, task=task)


@probe
def oauth_token(bench: Bench) -> bool:
    """CreateTask with an OAuth token."""
    task = {"http_request": {**HTTP, "oauth_token": {"service_account_email": "a@b.c"}}}
    return bench.is_refused(bench.client.create_task, parent=QUEUE, task=task)


@probe
def queue_overrides(bench: Bench) -> bool:
    """Both overrides are refused at creation, at an update, and in a mask."""
    refused = []
    for override in ({"http_target": {"http_method": "GET"}}, {"app_engine_routing_override": {"service": "s"}}):
        new = {"name": f"{QUEUE}2", **override}
        refused.append(bench.is_refused(bench.client.create_queue, parent=LOCATION, queue=new))
        old = {"name": QUEUE, **override}
        refused.append(bench.is_refused(bench.client.update_queue, queue=old))
        mask = field_mask_pb2.FieldMask(paths=list(override))
        refused.append(bench.is_refused(bench.client.update_queue, queue=old, update_mask=mask))
    return all(refused)


@probe
def queue_logging(bench: Bench) -> bool:
    """The setting is accepted and absent afterwards."""
    updated = bench.client.update_queue(queue={"name": QUEUE, "stackdriver_logging_config": {"sampling_ratio": 1.0}})
    return "stackdriver_logging_config" not in updated


@probe
def iam(bench: Bench) -> bool:
    """All three methods."""
    client = bench.client
    return all(
        (
            bench.is_refused(client.get_iam_policy, iam_policy_pb2.GetIamPolicyRequest(resource=QUEUE)),
            bench.is_refused(
                client.set_iam_policy, iam_policy_pb2.SetIamPolicyRequest(resource=QUEUE, policy=policy_pb2.Policy())
            ),
            bench.is_refused(
                client.test_iam_permissions, iam_policy_pb2.TestIamPermissionsRequest(resource=QUEUE, permissions=["p"])
            ),
        )
    )


@probe
def permissions(bench: Bench) -> bool:
    """A client without credentials reads a body."""
    task = {"http_request": {**HTTP, "body": b"secret"}}
    full = {"parent": QUEUE, "task": task, "response_view": tasks_v2.Task.View.FULL}
    return bench.client.create_task(full).http_request.body == b"secret"


@probe
def batch_methods(bench: Bench) -> bool:
    """Both methods."""
    client = bench.client
    return bench.is_refused(client.batch_create_tasks, {"parent": QUEUE}) and bench.is_refused(
        client.batch_delete_tasks, {"parent": QUEUE}
    )


@probe
def cmek(bench: Bench) -> bool:
    """Both methods."""
    client = bench.client
    return bench.is_refused(client.get_cmek_config, name=f"{LOCATION}/cmekConfig") and bench.is_refused(
        client.update_cmek_config, cmek_config={"name": f"{LOCATION}/cmekConfig"}
    )


@probe
def locations(bench: Bench) -> bool:
    """The list is refused, and a queue in a nonexistent location is created."""
    nowhere = "projects/p/locations/nowhere9"
    bench.client.create_queue(parent=nowhere, queue={"name": f"{nowhere}/queues/q"})
    return bench.is_refused(bench.client.list_locations, {"name": "projects/p"})


@probe
def list_queues_filter(bench: Bench) -> bool:
    """A documented filter."""
    return bench.is_refused(bench.client.list_queues, {"parent": LOCATION, "filter": "state: PAUSED"})


@probe
def task_size(bench: Bench) -> bool:
    """A size between the two limits."""
    try:
        bench.client.create_task(parent=QUEUE, task={"http_request": {**HTTP, "body": b"x" * 500_000}})
    except exceptions.InvalidArgument:
        return True
    return False


@probe
def task_name_reuse(bench: Bench) -> bool:
    """The name is reserved a nanosecond before the hour, and free at the hour."""
    name = bench.add(name=f"{QUEUE}/tasks/t")
    bench.client.delete_task(name=name)
    bench.clock.advance(3600 * SECOND - 1)
    with pytest.raises(exceptions.AlreadyExists):
        bench.add(name=name)
    bench.clock.advance(1)
    return bench.add(name=name) == name


@probe
def queue_name_reuse(bench: Bench) -> bool:
    """The queue is refused a nanosecond before the three days, and created at the three days."""
    bench.client.delete_queue(name=QUEUE)
    bench.clock.advance(3 * DAY - 1)
    with pytest.raises(exceptions.FailedPrecondition):
        bench.client.create_queue(parent=LOCATION, queue={"name": QUEUE})
    bench.clock.advance(1)
    return bench.client.create_queue(parent=LOCATION, queue={"name": QUEUE}).name == QUEUE


@probe
def purge_delay(bench: Bench) -> bool:
    """Nothing is due right after the call."""
    bench.add()
    bench.client.purge_queue(name=QUEUE)
    return bench.server.due(START + DAY) == []


@probe
def backoff_precision(bench: Bench) -> bool:
    """A second and a half stays a second and a half."""
    backoff = duration_pb2.Duration(seconds=1, nanos=500_000_000)
    retry = bench.client.update_queue(queue={"name": QUEUE, "retry_config": {"min_backoff": backoff}}).retry_config
    return retry.min_backoff.total_seconds() == 1.5


@probe
def throttling(bench: Bench) -> bool:
    """A 503 holds another task for exactly 0.1 s; twenty 500s hold none."""
    failing, waiting = bench.add("/fails"), bench.add("/waits")
    bench.target.scripts["/fails"].statuses.extend([500] * 20 + [503])
    for _ in range(20):
        bench.server.dispatch(failing)
    is_free = waiting in [task.name for task in bench.server.due()]
    bench.server.dispatch(failing)
    return is_free and bench.server.next_due() == START + SECOND // 10


@probe
def ramp_up(bench: Bench) -> bool:
    """The first hundred tasks of a new queue are dispatched at one instant."""
    for _ in range(150):
        bench.add()
    dispatched = 0
    while bench.server._queues.take(START) is not None:
        dispatched += 1
    return dispatched == 100


@probe
def burst_size(bench: Bench) -> bool:
    """A new queue reports 100 at 500/s."""
    rate = bench.client.get_queue(name=QUEUE).rate_limits
    return (rate.max_dispatches_per_second, rate.max_burst_size) == (500, 100)


@probe
def duplicates(bench: Bench) -> bool:
    """A hundred tasks are due at their instant and are delivered once each."""
    names = sorted(bench.add() for _ in range(100))
    is_in_time = sorted(task.name for task in bench.server.due()) == names
    for name in names:
        bench.server.dispatch(name)
    return is_in_time and bench.server.next_due() is None and len(bench.target.received) == 100


@probe
def idle_queues(bench: Bench) -> bool:
    """After forty days a call works at once."""
    bench.clock.advance(40 * DAY)
    return bench.add() in [task.name for task in bench.server.due()]


@probe
def call_quotas(bench: Bench) -> bool:
    """61 calls at one instant."""
    name = bench.add()
    return [bench.client.run_task(name=name).name for _ in range(61)] == [name] * 61


@probe
def workers(bench: Bench) -> bool:
    """With one worker the second task does not begin, although the queue would allow it."""
    bench.target.scripts["/"].is_held = True
    with CloudTasksServer(clock=RealClock(), workers=1) as server, client_of(server) as client:
        server.create_queue(QUEUE, RateLimits(max_concurrent_dispatches=2))
        client.pause_queue(name=QUEUE)
        for _ in range(2):
            client.create_task(parent=QUEUE, task={"http_request": {"url": bench.target.url()}})
        client.resume_queue(name=QUEUE)
        until(lambda: bool(bench.target.received), "the first delivery")
        begun = len(server.stats().attempts_by_task)
        bench.target.release()
        until(lambda: server.stats().outcomes == {"succeeded": 2}, "both deliveries")
    return begun == 1


@probe
def deadline_clock(bench: Bench) -> bool:
    """With a stopped clock a deadline still passes."""
    bench.target.scripts["/"].is_held = True
    name = bench.add()
    with bench.server._lock:
        bench.server._queues.get_queue(QUEUE).get(name, START).dispatch_deadline = SECOND // 5
    return bench.server.dispatch(name) == 504 and bench.clock.now() == START


@pytest.mark.parametrize("difference", ledger.load(), ids=lambda difference: difference.id)
def test_the_difference_is_still_there(difference: ledger.Difference, bench: Bench):
    """If this fails, the server now behaves as documented: remove the entry, and test the documented behavior."""
    assert PROBES[difference.id](bench), f"{difference.id}: no longer so: {difference.here}"


def test_every_entry_has_a_probe_and_every_probe_an_entry():
    """Each difference is checked, and each checked difference is documented."""
    ids = [difference.id for difference in ledger.load()]
    assert sorted(ids) == sorted(PROBES)
    assert len(set(ids)) == len(ids)


def test_the_reference_page_holds_the_ledger():
    """If this fails, run `python -m tests.conformance.cloud_tasks.ledger`."""
    page = ledger.PAGE.read_text()
    assert page == ledger.page_with_table(page)
