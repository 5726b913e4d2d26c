"""Each sample of Cloud Build gets the treatment that its description states, over HTTP as in production."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests

from emulator.clock import SteppedClock
from luci_scheduler.adapters.cloud_build import CloudBuildClient
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.untrusted import decode_base64
from luci_scheduler.managers.cloud_build.build import build_of, created, is_active, is_of, outcome, reason_of, state_of
from luci_scheduler.managers.cloud_build.notification import Announced, read_message
from luci_scheduler.managers.cloud_build.request import BuildRequest, identity_of, make_request
from luci_scheduler.managers.environment import CloudBuildDefaults
from luci_scheduler.ports import CloudBuildError, CreateInvocation
from tests.unit.managers.cloud_build.cloud import SAMPLES, CloudWorld, sample

APP, JOB, INVOCATION = "example-scheduler", JobId("widget/ci"), InvocationId(8852505479846020432)
BUILD, RUN = "5b8a0c9e-1f7d-4c0e-9d53-6a1f2e7b4c10", "c1d7f3a2-90be-4a6e-8f1c-2f0d9b6e7a55"
IDENTITY = {"_SCHEDULER_APP": APP, "_SCHEDULER_INVOCATION": str(INVOCATION), "_SCHEDULER_JOB": JOB}
_HOST = "https://cloudbuild.googleapis.com"


class _Session:
    """Gives the answer of a sample, and checks that the request is the sample's."""

    def __init__(self, exchange: dict[str, Any]) -> None:
        self._exchange = exchange
        self.requests: list[tuple[str, str, Any]] = []

    def request(self, method: str, url: str, *, params: Any, data: bytes | None, **_: Any) -> requests.Response:
        prepared = requests.Request(method, url, params=params).prepare()
        self.requests.append((method, str(prepared.url), None if data is None else json.loads(data)))
        said = self._exchange["response"]
        answer = requests.Response()
        answer.status_code = said["status"]
        answer.headers.update(said["headers"])
        body = said["body"]
        answer._content = (body if isinstance(body, str) else json.dumps(body)).encode()
        answer._content_consumed = True  # type: ignore[attr-defined]
        return answer


def _play(name: str) -> dict[str, Any]:
    """Send the request of a sample through the client and return its answer."""
    exchange = sample(name)
    asked = exchange["request"]
    session: Any = _Session(exchange)
    path, _, query = asked["url"].removeprefix(_HOST).partition("?")
    parameters = parse_qsl(query)
    client = CloudBuildClient(_HOST, lambda: session, SteppedClock(Instant(0)))
    try:
        return client.call(asked["method"], path, asked.get("body"), parameters, seconds=60)
    finally:
        assert session.requests == [(asked["method"], asked["url"], asked.get("body"))]


def _refused(code: str, words: str, *, reason: str = "") -> Callable[[str], None]:
    def check(name: str) -> None:
        with pytest.raises(CloudBuildError) as raised:
            _play(name)
        error = raised.value
        assert (error.code, error.transient, error.reason) == (code, False, reason)
        assert words in str(error)

    return check


def _transient(code: str, *, throttled: bool = False) -> Callable[[str], None]:
    def check(name: str) -> None:
        with pytest.raises(CloudBuildError) as raised:
            _play(name)
        error = raised.value
        assert (error.code, error.transient, error.throttled) == (code, True, throttled)
        assert "<" not in str(error)

    return check


def _ends(status: Status | None, reason: str = "") -> Callable[[str], None]:
    def check(name: str) -> None:
        build = sample(name)
        assert outcome(build) is status
        assert (reason_of(build) if status else "") == reason

    return check


def _waits(name: str) -> None:
    assert outcome(sample(name)) is None
    assert state_of(sample(name)) == {"status": "PENDING", "waits": "waits for approval in Cloud Build"}


def _makes(build_id: str, *, is_over: bool = False) -> Callable[[str], None]:
    """Check an operation: its build counts, and is ours."""

    def check(name: str) -> None:
        operation = _play(name) if name.endswith(".http") else sample(name)
        build = build_of(operation)
        assert build is not None
        assert build["id"] == build_id
        assert is_of(build, IDENTITY)
        assert is_active(build) is not is_over

    return check


def _lists(*build_ids: str) -> Callable[[str], None]:
    def check(name: str) -> None:
        answer = _play(name)
        assert [build["id"] for build in answer.get("builds", []) if is_of(build, IDENTITY)] == list(build_ids)

    return check


def _announces(build_id: str | None) -> Callable[[str], None]:
    def check(name: str) -> None:
        data = decode_base64(sample(name)["data"])
        expected = Announced(build_id, JOB, INVOCATION) if build_id else None
        assert read_message(data, APP) == expected

    return check


def _is_the_data(name: str) -> None:
    data = json.loads(decode_base64(sample("pubsub-success.message")["data"]))
    assert data == sample(name)
    assert created(data) == created(sample("create-response")["metadata"]["build"])


def _is_requested(name: str) -> None:
    """The body of the sample is the request that its own definition and commit lead to."""
    body = sample(name)
    task = {
        "steps": [{key: value for key, value in step.items() if value} for step in body["steps"]],
        "timeout_sec": 1800,
        "queue_ttl_sec": 600,
    }
    commit = {"revision": body["source"]["gitSource"]["revision"], "repository": body["source"]["gitSource"]["url"]}
    defaults = CloudBuildDefaults("example-project", "us-central1", "builder@example-project.iam.gserviceaccount.com")
    given = BuildRequest(task, JOB, INVOCATION, APP, {**commit, "branch": "refs/heads/main"}, defaults)
    assert identity_of(given) == IDENTITY
    assert make_request(given, print) == ("/v1/projects/example-project/locations/us-central1/builds", body)


def _is_answered(**members: str) -> Callable[[str], None]:
    """Check an answer that no decision depends on."""

    def check(name: str) -> None:
        answer = _play(name) if name.endswith(".http") else sample(name)
        assert {member: answer[member] for member in members} == members

    return check


STEP_FAILED = (
    'Build failed: USER_BUILD_STEP - Build step failure: build step 0 "python:3.12" failed: '
    "step exited with non-zero status: 1"
)
TREATMENTS: dict[str, Callable[[str], None]] = {
    "cancel-finished.http": _refused("FAILED_PRECONDITION", "Cannot cancel a build that is not in progress."),
    "cancel.http": _is_answered(id=BUILD, status="CANCELLED"),
    "create-request": _is_requested,
    "create-response": _makes(BUILD),
    "create.http": _makes(BUILD),
    "default-service-account.http": _is_answered(
        name="projects/123456789012/locations/us-central1/defaultServiceAccount"
    ),
    "error-arg-too-long.http": _refused("INVALID_ARGUMENT", "too long (max: 10000)"),
    "error-frontend-html-502.http": _transient("UNAVAILABLE"),
    "error-invalid-tag.http": _refused("INVALID_ARGUMENT", "invalid build tag"),
    "error-logging-required.http": _refused("INVALID_ARGUMENT", "build.logs_bucket"),
    "error-permission-denied.http": _refused("PERMISSION_DENIED", "The caller does not have permission"),
    "error-quota.http": _transient("RESOURCE_EXHAUSTED", throttled=True),
    "error-revision-required.http": _refused("INVALID_ARGUMENT", "source.revision must be specified"),
    "error-service-disabled.http": _refused("PERMISSION_DENIED", "(SERVICE_DISABLED)", reason="SERVICE_DISABLED"),
    "error-substitution-not-matched.http": _refused("INVALID_ARGUMENT", "substitution"),
    "error-trigger-not-found.http": _refused("NOT_FOUND", "Requested entity was not found."),
    "error-unauthenticated.http": _refused("UNAUTHENTICATED", "invalid authentication credentials"),
    "error-unavailable.http": _transient("UNAVAILABLE"),
    "get-cancelled": _ends(Status.ABORTED),
    "get-cancelled-before-start": _ends(Status.ABORTED),
    "get-expired": _ends(Status.FAILED, "Build ended with EXPIRED: build expired in queue"),
    "get-failure-fetch-source": _ends(Status.FAILED, "Build failed: FETCH_SOURCE_FAILED - Failed to fetch source"),
    "get-failure-push": _ends(
        Status.FAILED, "Build failed: PUSH_NOT_AUTHORIZED - Unauthorized push of the final image"
    ),
    "get-failure-step": _ends(Status.FAILED, STEP_FAILED),
    "get-internal-error": _ends(Status.FAILED, "Build failed: LOGGING_FAILURE - Backend logging failure"),
    "get-not-found.http": _refused("NOT_FOUND", "Requested entity was not found."),
    "get-pending-approval": _waits,
    "get-queued": _ends(None),
    "get-rejected": _ends(Status.ABORTED),
    "get-success": _ends(Status.SUCCEEDED),
    "get-success-allowed-failure": _ends(Status.SUCCEEDED),
    "get-timeout": _ends(Status.FAILED, "Build ended with TIMEOUT: build exceeded its timeout"),
    "get-working": _ends(None),
    "list-by-tag-none.http": _lists(),
    "list-by-tag.http": _lists(BUILD),
    "list-page.http": _lists(RUN),
    "operation-failed-at-once": _makes(BUILD, is_over=True),
    "pubsub-failure.message": _announces(BUILD),
    "pubsub-foreign-build.message": _announces(None),
    "pubsub-pending.message": _announces(RUN),
    "pubsub-queued.message": _announces(BUILD),
    "pubsub-second-build.message": _announces(RUN),
    "pubsub-success.data": _is_the_data,
    "pubsub-success.message": _announces(BUILD),
    "pubsub-working.message": _announces(BUILD),
    "run-trigger.http": _makes(RUN),
    "trigger-get": _is_answered(name="widget-ci", id="0d2c6a0e-6f0b-4f3c-9a51-3c6f0f7a2b11"),
}
"""Sample → the check of its treatment. The messages are also delivered, at the end of this module."""


def test_every_sample_has_a_treatment() -> None:
    """No sample is left out."""
    assert {path.name.removesuffix(".json") for path in SAMPLES.glob("*.json")} == TREATMENTS.keys()


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_sample_gets_its_treatment(name: str) -> None:
    """See the table above."""
    TREATMENTS[name](name)


def _watching() -> CloudWorld:
    """Return a world with the invocation of the samples, whose recorded build runs, and with a second build of it."""
    world = CloudWorld(app_id=APP)
    data = {"build_id": BUILD, "project": "example-project", "location": "us-central1"}
    task = TaskDefinition("cloud_build", {"trigger": "widget-ci"})
    invocation = Invocation(INVOCATION, JOB, world.clock.now(), task, Status.RUNNING, task_data=data)
    world.store.commit([CreateInvocation(invocation)])
    second = json.loads(decode_base64(sample("pubsub-second-build.message")["data"]))
    world.cloud.builds.update({BUILD: sample("get-working"), RUN: second})
    return world


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("pubsub-queued.message", ["get"]),
        ("pubsub-working.message", ["get"]),
        ("pubsub-success.message", ["get"]),
        ("pubsub-failure.message", ["get"]),
        ("pubsub-foreign-build.message", []),
        ("pubsub-second-build.message", ["get", "cancel"]),
    ],
)
def test_a_message_is_a_hint(name: str, calls: list[str]) -> None:
    """The status in the message does not count. A second build of the invocation is canceled."""
    world = _watching()
    assert world.push(decode_base64(sample(name)["data"])) == 200
    assert world.cloud.calls == calls
    found = world.store.invocation(JOB, INVOCATION)
    assert found is not None
    assert found.value.status is Status.RUNNING
    assert world.cloud.statuses == ["WORKING", "CANCELLED" if "cancel" in calls else "QUEUED"]


def test_the_last_message_prompts_the_read_of_the_end() -> None:
    """The read shows a success."""
    world = _watching()
    world.cloud.builds[BUILD] = sample("get-success")
    assert world.push(decode_base64(sample("pubsub-success.message")["data"])) == 200
    found = world.store.invocation(JOB, INVOCATION)
    assert found is not None
    assert found.value.status is Status.SUCCEEDED
