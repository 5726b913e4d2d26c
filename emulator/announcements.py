"""The topic of announcements in a local cloud, with a push subscription of the user's own program."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.message_faults import PubSub
from emulator.options import Options
from emulator.serving.local_server import LocalServer
from emulator.tcp_ports import HOST
from emulator.topics import PushSubscription

__all__ = ["EVENTS_TOPIC", "announcing", "create_events_topic", "events_topic"]

EVENTS_TOPIC = "invocation-events"
_ACK_SECONDS = 60
_PUBLISH = re.compile(r"/v1/(projects/[^/]+/topics/[^/]+):publish")


@dataclass(frozen=True, slots=True)
class _Subscription(PushSubscription):
    """A subscription that pushes to the user's address itself."""

    def endpoint(self, url: str) -> str:
        return url


def events_topic(project: str) -> str:
    """Return the full name of the topic."""
    return f"projects/{project}/topics/{EVENTS_TOPIC}"


def announcing(
    options: Options, pubsub: PubSub, pubsub_address: str, console_url: str, stack: ExitStack
) -> Mapping[str, str]:
    """Return the settings with which functions announce invocations and publish pushes; empty if they do neither.

    Args:
        options: of the local cloud.
        pubsub: the topics.
        pubsub_address: ``host:port`` of the official emulator; empty: a small server publishes to ``pubsub``.
        console_url: the base of links.
        stack: stops that server.
    """
    if options.events is None and not options.github:
        return {}
    url = f"http://{pubsub_address}" if pubsub_address else _serve(pubsub, stack)
    found = {"SCHEDULER_PUBSUB_URL": url, "SCHEDULER_CONSOLE_URL": console_url}
    return found if options.events is None else {**found, "SCHEDULER_EVENTS_TOPIC": events_topic(options.project)}


def create_events_topic(options: Options, pubsub: PubSub) -> None:
    """Create the topic, and the push subscription if the options have an address."""
    if options.events is None:
        return
    topic = events_topic(options.project)
    if not options.events:
        pubsub.create_topic(topic)
        return
    pubsub.create_topics([_Subscription(topic, EVENTS_TOPIC, _ACK_SECONDS)], {EVENTS_TOPIC: options.events})


def _serve(pubsub: PubSub, stack: ExitStack) -> str:
    """Start a server with the method ``publish`` of Pub/Sub's REST API; return its address."""

    def respond(request: Request) -> Response:
        found = _PUBLISH.fullmatch(request.path)
        if found is None or request.method != "POST":
            return _json(404, {"error": {"code": 404, "status": "NOT_FOUND", "message": "only publish is served"}})
        messages = (request.get_json(force=True) or {}).get("messages", [])
        try:
            ids = [_publish(pubsub, found[1], message) for message in messages]
        except LookupError as error:
            return _json(404, {"error": {"code": 404, "status": "NOT_FOUND", "message": str(error)}})
        return _json(200, {"messageIds": ids})

    server = LocalServer(Request.application(respond), HOST, 0)
    server.start()
    stack.callback(server.stop)
    return server.url


def _publish(pubsub: PubSub, topic: str, message: Mapping[str, Any]) -> str:
    return pubsub.publish(topic, base64.b64decode(message.get("data", "")), message.get("attributes", {}))


def _json(status: int, value: object) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")
