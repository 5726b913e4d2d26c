"""Malformed, oversized, unauthenticated, forged and stale input: the documented code, one log line, no write."""

import base64
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import requests
from google.cloud import firestore

from emulator.chaos.network import Network
from emulator.chaos.relays import Call
from emulator.cloud_tasks.oidc import TokenIssuer
from emulator.local_cloud import LocalCloud
from emulator.topics import EmulatorPubSub, PushSubscription
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.instants import HOUR, MINUTE, Instant
from luci_scheduler.core.notification_token import make_token
from tests.e2e.points import ENQUEUE
from tests.e2e.support import MAIN, job_id, publish, repo, settled
from tests.waiting import until

T = TypeVar("T")

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

JOB = job_id("bad")
TOO_LARGE = b"x" * 11_000_000  # Pub/Sub accepts ten million bytes


@pytest.fixture
def ended(cloud: LocalCloud) -> dict[str, Any]:
    """An invocation that has ended; the job is idle."""
    publish(cloud, "bad", 1)
    assert until(lambda: settled(cloud, "bad", [1])).holds
    return cloud.invocations(JOB)[0]


@pytest.fixture
def unchanged(
    cloud: LocalCloud, network: Network, ended: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The test writes and enqueues nothing; leftover work of earlier tests does not count."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", cloud.firestore_address)
    client = firestore.Client(project=cloud.project)
    tasks: list[str] = []

    def watch(call: Call, send: Callable[[], T]) -> T:
        if (call.server, call.method) == ENQUEUE:
            tasks.append(call.body.decode(errors="replace"))
        return send()

    network.interfere = watch
    before = _documents(client)
    assert any("/invocations/" in path for path in before)
    yield
    assert _documents(client) == before
    assert [task for task in tasks if not _OTHERS.search(task)] == []
    client.close()


_OTHERS = re.compile(r"(?:/|%2F)(?:burst|flood|page|many|crash|last|following|raised)\d*\b")
"""Finds the jobs of other tests, or their repositories, in a task and in the path of a document."""


def _documents(client: Any) -> dict[str, Any]:
    kinds = ("jobs", "triggers", "invocations", "projects", "repositories", "pollers")
    return {
        snapshot.reference.path: snapshot.update_time
        for kind in kinds
        for snapshot in client.collection_group(kind).select([]).stream()
        if not _OTHERS.search(snapshot.reference.path)
    }


class Caller:
    """Calls functions as the outside world does, and finds their log lines about it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self.id = f"test-{uuid.uuid4().hex}"
        """Names the message or task, and appears in its log lines."""

    def push(self, function: str, body: bytes) -> int:
        """Push a body as Pub/Sub does; return the status code."""
        return self._post(function, f"projects/p/topics/{self.id}", body, {"Content-Type": "application/json"})

    def message(self, function: str, data: bytes, attributes: dict[str, str] | None = None) -> int:
        """Push a message."""
        message = {
            "data": base64.b64encode(data).decode(),
            "attributes": attributes or {},
            "messageId": self.id,
            "publishTime": "2026-03-01T00:00:00Z",
        }
        return self.push(
            function, json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()
        )

    def task(self, kind: str, body: bytes, headers: dict[str, str]) -> int:
        """Call ``on_task`` as Cloud Tasks does."""
        return self._post("on_task", kind, body, {"X-CloudTasks-TaskName": self.id, **headers})

    def logged(self, function: str) -> list[dict[str, Any]]:
        """Return the function's structured log lines about it; no other line may mention it."""
        lines = [line for line in self._cloud.functions[function].output.lines if self.id in line]
        return [json.loads(line) for line in lines]

    def logged_once(self, function: str, message: str) -> None:
        """Wait for the line, and check that it is the only line."""
        until(lambda: self.logged(function))
        (line,) = self.logged(function)
        assert line["message"] == message
        assert line["severity"] in ("INFO", "WARNING", "ERROR")

    def _post(self, function: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self._cloud.functions[function].url}/{path}"
            return session.post(url, data=body, headers=headers, timeout=60).status_code


@pytest.fixture
def caller(cloud: LocalCloud) -> Caller:
    """The outside world."""
    return Caller(cloud)


def _commit(**changes: Any) -> bytes:
    return json.dumps({"repo": repo("bad"), "ref": MAIN, "revision": "a" * 40, **changes}).encode()


BAD_COMMITS = {
    "empty": b"",
    "no JSON": b"not json",
    "list": b"[]",
    "nothing": b"{}",
    "number for a repo": _commit(repo=1),
    "short ref": _commit(ref="main"),
    "symbolic revision": _commit(revision="HEAD"),
    "no https": _commit(repo="http://evil.example.com/x"),
    "unknown field": _commit(extra=1),
    "deep": b"[" * 100_000,
    "large": _commit().ljust(70_000),  # valid except for the white space after it
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("data", BAD_COMMITS.values(), ids=BAD_COMMITS)
def test_malformed_commits_are_refused(caller: Caller, data: bytes) -> None:
    """The answer is 400 until the dead-letter topic has the message."""
    assert caller.message("on_gitiles_commit", data) == 400
    caller.logged_once("on_gitiles_commit", "malformed")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("function", ["on_gitiles_commit", "on_build_completion"])
@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"subscription": "s"}'], ids=range(4))
def test_events_without_a_message_are_refused(caller: Caller, function: str, body: bytes) -> None:
    """The framework refuses the request before an entry point sees it. This is also logged."""
    assert 400 <= caller.push(function, body) < 500
    caller.logged_once(function, "refused_by_framework")


@pytest.mark.usefixtures("unchanged")
def test_a_commit_that_was_built_long_ago_does_nothing(cloud: LocalCloud, caller: Caller) -> None:
    """Another message about a known commit is acknowledged."""
    assert caller.message("on_gitiles_commit", _commit(revision=f"{1:040x}")) == 200
    assert len(cloud.invocations(JOB)) == 1


@pytest.mark.usefixtures("unchanged")
def test_an_unwatched_commit_does_nothing(caller: Caller) -> None:
    """A repository that no job watches is not an error."""
    assert caller.message("on_gitiles_commit", _commit(repo=f"https://r.googlesource.com/{caller.id}")) == 200
    caller.logged_once("on_gitiles_commit", "commit_unwatched")


FORGED = {
    "no token": (b"{}", {}),
    "forged attribute": (b"{}", {"auth_token": "forged"}),
    "long attribute": (b"{}", {"auth_token": "A" * 5000}),
    "forged user data": (b'{"userData": "Zm9yZ2Vk"}', {}),
    "no JSON": (b"not json", {}),
    "other secret": (b"{}", {"auth_token": make_token("guess", JOB, InvocationId(1), Instant(time.time_ns()))}),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("data", "attributes"), FORGED.values(), ids=FORGED)
def test_forged_notifications_are_acknowledged(caller: Caller, data: bytes, attributes: dict[str, str]) -> None:
    """Another delivery would not help."""
    assert caller.message("on_build_completion", data, attributes) == 200
    caller.logged_once("on_build_completion", "permanent_error")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("function", "data"),
    [("on_build_completion", TOO_LARGE), ("on_gitiles_commit", _commit().ljust(len(TOO_LARGE)))],
)
def test_an_oversized_event_is_refused(caller: Caller, function: str, data: bytes) -> None:
    """No message has that size. The refusal comes before the framework reads the event."""
    assert caller.message(function, data) == 400
    caller.logged_once(function, "refused_by_framework")


@pytest.mark.usefixtures("unchanged")
def test_stale_notifications_are_acknowledged(cloud: LocalCloud, caller: Caller, ended: dict[str, Any]) -> None:
    """Notifications with an expired token, for an unknown invocation, and after the end."""
    secret, now = cloud.environment["SCHEDULER_TOKEN_SECRETS"], Instant(time.time_ns())
    over = InvocationId(int(ended["invocation_id"]))
    expired = make_token(secret, JOB, over, Instant(now - 48 * HOUR - MINUTE))
    assert caller.message("on_build_completion", b"{}", {"auth_token": expired}) == 200
    caller.logged_once("on_build_completion", "permanent_error")
    unknown = Caller(cloud)
    token = make_token(secret, JOB, InvocationId(16), now)
    assert unknown.message("on_build_completion", b"{}", {"auth_token": token}) == 200
    unknown.logged_once("on_build_completion", "permanent_error")
    late = make_token(secret, JOB, over, now)
    assert Caller(cloud).message("on_build_completion", b"{}", {"auth_token": late}) == 200
    assert cloud.page(f"jobs/{JOB}/{over}") == ended


def _signed(cloud: LocalCloud, *, issuer: TokenIssuer | None = None, **changes: str) -> dict[str, str]:
    """Return the header that Cloud Tasks signs a task with, or a different one."""
    account = changes.get("account", cloud.environment["SCHEDULER_TASK_ACCOUNT"])
    audience = changes.get("audience", cloud.environment["SCHEDULER_TASK_URL"])
    token = (issuer or cloud.cloud_tasks._issuer).issue(account, audience, time.time_ns())
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nonsense", "Bearer a.b.c", "Basic eDp5"])
def test_tasks_without_a_token_are_refused(caller: Caller, header: str) -> None:
    """Headers of Cloud Tasks prove nothing; without the token of the right account, no task runs."""
    headers = {"X-CloudTasks-QueueName": "luci-scheduler", "Authorization": header}
    assert caller.task(caller.id, b"{}", headers) == 401
    caller.logged_once("on_task", "unauthenticated")


@pytest.mark.usefixtures("unchanged")
def test_tasks_with_a_forged_token_are_refused(cloud: LocalCloud, caller: Caller) -> None:
    """With another issuer's signature, for another audience, or by the wrong account."""
    forged = [
        _signed(cloud, issuer=TokenIssuer()),
        _signed(cloud, audience="https://elsewhere.example.com"),
        _signed(cloud, account="mallory@evil.iam.gserviceaccount.com"),
    ]
    for headers in forged:
        stranger = Caller(cloud)
        assert stranger.task(stranger.id, b"{}", headers) == 401
        stranger.logged_once("on_task", "unauthenticated")


BAD_TASKS = {
    "no JSON": ("timer", b"nonsense"),
    "list": ("timer", b"[]"),
    "nothing": ("timer", b"{}"),
    "bad job": ("triage", b'{"job": "x"}'),
    "bad numbers": ("launch", b'{"job": "a/b", "invocation": "x", "attempts": "y", "created": 1}'),
    "bad triggers": ("trigger", b'{"job": "a/b", "triggers": [7]}'),
    "oversized": ("sweep", b"{}".ljust((1 << 20) + 1)),  # valid except for the white space after it
    "unknown kind": ("dance", b"{}"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("kind", "body"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_malformed_tasks_are_refused_and_dropped_in_the_end(
    cloud: LocalCloud, caller: Caller, kind: str, body: bytes
) -> None:
    """The answer is 400, because a newer version may understand the task. It is dropped after ten attempts."""
    assert caller.task(kind, body, _signed(cloud)) == 400
    caller.logged_once("on_task", "malformed")
    last = Caller(cloud)
    assert last.task(kind, body, {**_signed(cloud), "X-CloudTasks-TaskRetryCount": "10"}) == 200
    last.logged_once("on_task", "malformed")


@pytest.mark.usefixtures("unchanged")
def test_stale_tasks_do_nothing(cloud: LocalCloud, caller: Caller, ended: dict[str, Any]) -> None:
    """A timer or a launch of an ended invocation, and of an unknown invocation."""
    over, now = ended["invocation_id"], time.time_ns()

    def send(kind: str, **payload: Any) -> int:
        body = json.dumps({"job": JOB, "created": now, **payload}).encode()
        return caller.task(kind, body, _signed(cloud))

    assert send("timer", invocation=over, timer=f"{JOB}:{over}:2:0") == 200
    assert send("launch", invocation=over, attempts=0) == 200
    assert send("launch", invocation=over, attempts=ended["attempts"]) == 200
    assert send("timer", invocation="16", timer=f"{JOB}:16:2:0") == 409
    assert send("timer", invocation="16", timer=f"{JOB}:16:2:0", created=now - 6 * MINUTE) == 200
    assert send("launch", invocation="16", attempts=0, created=now - 6 * MINUTE) == 200


def test_a_malformed_message_ends_in_the_dead_letter_topic(cloud: LocalCloud, network: Network) -> None:
    """After its number of attempts, the emulator stops deliveries and keeps the message for people."""
    topic = f"projects/{cloud.project}/topics/malformed"
    pubsub = EmulatorPubSub(cloud.pubsub_address, attempts=5)
    row = PushSubscription(topic, "on_gitiles_commit", 10)
    pubsub.create_topics([row], {"on_gitiles_commit": network.urls["on_gitiles_commit"]})
    message = pubsub.publish(topic, b"not a commit", {"from": "somebody"})
    ((data, attributes),) = until(lambda: pubsub.dead_letters(row))
    assert data == b"not a commit"
    assert attributes["from"] == "somebody"
    assert network.deliveries[message] == 5
    pubsub.close()


def test_a_forged_notification_is_delivered_once(cloud: LocalCloud, network: Network) -> None:
    """An acknowledged message is not delivered again."""
    message = cloud.pubsub.publish(cloud.subscriptions[1].topic, b"{}", {"auth_token": "forged"})
    until(lambda: message in network.taken("on_build_completion"))
    assert network.deliveries[message] == 1
