"""Tasks and queues in messages: checks of requests, and rendered responses."""

from typing import Any

import pytest
from google.cloud.tasks_v2 import types

from emulator.cloud_tasks.errors import InvalidArgumentError, UnimplementedError
from emulator.cloud_tasks.limits import Limits
from emulator.cloud_tasks.messages import USER_AGENT, read_task, render_queue, render_task, uses_full_view
from emulator.cloud_tasks.model import (
    AttemptRecord,
    DeliveryResult,
    HttpRequest,
    OidcToken,
    QueueState,
    RateLimits,
    RetryConfig,
    Task,
)
from emulator.cloud_tasks.queue import Queue
from emulator.cloud_tasks.queues import NewTask
from luci_scheduler.core.instants import MINUTE, SECOND

QUEUE = "projects/p/locations/l/queues/q"
NOW = 1_000 * SECOND + 123_456_789
URL = "https://x.example/task"


def read(limits: Limits | None = None, **fields: Any) -> NewTask:
    """Read a Task message."""
    return read_task(types.Task.pb(types.Task(**fields)), limits or Limits())


def read_request(**fields: Any) -> HttpRequest:
    """Read the HTTP request of a Task message."""
    return read(http_request={"url": URL, **fields}).request


def task(**fields: Any) -> Task:
    """Return a task of the model."""
    values = {"request": HttpRequest(URL), "eta": NOW, "schedule_time": NOW, "create_time": NOW, **fields}
    return Task(name=f"{QUEUE}/tasks/t", **values)


def test_a_task_with_a_url_only_has_the_defaults() -> None:
    assert read(http_request={"url": URL}) == NewTask(HttpRequest(URL))


def test_all_fields_of_a_task() -> None:
    new = read(
        name=f"{QUEUE}/tasks/t",
        schedule_time={"seconds": 5, "nanos": 1_999},
        dispatch_deadline={"seconds": 20, "nanos": 1_500_000},
        retry_config={"max_attempts": 3},
        http_request={
            "url": URL,
            "http_method": types.HttpMethod.PUT,
            "headers": {"X-B": "2", "X-A": "1"},
            "body": b"body",
            "oidc_token": {"service_account_email": "a@b", "audience": "aud"},
        },
    )
    assert new.request == HttpRequest(URL, "PUT", (("X-A", "1"), ("X-B", "2")), b"body", OidcToken("a@b", "aud"))
    assert (new.name, new.schedule_time) == (f"{QUEUE}/tasks/t", 5 * SECOND + 1_000)
    assert new.dispatch_deadline == 20 * SECOND + 1_000_000
    assert new.retry_config is not None
    assert new.retry_config.max_attempts == 3


@pytest.mark.parametrize(("seconds", "accepted"), [(14, False), (15, True), (1800, True), (1801, False)])
def test_the_dispatch_deadline_is_15_seconds_to_30_minutes(seconds: int, *, accepted: bool) -> None:
    fields = {"http_request": {"url": URL}, "dispatch_deadline": {"seconds": seconds}}
    if accepted:
        assert read(**fields).dispatch_deadline == seconds * SECOND
    else:
        with pytest.raises(InvalidArgumentError, match=r"^task\.dispatch_deadline: "):
            read(**fields)


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method(method: str) -> None:
    assert read_request(http_method=types.HttpMethod[method]).method == method


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_body_needs_a_method_with_a_body(method: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^task\.http_request\.body: not allowed with {method}$"):
        read_request(http_method=types.HttpMethod[method], body=b"x")


@pytest.mark.parametrize(
    "url", ["", "x.example", "ftp://x.example", "https://", "https:///", "https://x/a b", "https://x/\n", "HTTP://x"]
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^task\.http_request\.url: "):
        read(http_request={"url": url})


def test_the_longest_url_has_2083_characters() -> None:
    longest = "https://x/".ljust(2083, "a")
    assert read(http_request={"url": longest}).request.url == longest
    with pytest.raises(InvalidArgumentError, match="longer than 2083 characters"):
        read(http_request={"url": longest + "a"})


def test_headers_that_cloud_tasks_sets_are_ignored() -> None:
    ignored = {
        "Host": "h",
        "content-length": "1",
        "USER-AGENT": "u",
        "X-CloudTasks-QueueName": "q",
        "x-google-a": "1",
        "X-AppEngine-b": "2",
    }
    assert read_request(headers={**ignored, "X-Kept": "yes"}).headers == (("X-Kept", "yes"),)


@pytest.mark.parametrize("headers", [{"a b": "1"}, {"": "1"}, {"a:": "1"}, {"X": "a\nb"}, {"X": "\x7f"}, {"ä": "1"}])
def test_bad_headers_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^task\.http_request\.headers: "):
        read_request(headers=headers)


def test_a_header_value_may_contain_tabs() -> None:
    assert read_request(headers={"X": "a\tb"}).headers == (("X", "a\tb"),)


def test_headers_are_below_80_kilobytes() -> None:
    """The size includes names and ignored headers; the value is counted in bytes."""
    limits = Limits(max_task_bytes=1 << 20)
    size = 80 * 1024 - 2
    fields = {"url": URL, "headers": {"X": "ä" * (size // 2)}}
    assert read(limits, http_request=fields).request.headers
    fields["headers"] = {"X": "ä" * (size // 2) + "b"}
    with pytest.raises(InvalidArgumentError, match="81920 bytes, the limit is 81920"):
        read(limits, http_request=fields)


def test_a_queue_task_has_a_maximum_size() -> None:
    limits = Limits(max_task_bytes=60)
    read(limits, http_request={"url": URL})
    with pytest.raises(InvalidArgumentError, match=r"^task: \d+ bytes, larger than 60$"):
        read(limits, http_request={"url": URL, "body": b"x" * 40})


def test_an_account_is_an_e_mail_address() -> None:
    with pytest.raises(InvalidArgumentError, match=r"oidc_token\.service_account_email: 'robot'"):
        read_request(oidc_token={"service_account_email": "robot"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"app_engine_http_request": {}}, "app_engine_http_request"),
        ({"http_request": {"url": URL, "oauth_token": {"service_account_email": "a@b"}}}, "oauth_token"),
    ],
)
def test_other_targets_and_tokens_are_not_supported(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(UnimplementedError, match=field):
        read(**fields)


def test_a_task_needs_a_target() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^task\.http_request: a task needs a target$"):
        read()


@pytest.mark.parametrize(("view", "full"), [(0, False), (1, False), (2, True)])
def test_the_views(view: int, *, full: bool) -> None:
    assert uses_full_view(view) is full


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^response_view: 3 is not a view$"):
        uses_full_view(3)


def test_a_task_is_rendered_with_its_times_and_headers() -> None:
    message = render_task(task(request=HttpRequest(URL, "PUT", (("X", "1"),), b"body")), full=True)
    assert (message.name, message.view) == (f"{QUEUE}/tasks/t", 2)
    assert (message.schedule_time.seconds, message.schedule_time.nanos) == (1_000, 123_456_000)
    assert (message.create_time.seconds, message.create_time.nanos) == (1_000, 0)
    assert message.dispatch_deadline.seconds == 600
    assert dict(message.http_request.headers) == {"User-Agent": USER_AGENT, "X": "1"}
    assert (message.http_request.http_method, message.http_request.body) == (4, b"body")
    assert not message.HasField("first_attempt")
    assert not message.HasField("retry_config")


def test_the_basic_view_has_no_body() -> None:
    message = render_task(task(request=HttpRequest(URL, body=b"body")), full=False)
    assert (message.view, message.http_request.body) == (1, b"")


def test_a_rendered_task_has_its_token_and_retry_settings() -> None:
    message = render_task(
        task(request=HttpRequest(URL, oidc_token=OidcToken("a@b", "aud")), retry_config=RetryConfig(max_attempts=3)),
        full=False,
    )
    token = message.http_request.oidc_token
    assert (token.service_account_email, token.audience) == ("a@b", "aud")
    assert message.retry_config.max_attempts == 3


@pytest.mark.parametrize(
    ("status", "responded", "code"),
    [
        (200, True, 0), (204, True, 0), (299, True, 0), (302, True, 2), (400, True, 3), (401, True, 16), (403, True, 7),
        (404, True, 5), (409, True, 10), (418, True, 2), (429, True, 8), (500, True, 13),
        (501, True, 12), (503, True, 14), (504, False, 4), (0, False, 14),
    ],
)  # fmt: skip
def test_the_status_of_an_attempt(status: int, code: int, *, responded: bool) -> None:
    record = AttemptRecord(NOW, NOW, NOW + SECOND, DeliveryResult(status, message="said", responded=responded))
    attempt = render_task(task(last_attempt=record), full=False).last_attempt
    assert (attempt.response_status.code, attempt.response_status.message) == (code, "said")
    assert attempt.response_time.seconds == 1_001


def test_a_running_attempt_has_no_response() -> None:
    record = AttemptRecord(NOW, NOW + SECOND)
    message = render_task(task(first_attempt=record, last_attempt=record), full=False)
    assert message.last_attempt.dispatch_time.seconds == 1_001
    assert not message.last_attempt.HasField("response_time")
    assert not message.first_attempt.HasField("schedule_time")


def test_a_queue_is_rendered_with_its_state_and_burst_size() -> None:
    queue = Queue(QUEUE, RateLimits(100.0, 7), RetryConfig(max_retry_duration=MINUTE), 0)
    message = render_queue(queue)
    assert (message.name, message.state) == (QUEUE, 1)
    assert (message.rate_limits.max_burst_size, message.rate_limits.max_concurrent_dispatches) == (20, 7)
    assert message.retry_config.max_retry_duration.seconds == 60
    assert not message.HasField("purge_time")
    queue.state = QueueState.PAUSED
    queue.purge(NOW)
    message = render_queue(queue)
    assert (message.state, message.purge_time.seconds) == (2, 1_000)
