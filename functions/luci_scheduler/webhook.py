"""The webhook of GitHub: a push becomes a commit event on the topic of commits, and nothing else can happen.

The function is public, so the signature alone protects it. The cheap checks come first: a request without the form of a
signature ends before its body is read, and no body is parsed before its signature is verified.

GitHub waits ten seconds for the answer, a cold start included, and repeats nothing. So this module loads no store, no
engine and no config. The poller finds the commits of a push that is not delivered.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import flask
import structlog

from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.pubsub import PUBSUB_SCOPES, PubsubTopic
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.bodies import read_body
from luci_scheduler.budget import BUDGETS
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.errors import MalformedError, PermanentError, TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.github_push import (
    MAX_PAYLOAD_BYTES,
    Ignored,
    event_of,
    has_form,
    is_genuine,
    message_of,
    read_push,
)
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.untrusted import check_values
from luci_scheduler.guards import ANSWERED
from luci_scheduler.logs import configure_logging
from luci_scheduler.respond import DeliveryResponse, responding
from luci_scheduler.settings import WebhookSettings
from luci_scheduler.settings_reader import read_webhook_settings
from luci_scheduler.tracing import delivery_trace

if TYPE_CHECKING:
    from luci_scheduler.ports import Clock, Topic

__all__ = ["Hook", "answer_every_path", "current_hook", "is_local", "push"]

_FUNCTION = "on_github_push"
_ENDPOINT = "run"  # the framework's name for the function
_SMALL_BYTES = 1 << 20
"""Larger bodies are read and parsed one after another: 40 requests at once, each with the largest payload, would not
fit into a function's memory, and the form of a signature costs an attacker nothing."""
_PAUSE = MINUTE  # between two log lines about refused requests
_REPEATED = 10 * MINUTE
"""How long a repetition of a published delivery is ignored. Its commit would have no effect, but each message costs a
request of GitHub's limit, and a captured delivery can be sent a million times."""
_MOST_KNOWN = 1000  # published deliveries of this time
_NOT_ALLOWED = 405
_MAX_LOGGED = 100  # characters of a header in a log line
_PATIENCE = 3.0  # seconds that a large body waits for its turn
_CONTENT_TYPE = "The content type of the hook must be application/json: change it on the page of the webhook at GitHub"
_logger = structlog.stdlib.get_logger("luci_scheduler")


class Hook:
    """Answers deliveries of GitHub. Thread-safe."""

    def __init__(self, secrets: Sequence[str], hosts: CommitHosts, topic: Topic, clock: Clock) -> None:
        """Make a webhook.

        Args:
            secrets: any of them may have signed a delivery.
            hosts: the hosts whose pushes count.
            topic: the topic of commits.
            clock: the current time, to recognize replays.
        """
        self._secrets = tuple(secrets)
        self._hosts = hosts
        self._topic = topic
        self._clock = clock
        self._refusals = _Refusals(clock)
        self._large = threading.Lock()
        self._published: dict[str, Instant] = {}
        """Signature of a delivery → when its commit event was published."""

    def answer(self, request: flask.Request, response: DeliveryResponse) -> None:
        """Set the answer to a delivery. At most one message is published. A repetition publishes it after ten minutes.

        Raises:
            MalformedError: the payload is signed, and it is no push. The sender must change it.
        """
        try:
            _check_headers(request)
            with self._turn(request.content_length):
                body = self._genuine_body(request)
                signature, event = (request.headers.get(name, "") for name in ("X-Hub-Signature-256", "X-GitHub-Event"))
                self._take(event, signature, body, response)
        except _RefusedError as refusal:
            response.set(f"{refusal}\n", refusal.code)
            self._refusals.note(refusal)

    def _genuine_body(self, request: flask.Request) -> bytes:
        """Read a body, and verify its signature before anything in it counts."""
        try:
            body = read_body(request, MAX_PAYLOAD_BYTES)
        except MalformedError as error:
            raise _RefusedError(f"Malformed: {error}", 400) from error
        if len(body) > MAX_PAYLOAD_BYTES:
            raise _too_large()
        if not is_genuine(self._secrets, body, request.headers["X-Hub-Signature-256"]):
            raise _RefusedError("Wrong signature: the secret of the webhook is none of the function's secrets", 401)
        return body

    def _take(self, event: str, signature: str, body: bytes, response: DeliveryResponse) -> None:
        """Publish the commit event of a genuine delivery, if it has one."""
        if event != "push":
            response.set("Ignored: only pushes count\n", 200)
            return
        pushed = read_push(_object(body))
        commit = event_of(pushed, self._hosts, self._clock.now())
        about = {"repo": _short(pushed.repo), "ref": _short(pushed.ref), "revision": _short(pushed.after)}
        if isinstance(commit, Ignored):
            _logger.info("push_ignored", **about, reason=commit.reason)
            response.set(f"Ignored: {commit.reason}\n", 200)
            return
        if self._is_repeated(signature):
            response.set("Ignored: the same delivery was published a few minutes ago\n", 200)
            return
        try:
            self._topic.publish({}, message_of(pushed, commit))
        except (TransientError, PermanentError) as error:
            _logger.warning("push_not_published", **about, reason=str(error))
            response.set("The topic does not take the commit event; redeliver the push later\n", 503)
            return
        if len(self._published) >= _MOST_KNOWN:
            self._published.clear()
        self._published[signature] = self._clock.now()
        _logger.info("push_published", **about)

    def _is_repeated(self, signature: str) -> bool:
        published = self._published.get(signature)
        return published is not None and self._clock.now() - published < _REPEATED

    @contextmanager
    def _turn(self, length: int | None) -> Iterator[None]:
        """Hold the turn of large bodies inside ``with``, if the body may be large."""
        if length is not None and length <= _SMALL_BYTES:
            yield
            return
        if not self._large.acquire(timeout=_PATIENCE):
            raise _RefusedError("Other large payloads are being read: redeliver this one later", 503)
        try:
            yield
        finally:
            self._large.release()


class _RefusedError(Exception):
    """A request whose sender is not known to be GitHub, with the status code of the answer."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class _Refusals:
    """The log lines about refused requests: the first at once, then one a minute with the number since the last.

    Anyone can send a million requests, and each log line has a price.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._next = Instant(0)

    def note(self, refusal: _RefusedError) -> None:
        """Count a refused request, and log the count if a line is due."""
        now = self._clock.now()
        with self._lock:
            self._count += 1
            if now < self._next:
                return
            count, self._count, self._next = self._count, 0, Instant(now + _PAUSE)
        _logger.warning("webhook_refused", code=refusal.code, reason=str(refusal), requests=count)


def push(hook: Hook, request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Answer a request to the function ``on_github_push``.

    The rest of a refused body stays unread: the framework would read it into memory before it answers.
    """
    delivery = _short(request.headers.get("X-GitHub-Delivery", ""))
    trace = delivery_trace(request.headers, f"github-{delivery}")
    try:
        with responding(trace=trace, seconds=BUDGETS[_FUNCTION], function=_FUNCTION, delivery=delivery) as response:
            hook.answer(request, response)
    finally:
        request.stream = BytesIO()
    allow = {"Allow": "POST"} if response.code == _NOT_ALLOWED else {}
    return response.body, response.code, {ANSWERED: "true", "Content-Type": "text/plain; charset=utf-8", **allow}


def answer_every_path(server: flask.Flask) -> None:
    """Answer the requests that the framework would refuse, such as ``GET /favicon.ico``, as all others.

    Each refusal of the framework leaves a line and counts for an alert, and here anyone can cause it.
    """

    def answer() -> flask.typing.ResponseReturnValue | None:
        return None if flask.request.endpoint == _ENDPOINT else push(current_hook(), flask.request)

    server.before_request(answer)


def current_hook() -> Hook:
    """Return the webhook of this process; the first call reads the environment.

    Raises:
        SettingsError: the environment is incomplete or wrong.
    """
    flask.g.reached = True
    with _making:
        return _made_hook()


def is_local() -> bool:
    """Return whether this process belongs to the local cloud."""
    return _settings().local


def _check_headers(request: flask.Request) -> None:
    """Refuse a request before its body is read."""
    if request.method != "POST":
        raise _RefusedError("Method Not Allowed", _NOT_ALLOWED)
    if request.mimetype != "application/json":
        raise _RefusedError(_CONTENT_TYPE, 415)
    if not has_form(request.headers.get("X-Hub-Signature-256")):
        raise _RefusedError("No signature: the webhook at GitHub needs a secret", 401)
    if (request.content_length or 0) > MAX_PAYLOAD_BYTES:
        raise _too_large()


def _too_large() -> _RefusedError:
    return _RefusedError(f"A payload has at most {MAX_PAYLOAD_BYTES} bytes", 413)


def _object(body: bytes) -> dict[str, object]:
    try:
        check_values(body)
        return read_object(body)
    except ValueError as error:
        raise MalformedError(f"a push is a JSON object: {error}") from error


def _short(text: str) -> str:
    return sanitized(text[:_MAX_LOGGED])


_making = threading.Lock()


@cache
def _made_hook() -> Hook:
    settings = _settings()
    session = sessions(authenticated=not settings.local, scopes=PUBSUB_SCOPES)
    topic = PubsubTopic(settings.commit_topic, settings.pubsub_url, session)
    return Hook(settings.github_webhook_secrets, settings.commit_hosts, topic, SystemClock())


@cache
def _settings() -> WebhookSettings:
    settings = read_webhook_settings(os.environ)
    configure_logging(settings.project)
    return settings
