"""The gate before the functions of a replay on the emulators: it lets one delivery through and keeps the answer."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import ClosingIterator

from emulator.replay.errors import FunctionDied, ReplayError
from emulator.replay.stage import Answer, Message
from luci_scheduler.core.instants import format_rfc3339

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Gate", "Listener"]

_SECONDS = 120.0  # a message takes a tenth of a second; a busy machine, or delays on purpose, take longer


class Listener:
    """Passes every request to an application and remembers the last answer."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self.text = ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        response = _run(self._app, environ)
        self.text = response.get_data(as_text=True)
        return response(environ, start_response)


class Gate:
    """Passes the awaited message to an event function once, however often it is pushed.

    The emulator numbers messages and stamps them with the real time; the function sees the scenario's ID and time
    instead. Anything else that is pushed (a redelivery of a handled message, another replay's message) is
    acknowledged and dropped.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._changed = threading.Condition()
        self._awaited = ""
        self._message: Message | None = None
        self._answer: Answer | None = None

    def deliver(self, message: Message, publish: Callable[[], str]) -> Answer:
        """Publish a message, and wait until the function has answered and the answer is sent.

        Args:
            message: the message that the function sees.
            publish: publishes it and returns the ID that it is pushed with.

        Raises:
            ReplayError: the message is not pushed or not answered in time.
        """
        with self._changed:
            # A push may arrive before the ID is known here, so it has to wait for this lock.
            self._awaited, self._message, self._answer = publish(), message, None
            if not self._changed.wait_for(lambda: self._answer is not None, _SECONDS) or self._answer is None:
                raise ReplayError(
                    f"the Pub/Sub emulator delivered no message within {_SECONDS:.0f} s, or had no answer"
                )
            self._awaited = ""
            return self._answer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one push."""
        body = json.loads(Request(environ).get_data())
        with self._changed:
            is_awaited = body["message"].get("messageId") == self._awaited
            message, self._message = (self._message, None) if is_awaited else (None, self._message)
        if message is None:
            # The function still handles this message, so this copy must be delivered again.
            return Response("not awaited\n", 409 if is_awaited else 200)(environ, start_response)
        response = _run(self._app, _with_body(environ, _stamped(body, message)))
        answer = Answer(response.status_code, response.get_data(as_text=True))
        return ClosingIterator(response(environ, start_response), lambda: self._answered(answer))

    def _answered(self, answer: Answer) -> None:
        with self._changed:
            self._answer = answer
            self._changed.notify_all()


def _run(app: WSGIApplication, environ: WSGIEnvironment) -> Response:
    try:
        body, status, headers = run_wsgi_app(app, environ, buffered=True)
    except FunctionDied as death:  # the platform answers for a process that has died
        return Response(str(death), 500)
    return Response(b"".join(body), status, headers)


def _stamped(body: Mapping[str, Any], message: Message) -> dict[str, Any]:
    """Return the pushed body with the scenario's ID and time, in both spellings that the emulator uses."""
    stamp = {
        "messageId": message.id,
        "message_id": message.id,
        "publishTime": format_rfc3339(message.published),
        "publish_time": format_rfc3339(message.published),
    }
    pushed = body["message"]
    return {**body, "message": {**pushed, **{name: value for name, value in stamp.items() if name in pushed}}}


def _with_body(environ: WSGIEnvironment, body: Mapping[str, Any]) -> WSGIEnvironment:
    data = json.dumps(body).encode()
    changed = {**environ, "wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))}
    for name in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated", "werkzeug.request"):
        changed.pop(name, None)
    return changed
