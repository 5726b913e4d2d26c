"""Google's REST APIs for ``luci-scheduler doctor``: the parts of a local cloud, as the control plane would show them.

Each API lies below the name of its host: ``/cloudtasks.googleapis.com/v2/...``. The answer is 501 for a part that the
local cloud does not have, and the doctor reports that it did not check this part.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

from google.api_core import exceptions
from werkzeug.wrappers import Request, Response

from emulator.local_cloud import LocalCloud
from emulator.serving.local_server import LocalServer
from emulator.settings import queue_path
from emulator.tcp_ports import HOST

__all__ = ["GoogleApis", "Scripted"]

Scripted = Callable[[str], tuple[int, Mapping[str, Any]] | None]
"""Maps host and path of a request to an answer that replaces the server's own; None keeps that."""

_CONNECT_SECONDS = 2.0


class GoogleApis:
    """The server. ``scripted`` supplies answers for parts that the local cloud does not have."""

    def __init__(self, cloud: LocalCloud, scripted: Scripted = lambda _: None, port: int = 0) -> None:
        self._cloud = cloud
        self._scripted = scripted
        self._server = LocalServer(Request.application(self._respond), HOST, port)
        self._routes: Mapping[str, Callable[[Request, re.Match[str]], Mapping[str, Any]]] = {
            r"run.googleapis.com/v2/projects/[^/]+/locations/[^/]+/services/luci-scheduler-(.+)": self._service,
            r"cloudtasks.googleapis.com/v2/(projects/[^/]+/locations/[^/]+/queues/[^/]+)": self._queue,
            r"cloudtasks.googleapis.com/v2/(projects/[^/]+/locations/[^/]+/queues/[^/]+)/tasks": self._tasks,
            r"cloudscheduler.googleapis.com/v1/projects/[^/]+/locations/[^/]+/jobs/luci-scheduler-(.+)": self._schedule,
            r"pubsub.googleapis.com/v1/(projects/[^/]+/topics/[^/]+):publish": self._publish,
            r"pubsub.googleapis.com/v1/projects/[^/]+/subscriptions/([^/]+)-dead-letter:pull": self._pull,
            r"pubsub.googleapis.com/v1/projects/[^/]+/subscriptions/([^/]+):modifyAckDeadline": lambda *_: {},
        }

    @property
    def url(self) -> str:
        """The base address of all APIs."""
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _respond(self, request: Request) -> Response:
        path = request.path.lstrip("/")
        status, document = self._scripted(path) or self._answer(request, path)
        return Response(json.dumps(document), status, content_type="application/json; charset=UTF-8")

    def _answer(self, request: Request, path: str) -> tuple[int, Mapping[str, Any]]:
        for pattern, route in self._routes.items():
            if found := re.fullmatch(pattern, path):
                try:
                    return 200, route(request, found)
                except (LookupError, exceptions.NotFound):
                    return 404, _error(404, f"{path} does not exist")
        return 501, _error(501, "the local cloud does not have this part")

    def _service(self, _: Request, found: re.Match[str]) -> Mapping[str, Any]:
        function = self._cloud.functions[found[1].replace("-", "_")]
        is_up = _accepts(function.url)
        revision = f"{found[1]}-local-{function.restarts + 1}"
        return {
            "terminalCondition": {
                "state": "CONDITION_SUCCEEDED" if is_up else "CONDITION_FAILED",
                "message": "" if is_up else "the function accepts no connection",
            },
            "latestCreatedRevision": revision,
            "latestReadyRevision": revision,
            "trafficStatuses": [{"revision": revision, "percent": 100}],
        }

    def _queue(self, _: Request, found: re.Match[str]) -> Mapping[str, Any]:
        queue = self._cloud.tasks_client.get_queue(name=found[1], timeout=10)
        return {"name": queue.name, "state": queue.state.name}

    def _tasks(self, _: Request, found: re.Match[str]) -> Mapping[str, Any]:
        if found[1] != queue_path(self._cloud.project):
            raise LookupError(found[1])
        times = [_rfc3339(task.schedule_time / 1e9) for task in self._cloud.cloud_tasks.waiting()]
        return {"tasks": [{"scheduleTime": text} for text in times]}

    def _schedule(self, _: Request, found: re.Match[str]) -> Mapping[str, Any]:
        schedule = self._cloud.schedules.get(found[1])
        if schedule is None:
            return {"state": "PAUSED", "schedule": "* * * * *"}
        last = {} if schedule.last is None else {"lastAttemptTime": _rfc3339(schedule.last)}
        return {"state": "ENABLED", "schedule": "* * * * *", "status": {}, **last}

    def _publish(self, request: Request, found: re.Match[str]) -> Mapping[str, Any]:
        messages = json.loads(request.get_data())["messages"]
        publish = self._cloud.pubsub.publish
        return {
            "messageIds": [
                publish(found[1], base64.b64decode(item.get("data", "")), item.get("attributes", {}))
                for item in messages
            ]
        }

    def _pull(self, _: Request, found: re.Match[str]) -> Mapping[str, Any]:
        item = next((row for row in self._cloud.subscriptions if row.short == found[1]), None)
        if item is None:
            raise LookupError(found[1])
        return {"receivedMessages": [{"ackId": "1"}]} if self._cloud.pubsub.has_dead_letter(item) else {}


def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    with suppress(OSError), socket.create_connection((parts.hostname, parts.port), _CONNECT_SECONDS):
        return True
    return False


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _error(status: int, message: str) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": message}}
