"""The task manager of Cloud Build builds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError, SchedulerError, TransientError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, format_rfc3339, parse_rfc3339
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.log_lines import Call
from luci_scheduler.managers.cloud_build.api import Api, RefusedError
from luci_scheduler.managers.cloud_build.build import (
    BUILD_ID,
    build_of,
    created,
    indented,
    is_active,
    is_of,
    outcome,
    printed,
    reason_of,
    state_of,
    view_url,
)
from luci_scheduler.managers.cloud_build.kind import CloudBuildKind
from luci_scheduler.managers.cloud_build.lookup import find_builds
from luci_scheduler.managers.cloud_build.permission import check_permitted
from luci_scheduler.managers.cloud_build.request import BuildRequest, Place, identity_of, is_run, make_request, place_of
from luci_scheduler.managers.cloud_build.tags import invocation_tag
from luci_scheduler.managers.controller import Controller, Hint
from luci_scheduler.managers.environment import Environment
from luci_scheduler.ports import CloudBuildError

__all__ = ["CHECK_TIMER", "CloudBuildManager"]

_logger = structlog.stdlib.get_logger("luci_scheduler")

CHECK_TIMER = "check-cloud-build-status"
_CHECK_SECONDS = (60, 600)
"""Each delay between checks is drawn at random from these whole seconds, as for builds of Buildbucket."""

_MAY_BE_UNKNOWN = MINUTE
"""How long after its creation a build may be unknown to a read."""

_LIST_LAG = 4 * MINUTE
"""How long after the last log line a new build of the invocation may still appear.

A request to run a trigger takes up to three minutes after its line, and a list may show the new build late."""

_NOT_MADE = ("RESOURCE_EXHAUSTED", "ABORTED")
"""The transient refusals after which no build exists."""
_NOT_CANCELED = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND")
"""The refusals of a cancel that a build which has ended may cause: HTTP 400 and 404."""


@frozen
class _Work:
    """An invocation during one delivery, with all that its calls need."""

    controller: Controller
    api: Api
    request: BuildRequest
    place: Place
    """Where its build is, or will be."""

    @property
    def recorded(self) -> str:
        """The ID of its recorded build; empty without one."""
        return str(self.controller.invocation.task_data.get("build_id", ""))


class CloudBuildManager:
    """``TaskManager`` for ``cloud_build``. A launch makes a build and leaves the invocation RUNNING."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def idle(self, controller: Controller) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: a launch always makes a build."""
        return False

    def launch(self, controller: Controller) -> None:
        """Make the build. Before every request except the invocation's first, look for an existing build."""
        try:
            work = self._work(controller)
            check_permitted(work.request.task, work.request.defaults)
            path, body = make_request(work.request, controller.log)
        except PermanentError as error:
            controller.log(log_lines.LAUNCH_REFUSED.format(error=error))
            raise
        attempts, end = controller.invocation.attempts, self._attempt_end(work)
        # Cloud Build has no key by which it recognizes a repeated request, so a refused look-up ends the launch.
        if attempts > 1 and (found := self._adopt(work, "find")) is not None:
            self._record(work, found, attempts - 1)
        else:
            self._record(work, self._obtain(work, path, body, end), attempts)

    def _obtain(self, work: _Work, path: str, body: Mapping[str, Any], end: Instant) -> Mapping[str, Any]:
        """Request a build."""
        controller = work.controller
        controller.log(log_lines.CLOUD_REQUEST.format(request=indented(body)))
        action, limit = (Call.RUN, self._run_limit(work)) if is_run(work.request.task) else (Call.CREATE, 0)
        build = build_of(work.api.call("launch", action, path, body, limit=limit, until=end))
        if build is None and (build := self._adopt(work, "find after an empty answer")) is None:
            raise TransientError("Cloud Build's answer names no build, and no list shows one yet")
        controller.log(log_lines.CLOUD_RESPONSE.format(answer=printed(build)))
        return build

    def _adopt(self, work: _Work, name: str) -> Mapping[str, Any] | None:
        """Return the oldest build of the invocation, and cancel the others; None if the look-up finds none."""
        until = Instant(work.controller.clock.now() + self._environment.request_deadline // 2)
        builds = self._find(work, name, until)
        if not builds:
            return None
        kept = builds[0]
        work.controller.log(log_lines.BUILD_FOUND.format(build_id=kept["id"]))
        for double in builds[1:]:
            self._cancel_double(work, str(kept["id"]), double)
        return kept

    def _find(self, work: _Work, name: str, until: Instant | None = None) -> Sequence[Mapping[str, Any]]:
        """Look up the builds of the invocation. After a refusal, the log names how a person can find them."""
        try:
            return find_builds(work.api, work.request, work.place, work.controller.invocation.started, name, until)
        except RefusedError:
            _log_where(work)
            raise

    def _cancel_double(self, work: _Work, kept: str, double: Mapping[str, Any]) -> None:
        """Cancel a second build of the invocation, if it is going on.

        Raises:
            TransientError: it may not be canceled; the next look-up finds it again.
        """
        if not is_active(double):
            return
        build_id = str(double["id"])
        work.controller.log(log_lines.BUILD_DOUBLED.format(kept=kept, double=build_id, canceled=build_id))
        _logger.warning("builds_doubled", build_id=kept, double=build_id)
        self._try_cancel(work, build_id)

    def _record(self, work: _Work, build: Mapping[str, Any], requests: int) -> None:
        """Record a build that this launch has made or found, after at most ``requests`` requests for builds."""
        controller, url = work.controller, view_url(build)
        controller.log(log_lines.TASK_URL.format(url=url))
        now = format_rfc3339(controller.clock.now())
        data = {"build_id": build["id"], "project": work.place.project, "location": work.place.location}
        controller.set_task(view_url=url, task_data={**data, "created": now, "requests": requests})
        status = outcome(build, controller.log)
        controller.set_status(status or Status.RUNNING)
        _note(controller, build, status)
        if status is None:
            self._schedule_check(controller)

    def handle_notification(self, controller: Controller) -> None:
        """Check the build's status. A notification about another build of the invocation may cancel that build."""
        hint, recorded = controller.hint, str(controller.invocation.task_data.get("build_id", ""))
        if hint is not None and hint.task_id != recorded:
            self._cancel_lost(self._watched(controller), hint)
        elif not controller.invocation.status.is_final:
            controller.log(log_lines.NOTIFIED.format(service="Cloud Build"))
            self._check(controller)

    def _cancel_lost(self, work: _Work, hint: Hint) -> None:
        """Cancel a build that an attempt made whose answer was lost, if the build is going on and is really ours.

        A build that a person made with Cloud Build's own retry, after the invocation has ended, is left alone.

        Raises:
            TransientError: Cloud Build did not answer, or may not know the build yet; the notification must come again.
        """
        build_id = hint.task_id
        try:
            build = work.api.call(f"get {build_id}", Call.GET, work.place.build(build_id), quiet=True)
        except RefusedError as error:
            if error.code == "NOT_FOUND" and _has_several(work) and _is_recent(work.controller, hint.sent):
                raise TransientError(f"{error}, which may be too new to be known") from error
            return  # no such build: the notification is wrong
        if not (is_active(build) and is_of(build, identity_of(work.request))):
            return
        if _is_repeated_by_a_person(work, build):
            return
        _note_other(work.controller, build_id)
        recorded = work.recorded or "none"
        work.controller.log(log_lines.BUILD_OF_LOST_ATTEMPT.format(build_id=build_id, recorded=recorded))
        _logger.warning("builds_doubled", build_id=recorded, double=build_id)
        self._try_cancel(work, build_id)

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Check the build's status, because its notification may be lost, and schedule the next check."""
        if timer.title != CHECK_TIMER:
            return
        self._check(controller)
        if not controller.invocation.status.is_final:
            self._schedule_check(controller)

    def _check(self, controller: Controller) -> None:
        work = self._watched(controller)
        build = self._fetch(work)
        self._cancel_doubles(work)
        status = outcome(build, controller.log)
        if status is None:
            controller.log(log_lines.BUILD_STATUS.format(status=state_of(build)["status"]))
        else:
            controller.log(log_lines.BUILD.format(answer=printed(build)))
            controller.set_status(status)
        _note(controller, build, status)

    def _cancel_doubles(self, work: _Work) -> None:
        """Cancel other builds of the invocation, which only a launch of several requests may have made.

        The message of such a build does this sooner, unless it is lost.

        Raises:
            TransientError: Cloud Build did not answer.
        """
        if not _has_several(work):
            return
        try:
            builds = self._find(work, "find doubles")
        except RefusedError:
            return  # the debug log names how a person can find them
        for build in builds:
            if build["id"] != work.recorded:
                self._cancel_double(work, work.recorded, build)
                _note_other(work.controller, str(build["id"]))

    def _fetch(self, work: _Work) -> Mapping[str, Any]:
        """Fetch the recorded build. A refusal ends the invocation."""
        controller = work.controller
        try:
            return work.api.call("get", Call.GET, work.place.build(_recorded_id(work)))
        except PermanentError as error:
            if isinstance(error, RefusedError) and error.code == "NOT_FOUND" and _is_new(controller):
                raise TransientError(f"{error}, which may be too new to be known") from error
            controller.set_status(Status.FAILED)
            raise

    def abort(self, controller: Controller) -> None:
        """Cancel the build. If its ID was never recorded, look for all builds of the invocation first.

        Raises:
            TransientError: Cloud Build did not answer, or a list may not show a recently requested build yet; or the
                settings have no Cloud Build.
        """
        work = self._watched(controller)
        if work.recorded:
            self._cancel_recorded(work)
        elif not _never_made(controller):
            self._cancel_found(work)

    def _cancel_recorded(self, work: _Work) -> None:
        build_id = _recorded_id(work)
        try:
            self._cancel(work, build_id)
        except TransientError:
            where = work.controller.invocation.view_url or "look for it by its ID"
            work.controller.log(log_lines.BUILD_MAY_RUN.format(build_id=build_id, where=where))
            raise
        # Without a request, the document may hold another build: then only this one was superseded.
        if work.controller.invocation.abort_requested_by:
            self._cancel_doubles(work)

    def _cancel_found(self, work: _Work) -> None:
        try:
            # Look under another name than the launch: a build that the launch did not find may show by now.
            builds = self._find(work, "find to cancel")
        except TransientError:
            _log_where(work)
            raise
        self._cancel_all(work, (str(build["id"]) for build in builds if is_active(build)))
        # Each attempt may have made a build, so one found build proves nothing about the other attempts.
        invocation = work.controller.invocation
        if len(builds) < invocation.attempts and work.controller.clock.now() - invocation.last_line < _LIST_LAG:
            raise TransientError("a recently requested build may not show in the look-up yet")

    def _cancel_all(self, work: _Work, build_ids: Iterable[str]) -> None:
        """Cancel several builds; a failure does not spare the others."""
        errors: list[SchedulerError] = []
        for build_id in build_ids:
            try:
                self._cancel(work, build_id)
            except SchedulerError as error:
                errors.append(error)
        if errors:
            raise next((error for error in errors if isinstance(error, TransientError)), errors[0])

    def _cancel(self, work: _Work, build_id: str) -> None:
        """Cancel a build; do nothing if it has ended or is gone."""
        path, body = f"{work.place.build(build_id)}:cancel", {"projectId": work.place.project, "id": build_id}
        try:
            work.api.call(f"cancel {build_id}", Call.CANCEL, path, body, quiet=True)
        except RefusedError as refusal:
            if refusal.code in _NOT_CANCELED and self._has_ended(work, build_id):
                return
            work.api.log_refusal(Call.CANCEL, refusal)
            raise

    def _try_cancel(self, work: _Work, build_id: str) -> None:
        """Cancel a second build. A refusal does not end the invocation, which keeps its own build.

        Raises:
            TransientError: Cloud Build did not answer.
        """
        try:
            self._cancel(work, build_id)
        except PermanentError:
            return  # the debug log has it

    def _has_ended(self, work: _Work, build_id: str) -> bool:
        try:
            build = work.api.call(f"get {build_id} after its cancel", Call.GET, work.place.build(build_id), quiet=True)
        except RefusedError as error:
            return error.code == "NOT_FOUND"
        return not is_active(build)

    def _schedule_check(self, controller: Controller) -> None:
        interval = self._environment.cloud_build_defaults.check_interval
        delay = interval or controller.entropy.check_delay_seconds(*_CHECK_SECONDS) * SECOND
        controller.add_timer(delay, CHECK_TIMER)

    def _work(self, controller: Controller) -> _Work:
        """Return an invocation with its place: that of its recorded build, or else of its definition."""
        environment, invocation = self._environment, controller.invocation
        if environment.cloud_build is None:
            raise PermanentError("this installation has no Cloud Build jobs: set SCHEDULER_CLOUD_BUILD to true")
        request = BuildRequest(
            task=invocation.task.fields,
            job_id=invocation.job_id,
            invocation_id=invocation.id,
            app_id=environment.app_id,
            properties=invocation.properties or {},
            defaults=environment.cloud_build_defaults,
        )
        api = Api(environment.cloud_build, controller, environment.request_deadline)
        return _Work(controller, api, request, _recorded_place(invocation) or place_of(request.task, request.defaults))

    def _watched(self, controller: Controller) -> _Work:
        """Return an invocation that may have a build.

        Raises:
            TransientError: the settings have no Cloud Build. Only Cloud Build can end the build, so the handler waits
                until an operator changes the settings.
        """
        try:
            return self._work(controller)
        except PermanentError as error:
            raise TransientError(str(error)) from error

    def _run_limit(self, work: _Work) -> int:
        return work.request.defaults.run_deadline

    def _attempt_end(self, work: _Work) -> Instant:
        """Return the end of an attempt that starts now. The next one may follow its claim, after the least pause."""
        limit = self._environment.request_deadline + (self._run_limit(work) if is_run(work.request.task) else 0)
        end = Instant(work.controller.clock.now() + limit)
        claim_until = work.controller.invocation.claim_until
        return end if claim_until is None else min(end, Instant(claim_until - CloudBuildKind.retry_pause))


def _recorded_id(work: _Work) -> str:
    """Return the ID of the recorded build, which becomes a part of URLs.

    Raises:
        PermanentError: there is no valid ID.
    """
    if not BUILD_ID.fullmatch(work.recorded):
        raise PermanentError("the invocation holds no build ID")
    return work.recorded


def _recorded_place(invocation: Invocation) -> Place | None:
    data = invocation.task_data
    return Place(str(data["project"]), str(data["location"])) if data.get("project") and data.get("location") else None


def _note(controller: Controller, build: Mapping[str, Any], status: Status | None) -> None:
    """Keep the state of a build for the pages, and log the reason if it ended without success."""
    invocation, state = controller.invocation, state_of(build)
    reason = reason_of(build) if status not in (None, Status.SUCCEEDED) else ""
    if reason:
        controller.log(reason)
        state["reason"] = reason
    kept = {name: value for name, value in invocation.task_data.items() if name not in ("status", "waits", "reason")}
    controller.set_task(view_url=invocation.view_url, task_data={**kept, **state})
    ended = f"Build ended with {state['status']}" if status in (Status.FAILED, Status.ABORTED) else ""
    controller.set_summary(reason or ended or state.get("waits", ""))


def _is_new(controller: Controller) -> bool:
    """Whether a build was recorded so recently that a read may not know it yet."""
    try:
        recorded = parse_rfc3339(str(controller.invocation.task_data.get("created", "")))
    except ValueError:
        return False
    return _is_recent(controller, recorded)


def _is_recent(controller: Controller, moment: Instant) -> bool:
    """Whether an object that was made at a moment may still be unknown to a read."""
    return controller.clock.now() - moment < _MAY_BE_UNKNOWN


def _note_other(controller: Controller, build_id: str) -> None:
    """Note another build of the invocation, which is canceled or has ended: nothing needs to look for it any more."""
    invocation = controller.invocation
    others = [*dict.fromkeys([*invocation.task_data.get("others", ()), build_id])]
    controller.set_task(view_url=invocation.view_url, task_data={**invocation.task_data, "others": others})


def _has_several(work: _Work) -> bool:
    """Whether the invocation may have builds that nothing has shown: more requests were sent than builds are known."""
    data = work.controller.invocation.task_data
    return not work.recorded or int(data.get("requests", 1)) > 1 + len(data.get("others", ()))


def _is_repeated_by_a_person(work: _Work, build: Mapping[str, Any]) -> bool:
    """Whether no attempt can have made a build: it was created after the invocation had ended.

    Cloud Build's own retry copies the substitutions. If the answer of a request was lost, Cloud Build may still have
    been at work on that request when the invocation ended.
    """
    finished = work.controller.invocation.finished
    return finished is not None and created(build) > finished + (_LIST_LAG if _has_several(work) else 0)


def _never_made(controller: Controller) -> bool:
    """Whether Cloud Build itself refused the only request for a build, so that no build exists."""
    answer = controller.answer_to("launch")
    is_refusal = isinstance(answer, CloudBuildError) and (not answer.transient or answer.code in _NOT_MADE)
    return is_refusal and controller.invocation.attempts == 1


def _log_where(work: _Work) -> None:
    """Log how a person can find the build of an earlier attempt."""
    invocation_id = work.request.invocation_id
    if is_run(work.request.task):
        line = log_lines.EARLIER_RUN_MAY_RUN.format(substitution=f"_SCHEDULER_INVOCATION={invocation_id}")
    else:
        line = log_lines.EARLIER_BUILD_MAY_RUN.format(tag=invocation_tag(invocation_id))
    work.controller.log(line)
