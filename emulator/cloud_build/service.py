"""The Cloud Build API without a protocol: the HTTP server and the port in memory call the same service."""

from __future__ import annotations

import base64
import random
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from emulator.building.messages import Publisher
from emulator.building.output import Outputs
from emulator.building.program_pool import PARALLEL, ProgramPool
from emulator.building.timeline import Timeline
from emulator.building.wire_time import format_timestamp
from emulator.clock import Clock
from emulator.cloud_build.builds import Build, BuildStore, Place, operation, project_number
from emulator.cloud_build.errors import CallError, invalid, not_found
from emulator.cloud_build.filters import parse_filter
from emulator.cloud_build.lifecycle import LifeCycle
from emulator.cloud_build.notifications import Notifier
from emulator.cloud_build.plans import Plan, Plans, Script
from emulator.cloud_build.rules import check_build, filled
from emulator.cloud_build.shapes import check_shape
from emulator.cloud_build.substitutions import replaced
from emulator.cloud_build.triggers import Trigger, Triggers
from luci_scheduler.core.git_names import BRANCHES, TAGS, is_hash

__all__ = ["Call", "Resolve", "Service", "console_url", "find_call"]

Resolve: TypeAlias = Callable[[str, str], str]
"""Returns the hash of the commit to which a ref of a repository (https address) leads; empty if it is not known."""

_PLACE = r"/v1/projects/(?P<project>[^/:]+)/locations/(?P<location>[^/:]+)"
_ROUTES: Sequence[tuple[str, str, re.Pattern[str]]] = [
    (verb, method, re.compile(_PLACE + path))
    for verb, method, path in (
        ("POST", "create", "/builds"),
        ("GET", "list", "/builds"),
        ("GET", "get", "/builds/(?P<id>[^/:]+)"),
        ("POST", "cancel", "/builds/(?P<id>[^/:]+):cancel"),
        ("POST", "approve", "/builds/(?P<id>[^/:]+):approve"),
        ("POST", "run", "/triggers/(?P<id>[^/:]+):run"),
        ("GET", "trigger", "/triggers/(?P<id>[^/:]+)"),
        ("GET", "account", "/defaultServiceAccount"),
    )
]
_DEFAULT_PAGE, _LARGEST_PAGE = 100, 1000
_SHORT = 7
_NO_REVISION = "source.revision must be specified to run this trigger"
_REVISIONS = {"commitSha": "", "branchName": BRANCHES, "tagName": TAGS}
"""Member of a ``RepoSource`` → the beginning of the full ref that it names."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API: the method's short name, and the parts of its path."""

    method: str
    place: Place
    id: str = ""
    """The ID of the build, or the ID or name of the trigger; empty for other calls."""


def find_call(http_method: str, path: str) -> Call | None:
    """Return the call to which a path belongs; None if the API has none.

    The old paths without a location are not served.
    """
    for verb, method, pattern in _ROUTES:
        if verb == http_method and (found := pattern.fullmatch(path)):
            parts = found.groupdict()
            return Call(method, Place(parts["project"], parts["location"]), parts.get("id") or "")
    return None


def console_url(build_id: str, place: Place) -> str:
    """Return the ``logUrl`` of a build as the cloud has it."""
    region = "" if place.location == "global" else f";region={place.location}"
    base = "https://console.cloud.google.com/cloud-build/builds"
    return f"{base}{region}/{build_id}?project={project_number(place.project)}"


@dataclass
class Service:
    """The builds, the triggers and everything that changes them, apart from the protocol.

    Attributes:
        log_url: returns the address of a build's page, by its ID and place.
        resolve: finds the commits of branches and tags that a trigger is run at.
        parallel: the number of builds that run their steps at once.
        list_lag: how many nanoseconds pass until a list shows a new build.
        make_timeline: makes the timeline, which runs the changes of builds at their instants.
    """

    clock: Clock
    entropy: random.Random
    publisher: Publisher
    default_plan: Plan = field(default_factory=Script)
    log_url: Callable[[str, Place], str] = console_url
    resolve: Resolve = lambda _repo, _ref: ""
    parallel: int = PARALLEL
    list_lag: int = 0
    make_timeline: Callable[[Clock], Timeline] = Timeline

    def __post_init__(self) -> None:
        self.timeline = self.make_timeline(self.clock)
        self.store = BuildStore()
        self.notifier = Notifier(self.clock, self.timeline, self.publisher)
        self.plans = Plans(self.default_plan)
        self.triggers = Triggers()
        self.outputs: Outputs[str] = Outputs()
        pool = ProgramPool(self.outputs, self.parallel)
        self.life_cycle = LifeCycle(self.clock, self.timeline, self.store, self.notifier, pool)
        self._created = format_timestamp(self.clock.now())
        self._methods: Mapping[str, Callable[[Call, Mapping[str, str], Any], dict[str, Any]]] = {
            "create": lambda call, _query, body: operation(self.create(call.place, body)),
            "run": lambda call, _query, body: operation(self.run_trigger(call.place, call.id, body)),
            "get": lambda call, _query, _body: dict(self._find(call).body),
            "list": lambda call, query, _body: self.list_builds(call.place, query),
            "cancel": lambda call, _query, body: self._cancel(call, body),
            "approve": lambda call, _query, body: self._approve(call, body),
            "trigger": lambda call, _query, _body: self._trigger(call.place, call.id).to_json(
                call.place, self._created
            ),
            "account": lambda call, _query, _body: self._account(call.place),
        }

    def answer(self, call: Call, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Return the answer of a call.

        Args:
            call: from `find_call`.
            query: the parameters of the query.
            body: the parsed JSON; None without one.

        Raises:
            CallError: the service refuses the call.
        """
        return self._methods[call.method](call, query, {} if body is None else body)

    def create(self, place: Place, body: Any) -> Build:
        """Create a build from the message ``Build``; sent twice, it is two builds.

        Raises:
            CallError: INVALID_ARGUMENT.
        """
        check_shape("Build", body, "build")
        return self._create(place, body, None, "", self._own_values(place))

    def run_trigger(self, place: Place, name: str, body: Any) -> Build:
        """Create a build from a trigger, by the message ``RunBuildTriggerRequest``; sent twice, it is two builds.

        Raises:
            CallError: NOT_FOUND, INVALID_ARGUMENT or FAILED_PRECONDITION.
        """
        check_shape("RunBuildTriggerRequest", body, "")
        trigger = self._trigger(place, name)
        if trigger.disabled:
            raise CallError("FAILED_PRECONDITION", "trigger is disabled")
        source: Mapping[str, Any] = body.get("source", {})
        revision, ref = self._revision(trigger, source)
        own = {**self._own_values(place), **self._commit_values(trigger, revision, ref)}
        request = _request(trigger, revision, {**trigger.substitutions, **source.get("substitutions", {})})
        return self._create(place, request, trigger, ref, own)

    def list_builds(self, place: Place, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of a place's builds, newest first; an empty list is an empty object.

        Args:
            place: only its builds are listed.
            query: ``filter``, ``pageSize`` and ``pageToken``.

        Raises:
            CallError: INVALID_ARGUMENT.
        """
        matches = parse_filter(query.get("filter", ""))
        size = _page_size(query.get("pageSize", ""))
        before = _position(query.get("pageToken", ""))
        shown = self.clock.now() - self.list_lag
        found = [
            build
            for build in self.store.newest_first()
            if build.place == place and build.created <= shown and matches(build)
        ]
        rest = [build for build in found if before is None or (build.created, build.number) < before]
        answer: dict[str, Any] = {"builds": [dict(build.body) for build in rest[:size]]} if rest else {}
        if len(rest) > size:
            answer["nextPageToken"] = _token(rest[size - 1])
        return answer

    def empty_page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page without builds whose token leads to the requested page."""
        return {"nextPageToken": query.get("pageToken") or _START}

    def _create(
        self, place: Place, request: Mapping[str, Any], trigger: Trigger | None, ref: str, own: Mapping[str, str]
    ) -> Build:
        build_id = str(uuid.UUID(int=self.entropy.getrandbits(128), version=4))
        values = {**own, "BUILD_ID": build_id}
        check_build(request, place.location, values, loose=trigger is not None)
        now = self.clock.now()
        approval = {"approval": {"state": "PENDING", "config": {"approvalRequired": True}}}
        waits = trigger is not None and trigger.approval
        body = {
            **filled(request, values),
            "id": build_id,
            "name": place.name("builds", build_id),
            "projectId": place.project,
            "status": "PENDING" if waits else "QUEUED",
            "createTime": format_timestamp(now),
            "logUrl": self.log_url(build_id, place),
            **(approval if waits else {}),
            **(_of_trigger(trigger, ref, own, request, values) if trigger else {}),
        }
        build = self.store.add(place, now, body)
        name, own_plan = (trigger.name, trigger.plan) if trigger else ("", None)
        self.life_cycle.created(build, self.plans.choose(build, name, own_plan))
        return build

    def _own_values(self, place: Place) -> dict[str, str]:
        number = str(project_number(place.project))
        return {"PROJECT_ID": place.project, "PROJECT_NUMBER": number, "LOCATION": place.location}

    def _revision(self, trigger: Trigger, source: Mapping[str, Any]) -> tuple[str, str]:
        """Return the revision of a run and its full ref, which is empty for a hash.

        Raises:
            CallError: INVALID_ARGUMENT, a trigger with a repository is run without a revision.
        """
        given = [(name, source[name]) for name in _REVISIONS if source.get(name)]
        if len(given) > 1:
            raise invalid("only one of branchName, tagName and commitSha can be specified")
        if given:
            name, text = given[0]
            return text, f"{_REVISIONS[name]}{text}" if _REVISIONS[name] else ""
        if trigger.repository and not trigger.ref:
            raise invalid(_NO_REVISION)
        return trigger.ref, trigger.ref

    def _commit_values(self, trigger: Trigger, revision: str, ref: str) -> dict[str, str]:
        """Return the built-in substitutions of a trigger's commit. A run by hash names no branch and no tag."""
        commit = revision if is_hash(revision) else self.resolve(trigger.repository, ref or revision)
        path = trigger.repository.removesuffix(".git").rstrip("/")
        found = {
            "COMMIT_SHA": commit,
            "REVISION_ID": commit,
            "SHORT_SHA": commit[:_SHORT],
            "REPO_NAME": path.rpartition("/")[2],
            "REPO_FULL_NAME": "" if trigger.is_connected else "/".join(path.split("/")[3:]),
            "BRANCH_NAME": ref.removeprefix(BRANCHES) if ref.startswith(BRANCHES) else "",
            "TAG_NAME": ref.removeprefix(TAGS) if ref.startswith(TAGS) else "",
            "TRIGGER_NAME": trigger.name,
        }
        return {name: value for name, value in found.items() if value}

    def _find(self, call: Call) -> Build:
        build = self.store.get(call.id)
        if build is None or build.place != call.place:
            raise not_found()
        return build

    def _cancel(self, call: Call, body: Any) -> dict[str, Any]:
        check_shape("CancelBuildRequest", body, "")
        return dict(self.life_cycle.cancel(self._find(call)).body)

    def _approve(self, call: Call, body: Any) -> dict[str, Any]:
        result: Mapping[str, Any] = body.get("approvalResult", {}) if isinstance(body, Mapping) else {}
        approved, comment = result.get("decision") == "APPROVED", str(result.get("comment", ""))
        build = self.life_cycle.decide(self._find(call).id, approved=approved, comment=comment)
        if build is None:
            raise CallError("FAILED_PRECONDITION", "the build does not wait for approval")
        return operation(build)

    def _trigger(self, place: Place, name: str) -> Trigger:
        trigger = self.triggers.find(place, name)
        if trigger is None:
            raise not_found()
        return trigger

    def _account(self, place: Place) -> dict[str, Any]:
        number = project_number(place.project)
        account = f"projects/{place.project}/serviceAccounts/{number}-compute@developer.gserviceaccount.com"
        name = f"projects/{number}/locations/{place.location}/defaultServiceAccount"
        return {"name": name, "serviceAccountEmail": account}


_START = base64.urlsafe_b64encode(b"start").decode()


def _token(build: Build) -> str:
    return base64.urlsafe_b64encode(f"{build.created} {build.number}".encode()).decode()


def _position(token: str) -> tuple[int, int] | None:
    if token in ("", _START):
        return None
    try:
        created, number = base64.urlsafe_b64decode(token).decode().split(" ")
        return int(created), int(number)
    except ValueError as error:
        raise invalid("invalid page token") from error


def _page_size(text: str) -> int:
    if not text:
        return _DEFAULT_PAGE
    if not text.isascii() or not text.isdecimal() or int(text) > _LARGEST_PAGE:
        raise invalid(f"page size must be between 0 and {_LARGEST_PAGE}")
    return int(text) or _DEFAULT_PAGE


def _request(trigger: Trigger, revision: str, substitutions: Mapping[str, str]) -> dict[str, Any]:
    """Return the request for a build of a trigger; its substitutions are always loose."""
    found: dict[str, Any] = {
        "source": trigger.source(revision),
        "steps": [dict(step) for step in trigger.steps],
        "tags": list(trigger.tags),
        "substitutions": dict(substitutions),
        "serviceAccount": trigger.service_account,
        "timeout": trigger.timeout,
        "options": {
            "logging": "CLOUD_LOGGING_ONLY",
            "substitutionOption": "ALLOW_LOOSE",
            "automapSubstitutions": True,
        },
    }
    return {name: value for name, value in found.items() if value}


def _of_trigger(
    trigger: Trigger, ref: str, own: Mapping[str, str], request: Mapping[str, Any], values: Mapping[str, str]
) -> dict[str, Any]:
    """Return the members that a build has because a trigger made it."""
    commit = {key: value for key, value in own.items() if key not in ("PROJECT_ID", "PROJECT_NUMBER", "LOCATION")}
    substitutions = {**commit, **request.get("substitutions", {})}
    name = ref.split("/", 2)[2] if ref.count("/") > 1 else ""
    tags = [replaced(tag, {**values, **substitutions}) for tag in trigger.tags]
    return {
        "buildTriggerId": trigger.id,
        "substitutions": {**substitutions, **({"REF_NAME": name} if name else {})},
        "tags": [f"trigger-{trigger.id}", *tags],
    }
