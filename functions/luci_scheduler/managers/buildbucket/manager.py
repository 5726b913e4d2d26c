"""The task manager of Buildbucket builds, for both protocols."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError, SchedulerError, TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.log_lines import Call
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
from luci_scheduler.managers.buildbucket.builder_id import server_of
from luci_scheduler.managers.buildbucket.protocol_client import ProtocolClient
from luci_scheduler.managers.buildbucket.v1 import V1Client
from luci_scheduler.managers.buildbucket.v2 import V2Client
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment, Server
from luci_scheduler.ports import BuildbucketError

__all__ = ["CHECK_TIMER", "BuildbucketManager"]

_logger = structlog.stdlib.get_logger("luci_scheduler")

_BUILD_ID = re.compile("[0-9]{1,19}")  # 63 bits

CHECK_TIMER = "check-buildbucket-build-status"

_REQUEST_KNOWN = 45 * SECOND
"""How long after an invocation's start Buildbucket certainly knows its request ID.

The API promises a minute; a slow request may use up some of it.
"""

_SEARCH_TRUSTED = 10 * SECOND
"""How long after the start of an empty search a request may still create a build.

A build that the search did not show is less than 45 seconds old, so its request ID is known for 15 more seconds.
Buildbucket ends a request at the limit that the request names, give or take some seconds.
"""

_REQUESTS = 4
"""The largest number of requests of one attempt, each under another ID.

Three other jobs may have drawn the same invocation ID.
"""

_SEARCH_LAG = 3 * MINUTE
"""How long after the last log line an empty search proves that there is no build.

Searches show a new build late, and an attempt may request its build up to a minute after its log line."""

_FIXED_INTERVAL = MINUTE
"""The interval in v1, and in both eras for a server without notifications, whose checks alone find the end."""
_V2_INTERVAL_SECONDS = (60, 600)
"""Today's scheduler draws each delay at random, uniformly from these whole seconds."""


class BuildbucketManager:
    """``TaskManager`` for ``buildbucket``. A launch schedules a build and leaves the invocation RUNNING."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._clients: dict[Era, ProtocolClient] = {
            Era.V1: V1Client(environment.buildbucket),
            Era.V2: V2Client(environment.buildbucket),
        }

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: a launch always schedules a build."""
        return False

    def launch(self, controller: Controller) -> None:
        """Schedule the build. Before every request except the invocation's first, look for an existing build."""
        invocation = controller.invocation
        try:
            server, client = self._server(invocation)
        except PermanentError as error:
            controller.log(log_lines.TOPIC_FAILED.format(error=error))
            raise
        request = replace(self._request(controller, server), until=self._attempt_end(controller))
        body = client.prepare(request, controller.log)
        controller.count_save()
        action = Call.ADD if server.protocol is Era.V1 else Call.SCHEDULE
        answer = self._obtain(controller, client, request, body, action)
        build = client.launched(request, answer, controller.log)
        _check_id(build.id)
        controller.set_task(view_url=build.url, task_data={"build_id": build.id})
        controller.set_status(build.status or Status.RUNNING)
        if build.status is None:
            self._schedule_check(controller, server)
        else:
            controller.set_summary(client.summary(answer))

    def _obtain(
        self,
        controller: Controller,
        client: ProtocolClient,
        request: BuildRequest,
        body: Mapping[str, Any],
        action: Call,
    ) -> Any:
        """Return an answer about the invocation's build, which may be an existing build or a new build.

        Buildbucket identifies requests by their IDs alone, "even for another builder". If an invocation of another job
        has the same ID, Buildbucket answers with the build of that invocation. The manager then repeats the request
        under another ID, which is the same in each attempt.
        """
        for number in range(1, _REQUESTS + 1):
            numbered = replace(request, number=number)
            if number > 1 or controller.invocation.attempts > 1:
                trusted = Instant(controller.clock.now() + _SEARCH_TRUSTED)
                found = self._existing(controller, client, numbered)
                if found is not None:
                    return found
                numbered = replace(numbered, until=min(trusted, numbered.until or trusted))
            name = _numbered("launch", number)
            answer = self._call(controller, name, action, partial(client.schedule, numbered, body))
            if client.is_ours(request, answer):
                return answer
            build_id = client.build_id(answer)
            controller.log(log_lines.BUILD_OF_ANOTHER.format(request_id=numbered.request_id, build_id=build_id))
            _logger.warning("build_of_another", request_id=numbered.request_id, build_id=build_id)
        raise TransientError(f"Buildbucket answered {_REQUESTS} requests with builds of other invocations")

    def _existing(self, controller: Controller, client: ProtocolClient, request: BuildRequest) -> Any:
        """Return the answer about the build of an earlier request, or None.

        If the server refuses the search for good, the launch may still repeat its request within a minute of the start:
        Buildbucket then answers with the existing build. A later request could create a second build.
        """
        try:
            builds = self._find(controller, client, request, _numbered("find", request.number))
        except PermanentError:
            if controller.clock.now() - controller.invocation.started > _REQUEST_KNOWN:
                raise
            return None
        self._cancel_doubles(controller, client, builds)
        return builds[-1] if builds else None

    def handle_notification(self, controller: Controller) -> None:
        """Check the build's status. The notification is only a hint."""
        controller.log(log_lines.NOTIFIED.format(service="Buildbucket"))
        self._check(controller)

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Check the build's status, because its notification may be lost, and schedule the next check."""
        if timer.title != CHECK_TIMER:
            return
        server, _ = self._watched(controller.invocation)
        if server.protocol is Era.V1:
            controller.log(log_lines.V1_CHECKING.format())
        self._check(controller)
        if not controller.invocation.status.is_final:
            self._schedule_check(controller, server)

    def abort(self, controller: Controller) -> None:
        """Cancel the build. If its ID was never recorded, find the build by its tags first.

        Raises:
            TransientError: Buildbucket did not answer, or a search may not show a recently requested build yet.
        """
        invocation = controller.invocation
        server, client = self._server(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not build_id:
            try:
                # Search again under another name: a build that the launch did not find may show by now.
                builds = self._find(controller, client, self._request(controller, server), "find to cancel")
            except SchedulerError:
                self._log_tag(controller)
                raise
            if not builds:
                self._require_late_search(controller, client)
                return
            self._cancel_doubles(controller, client, builds)
            build_id = client.build_id(builds[-1])
        try:
            self._cancel(controller, client, build_id)
        except TransientError:
            where = invocation.view_url or "look for it by its number"
            controller.log(log_lines.BUILD_MAY_RUN.format(build_id=build_id, where=where))
            raise

    def _cancel(self, controller: Controller, client: ProtocolClient, build_id: str) -> None:
        _check_id(build_id)
        host = controller.invocation.task.fields["server"]
        self._call(controller, f"cancel {build_id}", Call.CANCEL, lambda: client.cancel(host, build_id))

    def _cancel_doubles(self, controller: Controller, client: ProtocolClient, builds: Sequence[Any]) -> None:
        """Keep the oldest of several builds of one invocation, and cancel the others that are active.

        Raises:
            TransientError: a build could not be canceled; the next search finds it again.
        """
        for build in builds[:-1]:
            if not client.is_active(build):
                continue
            double, kept = client.build_id(build), client.build_id(builds[-1])
            controller.log(log_lines.BUILD_DOUBLED.format(kept=kept, double=double, canceled=double))
            _logger.warning("builds_doubled", build_id=kept, double=double)
            try:
                self._cancel(controller, client, double)
            except PermanentError:
                continue  # the log names it; the invocation keeps the oldest build

    def _find(self, controller: Controller, client: ProtocolClient, request: BuildRequest, name: str) -> Sequence[Any]:
        """Search for the builds of the invocation, newest first."""
        found = self._call(controller, name, Call.FIND, lambda: client.find(request))
        return [build for build in found if client.is_ours(request, build)]

    def _require_late_search(self, controller: Controller, client: ProtocolClient) -> None:
        """Refuse to trust an empty search while a build whose answer was lost may not show yet.

        Raises:
            TransientError: it is too early for the search to prove anything.
        """
        invocation = controller.invocation
        if invocation.attempts == 1 and _is_refusal(client, controller.answer_to("launch")):
            return  # Buildbucket itself refused the only request
        if controller.clock.now() - invocation.last_line < _SEARCH_LAG:
            raise TransientError("a recently requested build may not show in the look-up yet")

    def _log_tag(self, controller: Controller) -> None:
        """Log the tag by which a person can find the build."""
        tag = f"scheduler_invocation_id:{controller.invocation.id}"
        controller.log(log_lines.EARLIER_BUILD_MAY_RUN.format(tag=tag))

    def _check(self, controller: Controller) -> None:
        invocation = controller.invocation
        server, client = self._watched(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not _BUILD_ID.fullmatch(build_id):
            controller.set_status(Status.FAILED)
            raise PermanentError("the invocation holds no build ID")
        action = Call.FETCH_V1 if server.protocol is Era.V1 else Call.FETCH
        host = invocation.task.fields["server"]
        try:
            answer = self._call(controller, "get", action, lambda: client.get(host, build_id))
            status = client.checked(answer, controller.log)
        except PermanentError:
            controller.set_status(Status.FAILED)
            raise
        if status is not None:
            controller.set_status(status)
            controller.set_summary(client.summary(answer))

    def _call(self, controller: Controller, name: str, action: Call, call: Callable[[], Any]) -> Any:
        """Call Buildbucket once per delivery. An error counts as the response; it is logged and classified."""
        answer = controller.call_once(name, lambda: _answer_or_error(call))
        if not isinstance(answer, BuildbucketError):
            return answer
        controller.log(log_lines.CALL_FAILED.format(call=action, error=answer))
        message = f"failed to {action}: {answer}"
        if answer.transient:
            raise TransientError(message, throttled=answer.throttled, retry_after=answer.retry_after) from answer
        raise PermanentError(message) from answer

    def _schedule_check(self, controller: Controller, server: Server) -> None:
        if self._environment.check_interval:
            delay = self._environment.check_interval
        elif server.protocol is Era.V1 or not server.topic:
            delay = _FIXED_INTERVAL
        else:
            delay = controller.entropy.check_delay_seconds(*_V2_INTERVAL_SECONDS) * SECOND
        controller.add_timer(delay, CHECK_TIMER)

    def _server(self, invocation: Invocation) -> tuple[Server, ProtocolClient]:
        host = invocation.task.fields.get("server", "")
        server = server_of(self._environment.servers, host)
        if server is None:
            raise PermanentError(
                f"the Buildbucket server {quote(host)} is not configured; add it to SCHEDULER_BUILDBUCKET_SERVERS"
            )
        return server, self._clients[server.protocol]

    def _watched(self, invocation: Invocation) -> tuple[Server, ProtocolClient]:
        """Return the server of a running build.

        Raises:
            TransientError: the settings lack the server. Only Buildbucket can end the invocation, so it waits until an
                operator adds the server.
        """
        try:
            return self._server(invocation)
        except PermanentError as error:
            raise TransientError(str(error)) from error

    def _attempt_end(self, controller: Controller) -> Instant:
        """Return the end of an attempt that starts now: its deadline, or the end of its claim if that is sooner."""
        end = Instant(controller.clock.now() + self._environment.request_deadline)
        return min(end, controller.invocation.claim_until or end)

    def _request(self, controller: Controller, server: Server) -> BuildRequest:
        invocation = controller.invocation
        environment = self._environment
        return BuildRequest(
            task=invocation.task.fields,
            job_id=invocation.job_id,
            invocation_id=invocation.id,
            realm=f"{project_of(invocation.job_id)}:{invocation.realm}",
            app_id=environment.app_id,
            hostname=environment.hostname,
            topic=server.topic,
            token=self._token(controller, server),
            properties=invocation.properties or {},
            tags=invocation.tags,
            triggers=[trigger.public() for trigger in invocation.incoming_triggers],
            hosts=environment.hosts,
        )

    def _token(self, controller: Controller, server: Server) -> str:
        if not server.topic:
            return ""
        invocation, secret = controller.invocation, self._environment.token_secrets[0]
        return make_token(secret, invocation.job_id, invocation.id, controller.clock.now())


def _is_refusal(client: ProtocolClient, answer: Any) -> bool:
    """Whether Buildbucket itself refused a request for good; None means that it did not answer."""
    if isinstance(answer, BuildbucketError):
        return not answer.transient
    return answer is not None and client.is_refusal(answer)


def _check_id(build_id: str) -> None:
    """Check the build ID of an answer, which becomes part of later URLs.

    Raises:
        PermanentError: the ID is not a number.
    """
    if not _BUILD_ID.fullmatch(build_id):
        raise PermanentError(f"Buildbucket's answer has no ID of a build: {build_id[:100]!r}")


def _answer_or_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BuildbucketError as error:
        return error


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"
