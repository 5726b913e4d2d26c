"""The task manager of Buildbucket builds, for both protocols."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError, SchedulerError, TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
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
"""From an invocation's beginning, as long as its request ID is surely known: the minute by contract less a slow request."""

_REQUESTS = 4
"""Requests of one attempt under different IDs: as many invocations of other jobs may have the same ID, less one."""

_SEARCH_LAG = 3 * MINUTE
"""From the last line of an invocation's log, after which an empty look-up proves that there is no build. Searches show a new
build late, and an attempt may request its build up to a minute after its own line."""

_V1_INTERVAL = MINUTE
_V2_INTERVAL_SECONDS = (60, 600)
"""Checks of today's scheduler are spread at random, uniformly over whole seconds."""


class BuildbucketManager:
    """``TaskManager`` for ``buildbucket``; multistage: a launch leaves the invocation RUNNING."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._faces: dict[Era, ProtocolClient] = {
            Era.V1: V1Client(environment.buildbucket),
            Era.V2: V2Client(environment.buildbucket),
        }

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Tell that a build is always something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Schedule the build; look it up before every request but the invocation's very first."""
        invocation = controller.invocation
        try:
            server, face = self._server(invocation)
        except PermanentError as error:
            controller.log(f"Failed to prepare PubSub topic - {error}")
            raise
        given = replace(self._given(controller, server), until=self._attempt_end(controller))
        body = face.prepare(given, controller.log)
        controller.count_save()
        what = "add buildbucket build" if server.protocol is Era.V1 else "schedule Buildbucket build"
        build = face.launched(given, self._obtain(controller, face, given, body, what), controller.log)
        _check_id(build.id)
        controller.set_task(view_url=build.url, task_data={"build_id": build.id})
        controller.set_status(build.status or Status.RUNNING)
        if build.status is None:
            self._schedule_check(controller, server)

    def _obtain(
        self, controller: Controller, face: ProtocolClient, given: BuildRequest, body: Mapping[str, Any], what: str
    ) -> Any:
        """Return an answer about the invocation's build, an existing or a new one.

        Buildbucket knows requests by their IDs alone, "even for another builder": if another job's invocation has the same
        ID, it answers with that invocation's build. The request is then made again under another ID, the same one in each attempt.
        """
        for number in range(1, _REQUESTS + 1):
            asked = replace(given, request=number)
            if number > 1 or controller.invocation.attempts > 1:
                found = self._existing(controller, face, asked)
                if found is not None:
                    return found
            question = _numbered("launch", number)
            answer = self._ask(controller, question, what, partial(face.schedule, asked, body))
            if face.is_ours(given, answer):
                return answer
            build_id = face.build_id(answer)
            controller.log(
                f"Buildbucket answered request {asked.request_id} with build {build_id} of another invocation"
            )
            _logger.warning("build_of_another", request_id=asked.request_id, build_id=build_id)
        raise TransientError(f"Buildbucket answered {_REQUESTS} requests with builds of other invocations")

    def _existing(self, controller: Controller, face: ProtocolClient, given: BuildRequest) -> Any:
        """Return the answer about the build of an earlier request, or None.

        After a permanent refusal of the look-up the launch still requests the build for a minute: until then Buildbucket answers
        the request ID with the build that it made. A later request could make a second build.
        """
        try:
            builds = self._find(controller, face, given, _numbered("find", given.request))
        except PermanentError:
            if controller.clock.now() - controller.invocation.started > _REQUEST_KNOWN:
                raise
            return None
        self._cancel_doubles(controller, face, builds)
        return builds[-1] if builds else None

    def handle_notification(self, controller: Controller) -> None:
        """Ask for the build's status: the notification itself is only a hint."""
        controller.log("Received PubSub notification, asking Buildbucket for the build status")
        self._check(controller)

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Ask for the build's status, in case its notification was lost, and arrange for the next check."""
        if timer.title != CHECK_TIMER:
            return
        server, _ = self._watched(controller.invocation)
        if server.protocol is Era.V1:
            controller.log("Timer tick, asking Buildbucket for the build status")
        self._check(controller)
        if not controller.invocation.status.is_final:
            self._schedule_check(controller, server)

    def abort(self, controller: Controller) -> None:
        """Cancel the build; where its ID was never recorded, look it up by its tags first.

        Raises:
            TransientError: Buildbucket did not answer, or a recently requested build does not show yet: look again.
        """
        invocation = controller.invocation
        server, face = self._server(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not build_id:
            try:
                # Not the launch's look-up: what that one did not see yet may be there by now.
                builds = self._find(controller, face, self._given(controller, server), "find to cancel")
            except SchedulerError:
                self._log_tag(controller)
                raise
            if not builds:
                self._look_again_if_early(controller, face)
                return
            self._cancel_doubles(controller, face, builds)
            build_id = face.build_id(builds[-1])
        try:
            self._cancel(controller, face, build_id)
        except TransientError:
            controller.log(f"Build {build_id} may be running: {invocation.view_url or 'look for it by its number'}")
            raise

    def _cancel(self, controller: Controller, face: ProtocolClient, build_id: str) -> None:
        _check_id(build_id)
        host = controller.invocation.task.fields["server"]
        self._ask(controller, f"cancel {build_id}", "cancel the build", lambda: face.cancel(host, build_id))

    def _cancel_doubles(self, controller: Controller, face: ProtocolClient, builds: Sequence[Any]) -> None:
        """Of several builds of one invocation keep the oldest, and cancel the others that still run.

        Raises:
            TransientError: a build could not be canceled; the next look-up finds it again.
        """
        for build in builds[:-1]:
            if not face.goes_on(build):
                continue
            double, kept = face.build_id(build), face.build_id(builds[-1])
            controller.log(f"The invocation has builds {kept} and {double}: canceling {double}")
            _logger.warning("builds_doubled", build_id=kept, double=double)
            try:
                self._cancel(controller, face, double)
            except PermanentError:
                continue  # the log names it; the invocation keeps the oldest build

    def _find(self, controller: Controller, face: ProtocolClient, given: BuildRequest, question: str) -> Sequence[Any]:
        """Look up the builds of the invocation, the newest first."""
        found = self._ask(controller, question, "look up the build by its tag", lambda: face.find(given))
        return [build for build in found if face.is_ours(given, build)]

    def _look_again_if_early(self, controller: Controller, face: ProtocolClient) -> None:
        """Distrust an empty look-up while a build whose answer was lost may not show yet.

        Raises:
            TransientError: the look-up proves nothing yet.
        """
        invocation = controller.invocation
        if invocation.attempts == 1 and _is_refusal(face, controller.answer_to("launch")):
            return  # the refusal is Buildbucket's own answer to the only request
        if controller.clock.now() - invocation.last_line < _SEARCH_LAG:
            raise TransientError("a recently requested build may not show in the look-up yet")

    def _log_tag(self, controller: Controller) -> None:
        """Log the tag by which people find the build."""
        tag = f"scheduler_invocation_id:{controller.invocation.id}"
        controller.log(f"A build of an earlier attempt may be running: look for builds with the tag {tag}")

    def _check(self, controller: Controller) -> None:
        invocation = controller.invocation
        server, face = self._watched(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not _BUILD_ID.fullmatch(build_id):
            controller.set_status(Status.FAILED)
            raise PermanentError("the invocation holds no build ID")
        what = "fetch buildbucket build" if server.protocol is Era.V1 else "fetch build"
        host = invocation.task.fields["server"]
        try:
            answer = self._ask(controller, "get", what, lambda: face.get(host, build_id))
            status = face.checked(answer, controller.log)
        except PermanentError:
            controller.set_status(Status.FAILED)
            raise
        if status is not None:
            controller.set_status(status)

    def _ask(self, controller: Controller, question: str, what: str, call: Callable[[], Any]) -> Any:
        """Ask Buildbucket once per delivery, and keep an error as the answer; failures are logged and classified."""
        answer = controller.call_once(question, lambda: _answer_or_error(call))
        if not isinstance(answer, BuildbucketError):
            return answer
        controller.log(f"Failed to {what} - {answer}")
        message = f"failed to {what}: {answer}"
        if answer.transient:
            raise TransientError(message, throttled=answer.throttled, retry_after=answer.retry_after) from answer
        raise PermanentError(message) from answer

    def _schedule_check(self, controller: Controller, server: Server) -> None:
        if self._environment.check_interval:
            delay = self._environment.check_interval
        elif server.protocol is Era.V1:
            delay = _V1_INTERVAL
        else:
            delay = controller.entropy.check_delay_seconds(*_V2_INTERVAL_SECONDS) * SECOND
        controller.add_timer(delay, CHECK_TIMER)

    def _server(self, invocation: Invocation) -> tuple[Server, ProtocolClient]:
        host = invocation.task.fields.get("server", "")
        server = self._environment.servers.get(host)
        if server is None:
            raise PermanentError(
                f"the Buildbucket server {quote(host)} is not configured; add it to SCHEDULER_BUILDBUCKET_SERVERS"
            )
        return server, self._faces[server.protocol]

    def _watched(self, invocation: Invocation) -> tuple[Server, ProtocolClient]:
        """Return the server of a build that runs.

        Raises:
            TransientError: the settings lack the server. Only Buildbucket itself can end the invocation, so this is mended first.
        """
        try:
            return self._server(invocation)
        except PermanentError as error:
            raise TransientError(str(error)) from error

    def _attempt_end(self, controller: Controller) -> Instant:
        """Return when an attempt that begins now has to be over: after the deadline, or when its claim ends if that is sooner."""
        end = Instant(controller.clock.now() + self._environment.request_deadline)
        return min(end, controller.invocation.claim_until or end)

    def _given(self, controller: Controller, server: Server) -> BuildRequest:
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
            token=make_token(environment.token_secrets[0], invocation.job_id, invocation.id, controller.clock.now()),
            properties=invocation.properties or {},
            tags=invocation.tags,
            triggers=[trigger.public() for trigger in invocation.incoming_triggers],
        )


def _is_refusal(face: ProtocolClient, answer: Any) -> bool:
    """Whether Buildbucket itself has refused a request for good; None is no answer."""
    if isinstance(answer, BuildbucketError):
        return not answer.transient
    return answer is not None and face.is_refusal(answer)


def _check_id(build_id: str) -> None:
    """Check the ID that an answer gives a build: it becomes a part of the address of later requests.

    Raises:
        PermanentError: it is not a number.
    """
    if not _BUILD_ID.fullmatch(build_id):
        raise PermanentError(f"Buildbucket's answer has no ID of a build: {build_id[:100]!r}")


def _answer_or_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BuildbucketError as error:
        return error


def _numbered(question: str, number: int) -> str:
    return question if number == 1 else f"{question} {number}"
