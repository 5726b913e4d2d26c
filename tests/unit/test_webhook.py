"""The function ``on_github_push``: the order of its checks, its answers, and the messages that it publishes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import flask
import pytest
import structlog

from luci_scheduler import webhook
from luci_scheduler.adapters import http, pubsub
from luci_scheduler.budget import BUDGETS, time_left
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.github_push import MAX_PAYLOAD_BYTES
from luci_scheduler.core.instants import DAY, MINUTE
from luci_scheduler.settings import WebhookSettings, variable_of
from luci_scheduler.settings_reader import SettingsError, read_settings, read_webhook_settings
from tests.answering import Answer, answering
from tests.outside_calls import OUTSIDE_CALLS, SERVERS
from tests.pushes import PUSHED, SAMPLES, SECRET, delivery, hooked, payload, signature

_NAMES = sorted(path.name.removesuffix(".http.json") for path in SAMPLES.glob("webhook-*.http.json"))
_HEAD = {
    "repo": "https://github.com/example-org/widget",
    "ref": "refs/heads/main",
    "revision": "d710f453fb111e7bdd7a5e94d1b8a4e01b967451",
}


@pytest.mark.parametrize("name", _NAMES)
def test_samples(name: str) -> None:
    """Every sample gets its status and its publication. A refused body stays unread, except under a wrong signature."""
    sample = json.loads((SAMPLES / f"{name}.http.json").read_text(encoding="utf-8"))
    request, expected = sample["request"], sample["expected"]
    body = request["body"].encode()
    with hooked() as served:
        answer = served.send(body, request["headers"], request["method"])
        assert (answer.code, served.published) == (expected["status"], expected["published"])
        is_read = expected["status"] == 200 or name == "webhook-wrong-signature"
        assert answer.taken == (len(body) if is_read else 0)
        if expected["status"] == 415:
            assert expected["why"] in answer.text


def test_the_samples_are_complete() -> None:
    """One for each row of the answer table."""
    assert len(_NAMES) == 13
    found = {json.loads((SAMPLES / f"{name}.http.json").read_text())["expected"]["status"] for name in _NAMES}
    assert found == {200, 401, 413, 415}


# --- signatures -------------------------------------------------------------------------------------------------------

_BODY = json.dumps(payload()).encode()
_GOOD, _OTHER = signature(_BODY), signature(_BODY, "the secret before it")
_DIGITS = _GOOD.removeprefix("sha256=")


def _mac(key: bytes, body: bytes, algorithm: str = "sha256") -> str:
    return f"sha256={hmac.new(key, body, algorithm).hexdigest()[:64]}"


_ACCEPTED: dict[str, dict[str, str]] = {
    "present secret": {"X-Hub-Signature-256": _GOOD},
    "earlier secret": {"X-Hub-Signature-256": _OTHER},
    "header in lower case": {"x-hub-signature-256": _GOOD},
    "type with a charset": {"X-Hub-Signature-256": _GOOD, "Content-Type": "application/json; charset=utf-8"},
    "with a wrong SHA-1": {"X-Hub-Signature-256": _GOOD, "X-Hub-Signature": "sha1=" + "0" * 40},
}
_REFUSED: dict[str, dict[str, str]] = {
    "no header": {},
    "SHA-1 only": {"X-Hub-Signature": f"sha1={hmac.new(SECRET.encode(), _BODY, 'sha1').hexdigest()}"},
    "another header": {"X-Signature-256": _GOOD},
    "header without the number": {"X-Hub-Signature": _GOOD},
} | {
    name: {"X-Hub-Signature-256": value}
    for name, value in {
        "empty": "",
        "prefix only": "sha256=",
        "no prefix": _DIGITS,
        "prefix in upper case": f"SHA256={_DIGITS}",
        "prefix of SHA-1": f"sha1={_DIGITS}",
        "prefix of SHA-512": f"sha512={_DIGITS}",
        "two prefixes": f"sha256={_GOOD}",
        "upper-case digits": f"sha256={_DIGITS.upper()}",
        "one digit less": _GOOD[:-1],
        "one digit more": f"{_GOOD}0",
        "first digit": f"sha256={(int(_DIGITS[0], 16) + 1) % 16:x}{_DIGITS[1:]}",
        "last digit": f"{_GOOD[:-1]}{(int(_GOOD[-1], 16) + 1) % 16:x}",
        "half": f"{_GOOD[:39]}{'0' * 32}",
        "zeros": f"sha256={'0' * 64}",
        "no digit": f"sha256={'g' * 64}",
        "digits of another script": ("sha256=" + "\u0661" * 64).encode().decode("latin-1"),
        "space before": f"sha256= {_DIGITS[1:]}",
        "line end": f"{_GOOD}\n",
        "quotes": f'"{_GOOD}"',
        "list": f"{_GOOD},{_GOOD}",
        "list with a wrong one": f"sha256={'0' * 64},{_GOOD}",
        "base64": "sha256=" + base64.b64encode(bytes.fromhex(_DIGITS)).decode(),
        "another secret": signature(_BODY, "not the secret"),
        "empty secret": signature(_BODY, ""),
        "secret with a line end": signature(_BODY, f"{SECRET}\n"),
        "all secrets at once": signature(_BODY, f"{SECRET},the secret before it"),
        "empty body": signature(b""),
        "body with a line end": signature(_BODY + b"\n"),
        "body without its end": signature(_BODY[:-1]),
        "body written again": signature(json.dumps(payload(), separators=(",", ":")).encode()),
        "body in UTF-16": signature(_BODY.decode().encode("utf-16")),
        "body of another push": signature(json.dumps(payload(after="a" * 40)).encode()),
        "key and body exchanged": _mac(_BODY, SECRET.encode()),
        "hash of the body": f"sha256={hashlib.sha256(_BODY).hexdigest()}",
        "hash of secret and body": f"sha256={hashlib.sha256(SECRET.encode() + _BODY).hexdigest()}",
        "half of SHA-512": _mac(SECRET.encode(), _BODY, "sha512"),
        "SHA3": _mac(SECRET.encode(), _BODY, "sha3_256"),
        "key in hex": _mac(SECRET.encode().hex().encode(), _BODY),
        "delivery signed": signature(b"72d3162e-cc78-11f0-81ab-4c9367dc0958"),
    }.items()
}


@pytest.mark.parametrize("name", _ACCEPTED)
def test_a_genuine_signature_is_accepted(name: str) -> None:
    with hooked(SECRET, "the secret before it") as served:
        headers = {name: value for name, value in delivery(_BODY).items() if name != "X-Hub-Signature-256"}
        assert served.send(_BODY, headers | _ACCEPTED[name]).code == 200
        assert served.published == [_HEAD]


@pytest.mark.parametrize("name", _REFUSED)
def test_any_other_signature_is_refused(name: str) -> None:
    """The body is read only if the header has the form of a signature, and it is parsed in no case."""
    with hooked(SECRET, "the secret before it") as served, mock.patch.object(webhook, "read_object", None):
        headers = {name: value for name, value in delivery(_BODY).items() if name != "X-Hub-Signature-256"}
        answer = served.send(_BODY, headers | _REFUSED[name])
    assert (answer.code, served.published) == (401, [])
    has_form = re.fullmatch("sha256=[0-9a-f]{64}", _REFUSED[name].get("X-Hub-Signature-256", ""))
    assert answer.taken == (len(_BODY) if has_form else 0)
    assert served.events == ["webhook_refused"]
    assert not any(secret in answer.text + str(served.lines) for secret in (SECRET, _DIGITS))


def test_the_matrix_has_its_size() -> None:
    assert len(_ACCEPTED) + len(_REFUSED) >= 30


def test_a_rotation_has_two_secrets() -> None:
    """Before, during and after it, deliveries with the present secret of GitHub's page are accepted."""
    old, new = "the old secret of the hook", "the new secret of the hook"
    for secrets, accepted in (((old,), {old}), ((new, old), {new, old}), ((new,), {new})):
        with hooked(*secrets) as served:
            codes = {secret: served.send(_BODY, delivery(_BODY, secret=secret)).code for secret in (old, new)}
        assert {secret for secret, code in codes.items() if code == 200} == accepted
        assert set(codes.values()) <= {200, 401}


def test_ten_thousand_unsigned_requests_cost_no_message() -> None:
    """No message is published. A body is read only under the form of a signature. The log has one line a minute."""
    body = b"x" * 10_000
    headers = [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json", "X-Hub-Signature-256": "sha256=no"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "X-Hub-Signature-256": signature(body, "a guess")},
    ]
    with hooked() as served:
        answers = [served.send(body, headers[number % 40 if number % 40 < 3 else 0]) for number in range(9_990)]
        answers += [served.send(body, headers[3]) for _ in range(10)]
        assert {answer.code for answer in answers} == {401, 415}
        assert sum(answer.taken for answer in answers) == 10 * len(body)
        assert served.published == []
        assert [line["requests"] for line in served.lines] == [1]
        served.clock.advance(MINUTE)
        served.send(body, headers[0])
        assert [line["requests"] for line in served.lines] == [1, 10_000]


# --- the order of the checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_counts(method: str) -> None:
    with hooked() as served:
        answer = served.send(_BODY, delivery(_BODY), method)
        assert (answer.code, answer.taken, served.published) == (405, 0, [])
        assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/favicon.ico"), ("GET", "/robots.txt"), ("TRACE", "/"), ("X", "/x")]
)
def test_the_framework_refuses_nothing(method: str, path: str) -> None:
    """Its refusals would leave a line each, and count for an alert that anyone could raise."""
    with hooked() as served:
        for _ in range(3):
            answer = served.send(_BODY, delivery(_BODY), method, PATH_INFO=path)
            assert (answer.code, answer.taken, served.published) == (405, 0, [])
        assert served.events == ["webhook_refused"]


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/robots.txt"])
def test_every_path_is_the_webhook(path: str) -> None:
    with hooked() as served:
        assert served.send(_BODY, delivery(_BODY), PATH_INFO=path).code == 200
        assert served.published == [_HEAD]


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/json", "multipart/form-data", "json"])
def test_only_json_counts(kind: str) -> None:
    """The answer names the setting at GitHub, whose default is a form."""
    with hooked() as served:
        answer = served.send(_BODY, delivery(_BODY) | {"Content-Type": kind})
        assert (answer.code, answer.taken, served.published) == (415, 0, [])
        assert "must be application/json" in answer.text


def test_a_large_body_ends_before_it_is_read() -> None:
    """By its announced length; or, if none is announced, as soon as the limit is passed."""
    with hooked() as served:
        answer = served.send(b"{}", delivery(b"{}") | {"Content-Length": str(MAX_PAYLOAD_BYTES + 1)})
        assert (answer.code, answer.taken) == (413, 0)
        body = b" " * (MAX_PAYLOAD_BYTES + 100_000)
        answer = served.send(body, delivery(b""), CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
        assert (answer.code, answer.taken) == (413, MAX_PAYLOAD_BYTES + 1)
        assert served.published == []


def test_a_body_of_unknown_length_is_read() -> None:
    with hooked() as served:
        answer = served.send(_BODY, delivery(_BODY), CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
        assert (answer.code, served.published) == (200, [_HEAD])


def test_a_body_that_ends_early_is_refused() -> None:
    """One line a minute, because its sender is unknown."""
    with hooked() as served:
        for _ in range(3):
            answer = served.send(_BODY[:-1], delivery(_BODY) | {"Content-Length": str(len(_BODY))})
            assert (answer.code, served.published) == (400, [])
        assert served.events == ["webhook_refused"]


def test_large_bodies_take_turns() -> None:
    """An attacker with large bodies can delay other large bodies, and nothing else."""
    large = json.dumps(payload(commits=["x" * (1 << 20)])).encode()
    begun, ended = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.left = [large[:1], large[1:]]

        def read(self, _: int = -1) -> bytes:
            begun.set()
            ended.wait(60)
            return self.left.pop(0) if self.left else b""

    with hooked() as served, mock.patch.object(webhook, "_PATIENCE", 0.01):
        other = threading.Thread(target=served.send, args=(large, delivery(large)), kwargs={"wsgi.input": Slow()})
        other.start()
        try:
            assert begun.wait(60)
            assert served.send(large, delivery(large)).code == 503
            assert served.send(_BODY, delivery(_BODY)).code == 200
        finally:
            ended.set()
            other.join()
        other_large = json.dumps(payload(commits=["y" * (1 << 20)])).encode()
        assert served.send(other_large, delivery(other_large)).code == 200
        assert served.published == [_HEAD] * 3


@pytest.mark.parametrize("event", ["ping", "pull_request", "create", "delete", "PUSH", "push ", ""])
def test_another_event_is_acknowledged(event: str) -> None:
    """A hook whose deliveries fail looks broken on GitHub's page. Its body is not parsed."""
    with hooked() as served:
        answer = served.send(b"not JSON", delivery(b"not JSON", event))
        assert (answer.code, served.published, served.lines) == (200, [], [])


def test_a_delivery_without_an_event_is_acknowledged() -> None:
    headers = {name: value for name, value in delivery(_BODY).items() if name != "X-GitHub-Event"}
    with hooked() as served:
        assert served.send(_BODY, headers).code == 200
        assert served.published == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"5", b'"x"', b"{", b"{}", b"[" * 100_000, b'{"a":' * 5_000, b"\xff", b'{"ref":"\\ud800"}',
        b'{"ref": NaN}', b'{"ref":' + b"9" * 5_000 + b"}", b"[" + b"1," * 600_000 + b"1]", b"payload=%7B%7D",
    ],
)  # fmt: skip
def test_a_signed_body_that_is_no_push_is_malformed(body: bytes) -> None:
    """GitHub shows the answer beside the delivery."""
    with hooked() as served:
        answer = served.send(body, delivery(body))
        assert (answer.code, served.published, served.events) == (400, [], ["malformed"])
        assert answer.text.startswith("Malformed: ")


def test_a_payload_has_a_maximum_number_of_values() -> None:
    """Its text is small, and its values would fill a function's memory."""
    body = json.dumps(payload(commits=[1] * 600_000)).encode()
    with hooked() as served:
        answer = served.send(body, delivery(body))
        assert (answer.code, served.published) == (400, [])
        assert "more than 500000 values" in answer.text


def test_an_ignored_push_leaves_a_line() -> None:
    """It names the reason, and hostile texts are escaped and cut."""
    with hooked() as served:
        answer = served.push(payload({"html_url": "https://example.com/\x1b[31m" + "x" * 500}))
        assert (answer.code, answer.text) == (200, "Ignored: its host is not a configured GitHub host\n")
        (line,) = served.lines
        assert (line["event"], line["delivery"]) == ("push_ignored", "72d3162e-cc78-11f0-81ab-4c9367dc0958")
        assert "\x1b" not in line["repo"]
        assert len(line["repo"]) < 120


def test_a_repeated_delivery_is_published_once_in_ten_minutes() -> None:
    """Each message costs a request of GitHub's limit, and a delivery that was captured can be sent a million times."""
    with hooked() as served:
        assert served.push(payload()).text == "OK\n"
        for _ in range(3):
            served.clock.advance(3 * MINUTE)
            assert served.push(payload()).text == "Ignored: the same delivery was published a few minutes ago\n"
        assert (served.published, served.events) == ([_HEAD], ["push_published"])
        assert served.push(payload(after="a" * 40)).text == "OK\n"
        served.clock.advance(MINUTE)
        assert served.push(payload()).text == "OK\n"
        assert [event["revision"] for event in served.published] == [_HEAD["revision"], "a" * 40, _HEAD["revision"]]


def test_a_replay_is_ignored_after_a_week() -> None:
    with hooked(now=PUSHED + 7 * DAY) as served:
        assert served.push(payload()).code == 200
        assert served.published == [_HEAD]
        served.clock.advance(1)
        assert served.push(payload()).code == 200
        assert served.published == [_HEAD]


# --- the topic --------------------------------------------------------------------------------------------------------


def test_a_published_push_leaves_a_line() -> None:
    with hooked() as served:
        answer = served.push(payload(), traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
        assert (answer.code, answer.text) == (200, "OK\n")
        assert "X-Answered" not in answer.headers
        (line,) = served.lines
        assert line["event"] == "push_published"
        assert (line["function"], line["trace_id"], line["revision"]) == (
            "on_github_push", "a" * 32, _HEAD["revision"],
        )  # fmt: skip
        ((attributes, _),) = served.topic.messages
        assert attributes == {}


@pytest.mark.parametrize("error", [TransientError("PERMISSION_DENIED"), PermanentError("INVALID_ARGUMENT")])
def test_a_push_that_the_topic_does_not_take_is_answered_503(error: Exception) -> None:
    """GitHub shows the delivery as failed, and a person can redeliver it."""
    with hooked() as served:
        served.topic.before_publish = mock.Mock(side_effect=error)
        answer = served.push(payload())
        assert (answer.code, served.published, served.events) == (503, [], ["push_not_published"])
        assert str(error) not in answer.text
        served.topic.before_publish = lambda: None
        assert served.push(payload()).code == 200
        assert served.published == [_HEAD]


def test_the_call_of_the_topic_has_the_budget_of_a_delivery() -> None:
    """GitHub waits ten seconds, a cold start included."""
    with hooked() as served:
        left: list[float] = []
        served.topic.before_publish = lambda: left.append(time_left(10_000))
        assert served.push(payload()).code == 200
    assert [0 < seconds <= BUDGETS["on_github_push"] for seconds in left] == [True]
    assert BUDGETS["on_github_push"] < 10


@pytest.mark.parametrize("server", SERVERS)
def test_a_topic_that_does_not_answer_ends_with_the_budget(server: str) -> None:
    """A refusing server ends at once, a silent one with the budget; no delivery waits for the limit of the client."""
    (call,) = (call for call in OUTSIDE_CALLS if call.name == "Pub/Sub: announce an invocation")
    with SERVERS[server](call) as address, mock.patch.dict(BUDGETS, {"on_github_push": 0.2}):
        topic = pubsub.PubsubTopic("projects/p/topics/t", f"http://{address}", http.sessions(authenticated=False), 600)
        with hooked(topic=topic) as served:
            assert served.push(payload()).code == 503


# --- settings ---------------------------------------------------------------------------------------------------------

_ENVIRONMENT = {
    "SCHEDULER_GITHUB_WEBHOOK_SECRETS": "the new secret of a hook, the old secret of a hook,",
    "SCHEDULER_COMMIT_TOPIC": "projects/p/topics/gitiles-commit",
}


def test_the_settings_of_the_function() -> None:
    settings = read_webhook_settings({**_ENVIRONMENT, "SCHEDULER_QUEUE": "q", "PATH": "/bin"})
    assert settings.github_webhook_secrets == ("the new secret of a hook", "the old secret of a hook")
    lines = {"SCHEDULER_GITHUB_WEBHOOK_SECRETS": "the new secret of a hook\r\nthe old secret of a hook\n"}
    assert read_webhook_settings({**_ENVIRONMENT, **lines}) == settings, "a person may write one secret in each line"
    assert settings.commit_hosts.knows("https://github.com/a/b")
    assert "secret of a hook" not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"SCHEDULER_GITHUB_WEBHOOK_SECRETS": ""}, "SCHEDULER_GITHUB_WEBHOOK_SECRETS: is required"),
        ({"SCHEDULER_GITHUB_WEBHOOK_SECRETS": " , ,"}, "SCHEDULER_GITHUB_WEBHOOK_SECRETS: needs secrets of at least"),
        ({"SCHEDULER_GITHUB_WEBHOOK_SECRETS": f"{'a' * 40},short"}, "1 of 2 are shorter"),
        ({"SCHEDULER_COMMIT_TOPIC": ""}, "SCHEDULER_COMMIT_TOPIC: is required"),
        ({"SCHEDULER_COMMIT_TOPIC": "gitiles-commit"}, "must be a full name like"),
        ({"SCHEDULER_COMIT_TOPIC": "x"}, "SCHEDULER_COMIT_TOPIC: no such setting"),
        ({"SCHEDULER_LOCAL": "true", "K_SERVICE": "on-github-push"}, "this is Cloud Run"),
    ],
)
def test_bad_settings(changes: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault) as raised:
        read_webhook_settings({**_ENVIRONMENT, **changes})
    assert "a" * 40 not in str(raised.value)


def test_the_other_functions_accept_the_variables_of_the_webhook() -> None:
    """In the local cloud, all functions have one environment."""
    required = {
        "SCHEDULER_PROJECT": "p", "SCHEDULER_TASK_URL": "https://t", "SCHEDULER_TASK_ACCOUNT": "a@p",
        "SCHEDULER_TOKEN_SECRETS": "a key of twenty bytes",
    }  # fmt: skip
    assert read_settings({**_ENVIRONMENT, **required}).project == "p"
    assert read_webhook_settings({**_ENVIRONMENT, **required}).project == "p"


def test_every_setting_is_documented() -> None:
    page = Path("docs/reference/settings.md").read_text(encoding="utf-8")
    for field in WebhookSettings.__dataclass_fields__.values():
        assert f"`{variable_of(field)}`" in page


@pytest.fixture(name="environment")
def _environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    for made in (webhook._settings, webhook._made_hook):
        made.cache_clear()
    monkeypatch.setenv("SCHEDULER_LOCAL", "true")
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    structlog.reset_defaults()  # the settings configure the log
    for made in (webhook._settings, webhook._made_hook):
        made.cache_clear()


def _with_app(call: Callable[[], Any]) -> Any:
    with flask.Flask("f").app_context():
        return call()


def test_a_process_makes_its_webhook_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    """One webhook for all requests, which publishes to the topic of the settings."""
    body = json.dumps(payload({"pushed_at": int(time.time())})).encode()
    with answering(Answer(200, b'{"messageIds": ["1"]}')) as server:
        environment.setenv("SCHEDULER_PUBSUB_URL", server.url)
        hook = _with_app(webhook.current_hook)
        assert webhook.is_local()
        assert _with_app(webhook.current_hook) is hook
        with flask.Flask("f").test_request_context(
            "/github", method="POST", data=body, headers=delivery(body, secret="the old secret of a hook")
        ):
            assert webhook.push(hook, flask.request)[1] == 200  # type: ignore[index]
    assert server.paths == ["/v1/projects/p/topics/gitiles-commit:publish"]


def test_a_process_without_settings_answers_500(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SCHEDULER_COMMIT_TOPIC")
    with pytest.raises(SettingsError, match="SCHEDULER_COMMIT_TOPIC: is required"):
        _with_app(webhook.current_hook)


def test_the_local_function_refuses_other_sites() -> None:
    """As all functions of a local cloud do."""
    with hooked(local=True) as served:
        assert served.send(_BODY, delivery(_BODY) | {"Origin": "https://example.com", "Host": "localhost"}).code == 403
        assert served.send(_BODY, delivery(_BODY) | {"Host": "evil.example.com"}).code == 403
        assert served.published == []
