"""The Cloud Build service of a world: that of the local cloud, on virtual time, below the world's faults.

Nothing recognizes a repeated request: sent twice, it is two builds. A list may lag, a read may not know a new build
yet, and a request to run a trigger may land long after its caller gave up. Messages go to the topic ``cloud-builds``,
whose subscription leaves out WORKING. People approve or reject the builds of one trigger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from emulator.building.timeline import Timeline
from emulator.cloud_build.builds import Build as ServedBuild
from emulator.cloud_build.errors import CallError, not_found, over_quota
from emulator.cloud_build.exchange import Exchange, refused
from emulator.cloud_build.exchange import Reply as ServedReply
from emulator.cloud_build.faults import Fault as ServedFault
from emulator.cloud_build.plans import Change, Plan, Plans, Script
from emulator.cloud_build.service import Call, Service, find_call
from emulator.cloud_build.triggers import Trigger
from emulator.serving.faults import Faults
from emulator.storm.choices import Choices
from emulator.storm.faults import Fault, Kind
from emulator.storm.history import Build, History, Listing
from emulator.storm.kernel import Kernel
from emulator.storm.scripts import APPROVED_TRIGGER, CLOUD_HOST, CLOUD_TRIGGER
from emulator.storm.wire import HttpRequest, Reply
from luci_scheduler.core.instants import MINUTE, SECOND, Instant

__all__ = ["CloudBuildHost", "CloudNotice"]

_LONGEST = 8 * MINUTE
_LONGEST_APPROVAL = 5 * MINUTE
_UNKNOWN = 45 * SECOND
"""How long a stale read may not know a new build. The functions expect a minute."""
_FIRST_PAGE = "first-page"
"""The token that an empty page names."""
_OUTCOMES = ("SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "INTERNAL_ERROR")
_SPELLED = {"CANCELLED": "CANCELED"}
"""Status of Cloud Build → the same status as `Build` spells it."""
_UNANNOUNCED = "WORKING"
_ENDS = ("SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "EXPIRED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class CloudNotice:
    """A message of the topic ``cloud-builds``."""

    build_id: str
    attributes: Mapping[str, str]
    data: bytes


class _Agenda(Timeline):
    """The kernel, which runs the changes of builds."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def at(self, instant: int, action: Callable[[int], None]) -> None:
        self._kernel.at(instant, lambda: action(instant))


class _DrawnPlans(Plans):
    """Plans that follow from the run's choices."""

    def __init__(self, choices: Choices) -> None:
        super().__init__(Script())
        self._choices = choices

    def choose(self, build: ServedBuild, trigger: str, own: Plan | None) -> Plan:  # noqa: ARG002 - as overridden
        draw = self._choices.draw("platform/build")
        waits = draw.between(0, 20) * SECOND + draw.below(SECOND)
        works = 20 * SECOND + draw.below(_LONGEST // SECOND) * SECOND
        return Script((Change("WORKING", waits), Change(_OUTCOMES[draw.second % len(_OUTCOMES)], works)))


class CloudBuildHost:
    """The service.

    Args:
        kernel: the clock.
        choices: decide how long a build takes and how it ends, and who is approved.
        history: gets builds and lists.
        changed: called after each change of a build.
        notify: sends a message.
    """

    part = "builds"

    def __init__(
        self,
        kernel: Kernel,
        choices: Choices,
        history: History,
        changed: Callable[[Build], None],
        notify: Callable[[CloudNotice], None],
    ) -> None:
        self._kernel = kernel
        self._choices = choices
        self._history = history
        self._changed = changed
        self._notify = notify
        self._service = Service(
            clock=cast("Any", kernel),
            entropy=Random(choices.draw("script/build-ids").first),  # noqa: S311 - IDs that follow from the seed
            publisher=self,
            make_timeline=lambda _: _Agenda(kernel),
        )
        self._service.plans = _DrawnPlans(choices)
        for number, name in enumerate((CLOUD_TRIGGER, APPROVED_TRIGGER), 1):
            self._service.triggers.add(Trigger(name, f"{number:08}-0000-4000-8000-000000000000", approval=number > 1))
        self._exchange = Exchange(self._service, Faults[ServedFault]())
        self._states: dict[str, list[tuple[Instant, Mapping[str, Any]]]] = {}
        """Build → its message after each change, each with the instant of the change."""
        self._builds: dict[str, Build] = {}
        self._request = HttpRequest("", "", "", (), b"")
        self._listed: HttpRequest | None = None

    def method(self, request: HttpRequest) -> str:
        """Return the name of the called method."""
        return f"cloud_build.{_call(request).method}"

    def refusal(self, request: HttpRequest, fault: Fault | None) -> Reply | None:  # noqa: ARG002 - as of the protocol
        """Return the answer of a service that refuses."""
        match fault.kind if fault else None:
            case None | Kind.BUILD_UNAVAILABLE:
                return _reply(refused(CallError("UNAVAILABLE", "The service is currently unavailable.")))
            case Kind.BUILD_QUOTA if fault:
                return _reply(refused(over_quota(1)), {"Retry-After": str(fault.amount)} if fault.amount else {})
            case Kind.BUILD_DENIED:
                return _reply(refused(CallError("PERMISSION_DENIED", "The caller does not have permission")))
        return None

    def answer(self, request: HttpRequest, *, as_of: int, fault: Fault | None) -> Reply:
        """Carry a request out."""
        if fault is not None and fault.kind is Kind.BUILD_EMPTY_PAGE:
            return Reply.of({"nextPageToken": _FIRST_PAGE})
        call, self._request = _call(request), request
        self._history.counts[f"cloud_build.{call.method}"] += 1
        if call.method == "get" and as_of < self._kernel.now():
            return self._shown(call.id, as_of)
        if call.method == "list":
            self._note_list(request, as_of)
        self._service.list_lag = self._kernel.now() - as_of
        query = {name: value for name, value in request.query if value != _FIRST_PAGE}
        reply = _reply(self._exchange.answer(request.method, request.path, query, request.body, lambda _: None))
        if call.method == "cancel" and reply.status_code == 200 and call.id in self._builds:  # noqa: PLR2004 - HTTP
            self._builds[call.id].canceled_by.append(request.delivery)
        return reply

    def publish(self, _topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Note a change of a build, and announce it (``Publisher``)."""
        now, body = self._kernel.now(), json.loads(data)
        self._states.setdefault(body["id"], []).append((now, body))
        build = self._builds.get(body["id"]) or self._created(body)
        status = attributes["status"]
        build.status = _SPELLED.get(status, status)
        if status == _UNANNOUNCED:
            build.started = now
        if status in _ENDS:
            build.ended = now
        self._changed(build)
        if status != _UNANNOUNCED:
            self._notify(CloudNotice(build.id, attributes, data))

    def topic_exists(self, _: str) -> bool:
        """Return True: there is the topic (``Publisher``)."""
        return True

    def _created(self, body: Mapping[str, Any]) -> Build:
        values, now = body.get("substitutions", {}), self._kernel.now()
        build = Build(
            id=body["id"],
            server=CLOUD_HOST,
            builder=body.get("buildTriggerId", ""),
            job_id=values.get("_SCHEDULER_JOB", ""),
            invocation_id=int(values.get("_SCHEDULER_INVOCATION", 0)),
            request_id="",
            created=now,
            ends=now,
            outcome="",
            status=body["status"],
            delivery=self._request.delivery,
        )
        self._builds[build.id] = build
        self._history.builds.append(build)
        if "approval" in body:
            draw = self._choices.draw("platform/approval")
            decided = now + 5 * SECOND + draw.below(_LONGEST_APPROVAL)
            self._kernel.at(decided, lambda: self._decide(build.id, approved=draw.second & 3 > 0))
        return build

    def _decide(self, build_id: str, *, approved: bool) -> None:
        """Let a person approve or reject a build, unless it was canceled meanwhile."""
        self._service.life_cycle.decide(build_id, approved=approved)

    def _shown(self, build_id: str, as_of: int) -> Reply:
        """Return a build as it was. A read may know no build that is new."""
        states = self._states.get(build_id, [])
        seen = [body for at, body in states if at <= as_of]
        if not states or (not seen and self._kernel.now() - states[0][0] < _UNKNOWN):
            return _reply(refused(not_found()))
        return Reply.of(seen[-1] if seen else states[0][1])

    def _note_list(self, request: HttpRequest, as_of: int) -> None:
        """Note which builds a list shows. A request that is answered again counts by its last answer."""
        if self._listed is request:
            self._history.listings.pop()
        self._listed = request
        hidden = [build.id for build in self._builds.values() if build.created > as_of]
        shown = [build.id for build in self._builds.values() if build.created <= as_of]
        self._history.listings.append(Listing(self._kernel.now(), request.delivery, tuple(shown), tuple(hidden)))


def _call(request: HttpRequest) -> Call:
    call = find_call(request.method, request.path)
    if call is None:
        raise AssertionError(f"Cloud Build has no {request.method} {request.path}")
    return call


def _reply(reply: ServedReply, headers: Mapping[str, str] = {}) -> Reply:
    return Reply(reply.status, reply.body, {"Content-Type": reply.content_type, **headers})
