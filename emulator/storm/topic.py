"""The topic of announcements in a world."""

from __future__ import annotations

import base64
import json

from emulator.storm.faults import Fault, Kind
from emulator.storm.history import History, Message
from emulator.storm.kernel import Kernel
from emulator.storm.wire import HttpRequest, Reply

__all__ = ["TopicServer"]


class TopicServer:
    """Pub/Sub, as far as the functions publish themselves."""

    part = "topic"

    def __init__(self, kernel: Kernel, history: History) -> None:
        self._kernel = kernel
        self._history = history

    def method(self, request: HttpRequest) -> str:  # noqa: ARG002 - part of the protocol
        """Return the name of the called method."""
        return "topic.publish"

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:  # noqa: ARG002
        """Return the answer of a topic that refuses."""
        if fault is not None and fault.kind is not Kind.PUBLISH_REFUSED:
            return None
        return Reply.of({"error": {"status": "UNAVAILABLE", "message": "not now"}}, 503)

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:  # noqa: ARG002
        """Keep a message."""
        for message in json.loads(request.body)["messages"]:
            attributes, data = tuple(message["attributes"].items()), base64.b64decode(message["data"]).decode()
            self._history.messages.append(Message(self._kernel.now(), attributes, data))
        return Reply.of({"messageIds": [str(len(self._history.messages))]})
