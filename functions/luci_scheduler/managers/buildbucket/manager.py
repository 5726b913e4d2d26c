"""The task manager of Buildbucket builds, for both protocols."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import MINUTE, SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.managers.buildbucket.launch_input import LaunchInput
from luci_scheduler.managers.buildbucket.protocol import BuildbucketProtocol
from luci_scheduler.managers.buildbucket.v1 import V1
from luci_scheduler.managers.buildbucket.v2 import V2
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment, Server
from luci_scheduler.ports import BuildbucketError

__all__ = ["CHECK_TIMER", "BuildbucketManager"]

CHECK_TIMER = "check-buildbucket-build-status"

_REQUEST_KNOWN = 45 * SECOND
"""From an invocation's beginning, as long as its request ID is surely known: the minute by contract less a slow request."""

_V1_INTERVAL = MINUTE
_V2_INTERVAL_SECONDS = (60, 600)
"""Checks of today's scheduler are spread at random, uniformly over whole seconds."""


class BuildbucketManager:
    """``TaskManager`` for ``buildbucket``; multistage: a launch leaves the invocation RUNNING."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._faces: dict[Era, BuildbucketProtocol] = {
            Era.V1: V1(environment.buildbucket),
            Era.V2: V2(environment.buildbucket),
        }

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Tell that a build is always something to do."""
        return False

    def launch(self, controller: Controller) -> None:
        """Schedule the build; after the first attempt, look whether an earlier one has.

        Where the look-up is refused for good the build is asked for all the same while Buildbucket still answers the
        request ID with the build that it made, which it does for a minute; later that could make a second one.
        """
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
        answer = None
        if invocation.attempts > 1:
            try:
                answer = self._find(controller, face, given, "find")
            except PermanentError:
                if controller.clock.now() - invocation.started > _REQUEST_KNOWN:
                    raise
        if answer is None:
            answer = self._ask(controller, "launch", what, lambda: face.schedule(given, body))
        build = face.launched(given, answer, controller.log)
        controller.set_task(view_url=build.url, task_data={"build_id": build.id})
        controller.set_status(build.status or Status.RUNNING)
        if build.status is None:
            self._schedule_check(controller, server)

    def handle_notification(self, controller: Controller) -> None:
        """Ask for the build's status: the notification itself is only a hint."""
        controller.log("Received PubSub notification, asking Buildbucket for the build status")
        self._check(controller)

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Ask for the build's status, in case its notification was lost, and arrange for the next check."""
        if timer.title != CHECK_TIMER:
            return
        server, _ = self._server(controller.invocation)
        if server.protocol is Era.V1:
            controller.log("Timer tick, asking Buildbucket for the build status")
        self._check(controller)
        if not controller.invocation.status.is_final:
            self._schedule_check(controller, server)

    def abort(self, controller: Controller) -> None:
        """Cancel the build; where its ID was never recorded, look it up by its tag first."""
        invocation = controller.invocation
        server, face = self._server(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not build_id:
            given = self._given(controller, server)
            # Not the launch's look-up: what that one did not see yet may be there by now.
            found = self._find(controller, face, given, "find to cancel")
            if found is None:
                return
            build_id = str(found.get("build", found).get("id", ""))
            if not build_id.isdigit():
                raise PermanentError(f"Buildbucket's answer to the look-up has no ID of a build: {build_id!r}")
        host = invocation.task.fields["server"]
        self._ask(controller, "cancel", "cancel the build", lambda: face.cancel(host, build_id))

    def _find(self, controller: Controller, face: BuildbucketProtocol, given: LaunchInput, question: str) -> Any:
        """Look up the build of an earlier attempt; a refusal leaves in the log how people find it."""
        try:
            return self._ask(controller, question, "look up the build by its tag", lambda: face.find(given))
        except PermanentError:
            tag = f"scheduler_invocation_id:{given.invocation_id}"
            controller.log(f"A build of an earlier attempt may be running: look for builds with the tag {tag}")
            raise

    def _check(self, controller: Controller) -> None:
        invocation = controller.invocation
        server, face = self._server(invocation)
        build_id = str(invocation.task_data.get("build_id", ""))
        if not build_id.isdigit():
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

    def _ask(self, controller: Controller, question: str, what: str, call: Any) -> Any:
        """Ask Buildbucket once per delivery; failures are logged and classified."""
        try:
            return controller.ask(question, call)
        except BuildbucketError as error:
            controller.log(f"Failed to {what} - {error}")
            if error.transient:
                raise TransientError(f"failed to {what}: {error}") from error
            raise PermanentError(f"failed to {what}: {error}") from error

    def _schedule_check(self, controller: Controller, server: Server) -> None:
        if self._environment.check_interval:
            delay = self._environment.check_interval
        elif server.protocol is Era.V1:
            delay = _V1_INTERVAL
        else:
            delay = controller.chance.check_delay_seconds(*_V2_INTERVAL_SECONDS) * SECOND
        controller.add_timer(delay, CHECK_TIMER)

    def _server(self, invocation: Invocation) -> tuple[Server, BuildbucketProtocol]:
        host = invocation.task.fields.get("server", "")
        server = self._environment.servers.get(host)
        if server is None:
            raise PermanentError(
                f"the Buildbucket server {quote(host)} is not configured; add it to SCHEDULER_BUILDBUCKET_SERVERS"
            )
        return server, self._faces[server.protocol]

    def _attempt_end(self, controller: Controller) -> Instant:
        """Return when an attempt that begins now has to be over: after the deadline, or when its claim ends if that is sooner."""
        end = Instant(controller.clock.now() + self._environment.request_deadline)
        return min(end, controller.invocation.claim_until or end)

    def _given(self, controller: Controller, server: Server) -> LaunchInput:
        invocation = controller.invocation
        environment = self._environment
        return LaunchInput(
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
