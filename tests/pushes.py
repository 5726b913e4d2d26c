"""Deliveries of GitHub's webhook to ``on_github_push``, which the functions framework serves without a socket."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import functions_framework
import structlog

from emulator.clock import SteppedClock
from emulator.memory.topic import MemoryTopic
from emulator.supervisor import SOURCE
from luci_scheduler import webhook
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import Topic
from luci_scheduler.settings import WebhookSettings

__all__ = [
    "PUSHED",
    "SAMPLES",
    "SECRET",
    "Delivered",
    "Hooked",
    "delivery",
    "hooked",
    "payload",
    "server_app",
    "signature",
]

SAMPLES = Path(__file__).parent / "samples" / "github"
SECRET = "example-secret"
PUSHED = Instant(1_773_755_890 * SECOND)
"""When the push of the samples happened."""


def payload(repository: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the payload of the sample ``webhook-push`` with other members; None leaves a member out."""
    sample = json.loads((SAMPLES / "webhook-push.http.json").read_text(encoding="utf-8"))
    document: dict[str, Any] = json.loads(sample["request"]["body"])
    document["repository"] |= repository or {}
    document |= changes
    return document


def signature(body: bytes, secret: str = SECRET) -> str:
    """Return the value of ``X-Hub-Signature-256``."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def delivery(body: bytes, event: str = "push", secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a genuine delivery."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": "72d3162e-cc78-11f0-81ab-4c9367dc0958",
        "X-Hub-Signature-256": signature(body, secret),
    }


class _Counted(io.BytesIO):
    """A body that counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


@dataclass(frozen=True)
class Delivered:
    """The answer to a delivery."""

    code: int
    text: str
    taken: int
    """The bytes of the body that were read."""
    headers: Mapping[str, str]


@dataclass
class Hooked:
    """The function with its topic and log."""

    topic: MemoryTopic
    clock: SteppedClock
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def published(self) -> list[dict[str, Any]]:
        """The commit events on the topic."""
        return [data for _, data in self.topic.messages]

    @property
    def events(self) -> list[str]:
        """The names of the log lines."""
        return [str(line["event"]) for line in self.lines]

    def push(self, document: Any, **headers: str) -> Delivered:
        """Deliver a signed push."""
        body = json.dumps(document).encode()
        return self.send(body, delivery(body) | headers)

    def send(self, body: bytes, headers: Mapping[str, str], method: str = "POST", **environ: Any) -> Delivered:
        """Deliver a request; ``environ`` sets members of the WSGI environment."""
        stream = _Counted(body)
        asked: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/github",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": stream,
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        } | environ
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            asked[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        started: list[Any] = []
        parts = server_app()(asked, lambda status, named, _=None: started.append((status, named)))
        text = b"".join(parts).decode()
        status, named = started[0]
        return Delivered(int(status[:3]), text, stream.taken, dict(named))


@cache
def server_app() -> Any:
    """Return the WSGI application of the function."""
    return functions_framework.create_app("on_github_push", str(SOURCE), "http")


@contextmanager
def hooked(
    *secrets: str,
    hosts: CommitHosts = DEFAULT_HOSTS,
    topic: Topic | None = None,
    now: int = PUSHED + SECOND,
    local: bool = False,
) -> Iterator[Hooked]:
    """Serve the function with these secrets (`SECRET` if there are none), by default with a topic in memory."""
    served = Hooked(MemoryTopic(), SteppedClock(Instant(now)))
    settings = WebhookSettings(secrets or (SECRET,), "projects/p/topics/gitiles-commit", hosts, local=local)
    hook = webhook.Hook(secrets or (SECRET,), hosts, topic or served.topic, served.clock)

    def note(_: Any, method: str, event: Any) -> Any:
        served.lines.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, note])
    try:
        with mock.patch.multiple(webhook, current_hook=lambda: hook, _settings=lambda: settings):
            server_app()
            yield served
    finally:
        structlog.reset_defaults()
