"""Buildbucket in a replay: the local cloud's server with the scenario's answers, reachable without a socket."""

from __future__ import annotations

import io
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import urllib3
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from emulator.buildbucket.app import BuildbucketApp
from emulator.buildbucket.canned import CannedResponse, CannedResponses
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.plans import Manual
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketRequest, BuildbucketState
from emulator.buildbucket.v2 import METHODS
from emulator.clock import Clock
from emulator.replay.answers import Reply
from emulator.replay.deliveries import Delivery
from emulator.replay.errors import ScenarioError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Callback", "ScriptedBuildbucket", "WsgiAdapter"]

_GUARD = ")]}'"
_METHODS = (*METHODS, "v1.put", "v1.put_batch", "v1.get", "v1.cancel", "v1.cancel_batch", "v1.retry", "v1.search")
_LOOK_UPS = ("SearchBuilds", "v1.search", "builds.list")
"""These calls find no build if the scenario has no answer, because a refused launch searches for its build without a
log line."""
_NO_ANSWER = CannedResponse("the scenario has no answer to this call", 500)
_APP_ID = "cr-buildbucket"


@dataclass(frozen=True, slots=True)
class Callback:
    """The destination of a build's notifications, from its request."""

    topic: str
    user_data: str
    """The token that every notification returns."""
    is_v1: bool


class _Script(CannedResponses):
    """The answers to the calls of the current delivery, in order; ``before_next`` gets each answer before its use."""

    def __init__(self, before_next: Callable[[Reply], None]) -> None:
        super().__init__()
        self._answers: deque[Reply] = deque()
        self._before_next = before_next
        self.faults: list[str] = []

    @property
    def unasked(self) -> int:
        """The number of answers that no call has used."""
        return len(self._answers)

    def begin(self, answers: Iterator[Reply]) -> None:
        self._answers = deque(answers)
        self.faults.clear()
        self._come_up()

    def resume(self, answers: deque[Reply]) -> None:
        """Continue a delivery that another delivery interrupted."""
        self._answers = answers
        self._come_up()

    def state(self) -> deque[Reply]:
        """Return the answers that are left; `resume` takes them again."""
        return self._answers

    def own(self) -> Reply | None:
        """Return the next answer if the client itself decides the outcome of the call."""
        return self._answers[0] if self._answers and self._answers[0].is_own else None

    def left(self) -> dict[str, int]:
        """Claim answers for every method, so that no call reaches the store of builds, which is empty."""
        return dict.fromkeys(_METHODS, len(self._answers))

    def next_reply(self, method: str) -> Reply | None:
        """Take the next answer; None if there is none, which is a fault unless the call is a look-up."""
        if not self._answers:
            if method not in _LOOK_UPS:
                self.faults.append(f"the scenario has no answer to a call of {method}")
            return None
        answer = self._answers.popleft()
        self._come_up()
        return answer

    def take(self, method: str) -> CannedResponse:
        answer = self.next_reply(method)
        if answer is None:
            return CannedResponse({}) if method in _LOOK_UPS else _NO_ANSWER
        if answer.http is not None:
            return CannedResponse(answer.text, answer.http, answer.headers)
        if answer.code is None:
            return CannedResponse(answer.reply or {}, headers=answer.headers)
        if method.startswith("v1."):
            self.faults.append(
                f"the answer to {method} is an error of v2; for v1 use http, or a reply that contains an error"
            )
            return _NO_ANSWER
        return CannedResponse(answer.text, headers=answer.headers, code=answer.code)

    def _come_up(self) -> None:
        if self._answers:
            self._before_next(self._answers[0])


class ScriptedBuildbucket:
    """A Buildbucket that checks requests like the real one and gives the scenario's answers.

    Args:
        clock: the replay's.
        topic_exists: returns whether a topic (full name) exists; Buildbucket checks this before it accepts a build.
    """

    def __init__(self, clock: Clock, topic_exists: Callable[[str], bool]) -> None:
        spacing = random.Random(0)  # noqa: S311 - blanks in answers, which nobody sees
        service = Service(clock, spacing, _Topics(topic_exists), f"{_APP_ID}.appspot.com", Manual())
        self._script = _Script(self._prepare)
        self._state = BuildbucketState(canned=self._script)
        self.app = BuildbucketApp(
            service, self._state, _APP_ID, f"{_APP_ID}@appspot.gserviceaccount.com", _no_control, spacing
        )
        self._seen = 0

    @property
    def requests(self) -> tuple[BuildbucketRequest, ...]:
        """The requests and their answers, in order."""
        return tuple(self._state.log.all())

    def begin(self, delivery: Delivery | None) -> None:
        """Set the answers for a delivery."""
        self._seen = len(self.requests)
        self._state.faults.clear()
        self._script.begin(iter(delivery.answers if delivery else ()))

    def own(self) -> Reply | None:
        """Return the next answer if the client itself decides the outcome of the call; the server answers anyway."""
        return self._script.own()

    def next_reply(self, method: str) -> Reply | None:
        """Take the next answer for a call of another build service; None if a look-up has none."""
        return self._script.next_reply(method)

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve another delivery inside, and then continue the current one."""
        left, seen, faults = self._script.state(), self._seen, list(self._script.faults)
        try:
            yield
        finally:
            self._seen = seen
            self._script.resume(left)
            self._script.faults[:0] = faults

    @property
    def unasked(self) -> int:
        """The number of the delivery's answers that no call has used."""
        return self._script.unasked

    @property
    def calls(self) -> str:
        """A sentence that lists the calls of the delivery."""
        return ", ".join(_described(record) for record in self.requests[self._seen :]) or "none"

    def require_answers(self) -> None:
        """Check that the scenario had an answer to every call of the delivery.

        Raises:
            ScenarioError: an answer is missing or is of the wrong protocol.
        """
        if self._script.faults:
            raise ScenarioError(f".answers: {self._script.faults[0]} (calls: {self.calls})")

    def callback(self, build_id: str) -> Callback:
        """Return the callback of a build. If the answer was lost, the build belongs to the only invocation.

        Raises:
            ScenarioError: no request could have created the build, or requests of several invocations could have.
        """
        asked = [record for record in self.requests if record.method in ("ScheduleBuild", "v1.put")]
        named = [record for record in asked if _build_id(record.answer) == build_id]
        bodies = [json.loads(record.body) for record in named or asked]
        found = [(_operation(body), callback) for body in bodies if (callback := _callback(body))]
        if len({operation for operation, _ in found}) > 1:
            raise ScenarioError(f".notification.build.id: no earlier answer contains build {build_id}")
        if not found:
            raise ScenarioError(".notification: no earlier delivery requested a build")
        return found[-1][1]

    def _prepare(self, answer: Reply) -> None:
        if answer.lost:
            self._state.faults.add(Fault.lost_reply("*"))


class WsgiAdapter(requests.adapters.BaseAdapter):
    """Lets a session of ``requests`` reach a WSGI application of this process, without a socket."""

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__()
        self._app = app

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - as the base class has it
        timeout: Any = None,  # noqa: ARG002
        verify: Any = True,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
        proxies: Any = None,  # noqa: ARG002
    ) -> requests.Response:
        """Pass a request to the application; a cut connection becomes a ``requests.ConnectionError``."""
        environ = EnvironBuilder(
            request.path_url,
            base_url=(request.url or "").partition("?")[0],
            method=request.method or "GET",
            headers=list(request.headers.items()),
            data=request.body,
        ).get_environ()
        try:
            answer = Response(*_reordered(run_wsgi_app(self._app, environ, buffered=True)))
        except ConnectionAbortedError as error:
            raise requests.ConnectionError(str(error), request=request) from error
        raw = urllib3.HTTPResponse(
            io.BytesIO(answer.get_data()),
            headers=urllib3.HTTPHeaderDict(answer.headers.items()),
            status=answer.status_code,
            preload_content=False,
        )
        return requests.adapters.HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        """Do nothing, because nothing is open."""


class _Topics:
    """The part of Pub/Sub that Buildbucket needs: the replay itself publishes, at the scenario's times."""

    def __init__(self, topic_exists: Callable[[str], bool]) -> None:
        self.topic_exists = topic_exists

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:  # noqa: ARG002 - as the real one
        raise AssertionError("a scripted Buildbucket has no builds to announce")


def _no_control(*_: Any) -> Response:
    return Response("a replay's Buildbucket cannot be controlled\n", 404)


def _reordered(ran: tuple[Any, str, Any]) -> tuple[Any, str, Any]:
    body, status, headers = ran
    return b"".join(body), status, headers


def _described(record: BuildbucketRequest) -> str:
    told = f": {' '.join(record.answer.split())[:200]}" if record.status >= 400 else ""  # noqa: PLR2004 - HTTP
    return f"{record.method} answered {record.status or 'not at all'}{told}"


def _build_id(answer: str) -> str:
    try:
        document = json.loads(answer.removeprefix(_GUARD))
    except ValueError:
        return ""
    build = document.get("build", document)
    return str(build.get("id", "")) if isinstance(build, dict) else ""


def _operation(body: Mapping[str, Any]) -> str:
    return str(body.get("requestId") or body.get("client_operation_id"))


def _callback(body: Mapping[str, Any]) -> Callback | None:
    if "pubsub_callback" in body:
        return Callback(body["pubsub_callback"]["topic"], body["pubsub_callback"]["auth_token"], is_v1=True)
    if "notify" in body:
        return Callback(body["notify"]["pubsubTopic"], body["notify"]["userData"], is_v1=False)
    return None
