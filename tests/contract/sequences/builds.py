"""Sequences for Buildbucket in both protocols: repeated requests, searches, status checks, cancellations, time.

The simulator's server decides when builds start and how they end. The other server follows, so that only the answers
are compared, in the members that the scheduler reads.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from emulator.buildbucket.plans import Outcome
from emulator.buildbucket.server import BuildbucketServer
from emulator.buildbucket.testing import MemoryPublisher
from emulator.clock import SteppedClock
from emulator.storm.buildbucket import BuildServer
from emulator.storm.choices import Choices, Trace
from emulator.storm.history import Build, History
from emulator.storm.kernel import Kernel
from emulator.storm.wire import HttpRequest, Reply
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.ports import Buildbucket
from tests.contract.sequences.harness import Operation, Side

__all__ = ["builds_sides", "draw"]

HOST = "cr-buildbucket.appspot.com"
_START = parse_rfc3339("2026-03-01T12:00:00Z")
_STEPS = (1, 10, 30, 59, 60, 61, 300)  # seconds; request IDs are known for a minute
_REQUESTS, _BUILDERS = 2, 2
_UNKNOWN = -1

Event = tuple[int, str]
"""The number of a build in its sequence, and its new status."""


def draw(entropy: random.Random) -> Operation:
    """Draw an operation."""
    protocol = entropy.choice(["v1", "v2"])
    request = (protocol, entropy.randrange(_REQUESTS), entropy.randrange(_BUILDERS))
    number = entropy.choice([*range(6), _UNKNOWN])
    choices: list[tuple[str, tuple[Any, ...]]] = [
        ("schedule", request),
        ("search", request),
        ("get", (number,)),
        ("cancel", (number,)),
        ("advance", (entropy.choice(_STEPS),)),
    ]
    return Operation(*entropy.choices(choices, [5, 3, 4, 2, 4])[0])


class _BuildsSide(Side):
    def __init__(self, client: Buildbucket) -> None:
        self._client = client
        self.ids: list[str] = []
        """The builds, in the order in which they became known."""
        self._protocols: list[str] = []

    def do_schedule(self, protocol: str, request: int, builder: int) -> object:
        """Request a build. An ID that is used again within a minute names the same build."""
        # IDs are known per caller and protocol. A request that is repeated names the same builder.
        tags = {"scheduler_job_id": f"p/b{builder}", "scheduler_invocation_id": str(request)}
        if protocol == "v2":
            body = {
                "requestId": f"{builder}-{request}",
                "builder": _place(builder),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            }
            return self._plain("v2", self._client.v2(HOST, "ScheduleBuild", body))
        parameters = json.dumps({"builder_name": f"b{builder}"})
        body = {
            "client_operation_id": f"{builder}-{request}-v1",
            "bucket": "luci.p.v1",
            "tags": [f"builder:b{builder}", *(f"{key}:{value}" for key, value in tags.items())],
            "parameters_json": parameters,
        }
        return self._answer(self._client.v1(HOST, "PUT", "builds", body))

    def do_search(self, protocol: str, request: int, builder: int) -> object:
        """Search for the builds of an invocation."""
        if protocol == "v2":
            tags = [
                {"key": "scheduler_job_id", "value": f"p/b{builder}"},
                {"key": "scheduler_invocation_id", "value": str(request)},
            ]
            predicate = {"builder": _place(builder), "tags": tags, "includeExperimental": True}
            found = self._client.v2(HOST, "SearchBuilds", {"predicate": predicate, "pageSize": 10})
            return [self._plain("v2", build) for build in found.get("builds", ())]
        query = [
            ("bucket", "luci.p.v1"),
            ("tag", f"scheduler_invocation_id:{request}"),
            ("tag", f"scheduler_job_id:p/b{builder}"),
            ("tag", f"builder:b{builder}"),
            ("include_experimental", "true"),
        ]
        found = self._client.v1(HOST, "GET", "search", query=query)
        return [self._plain("v1", build) for build in found.get("builds", ())]

    def do_get(self, number: int) -> object:
        """Check a build, in the protocol of its request."""
        build_id, protocol = self._known(number)
        if protocol == "v1":
            return self._answer(self._client.v1(HOST, "GET", f"builds/{build_id}"))
        return self._plain("v2", self._client.v2(HOST, "GetBuild", {"id": build_id}))

    def do_cancel(self, number: int) -> object:
        """Cancel a build. In v2 it ends later, so the status of the answer says nothing.

        To a build that has ended otherwise, v1 servers answer the build or an error. The scheduler takes either.
        """
        build_id, protocol = self._known(number)
        if protocol == "v1":
            answer = self._client.v1(HOST, "POST", f"builds/{build_id}/cancel", {})
            reason = answer.get("error", {}).get("reason")
            result = answer.get("build", {}).get("result")
            return self._answer(answer) if reason == "BUILD_NOT_FOUND" or result == "CANCELED" else "it has ended"
        answer = self._client.v2(HOST, "CancelBuild", {"id": build_id, "summaryMarkdown": "enough"})
        return self._plain("v2", answer)[:2]

    @abstractmethod
    def do_advance(self, seconds: int) -> None:
        """Let time pass."""

    def _known(self, number: int) -> tuple[str, str]:
        """Return the ID and the protocol of a build. Its number counts round the builds so far."""
        if number == _UNKNOWN or not self.ids:
            return "8000000000000000000", "v2" if number == _UNKNOWN else "v1"
        return self.ids[number % len(self.ids)], self._protocols[number % len(self.ids)]

    def _answer(self, answer: Mapping[str, Any]) -> object:
        if error := answer.get("error"):
            return "error", error["reason"]
        return self._plain("v1", answer["build"])

    def _plain(self, protocol: str, build: Mapping[str, Any]) -> tuple[object, ...]:
        """Return what the scheduler reads of a build."""
        if build["id"] not in self.ids:
            self.ids.append(build["id"])
            self._protocols.append(protocol)
        number = self.ids.index(build["id"])
        if protocol == "v2":
            return number, dict(build["builder"]), build["status"]
        ours = sorted(tag for tag in build["tags"] if tag.startswith(("scheduler_", "builder:")))
        reasons = build.get("failure_reason"), build.get("cancelation_reason")
        return number, build["bucket"], ours, build["status"], build.get("result"), reasons

    def state(self) -> object:
        """Return all builds."""
        return [self.do_get(number) for number in range(len(self.ids))]


def _place(builder: int) -> dict[str, str]:
    return {"project": "p", "bucket": "ci", "builder": f"b{builder}"}


class _Wire:
    """The session of a client whose server is in this process."""

    def __init__(self, server: BuildServer, kernel: Kernel) -> None:
        self._server = server
        self._kernel = kernel

    def request(self, method: str, url: str, *, params: Any = None, data: bytes | None = None, **_: Any) -> Reply:
        """Send a request."""
        parts = urlsplit(url)
        request = HttpRequest(method, parts.hostname or "", parts.path, tuple(params or ()), data or b"")
        return self._server.answer(request, as_of=self._kernel.now(), fault=None)


class _MemorySide(_BuildsSide):
    def __init__(self, client: Buildbucket, kernel: Kernel) -> None:
        super().__init__(client)
        self._kernel = kernel

    def do_advance(self, seconds: int) -> None:
        self._kernel.run(self._kernel.now() + seconds * SECOND)


class _ServerSide(_BuildsSide):
    def __init__(
        self, client: Buildbucket, server: BuildbucketServer, clock: SteppedClock, events: list[Event]
    ) -> None:
        super().__init__(client)
        self._server = server
        self._clock = clock
        self._events = events

    def apply(self, operation: Operation) -> object:
        """Run an operation; then let builds change as on the other server."""
        answer = super().apply(operation)
        known = [event for event in self._events if event[0] < len(self.ids)]  # all, unless the answers differ
        for number, status in known:
            if status == "STARTED":
                self._server.start_build(int(self.ids[number]))
            else:
                self._server.end_build(int(self.ids[number]), Outcome(cast("Any", status)))
        self._events.clear()
        return answer

    def do_advance(self, seconds: int) -> None:
        self._clock.advance(seconds * SECOND)


@contextmanager
def builds_sides(seed: int = 0) -> Iterator[tuple[Side, Side]]:
    """Yield the simulator's server and the local cloud's server, both empty."""
    kernel, clock, trace = Kernel(Instant(_START)), SteppedClock(_START), Trace()
    events: list[Event] = []

    def changed(build: Build) -> None:
        if build.status != "SCHEDULED":
            events.append((memory.ids.index(build.id), build.status))

    made = BuildServer(HOST, kernel, Choices(seed, faults=(), trace=trace), History(), changed, lambda _: None)
    wire = cast("Any", _Wire(made, kernel))
    memory = _MemorySide(BuildbucketClient(lambda host: f"https://{host}", lambda: wire, kernel, MINUTE), kernel)
    server = BuildbucketServer(clock, MemoryPublisher(), life_cycle="manual", hostname=HOST)
    server.start()
    opened = sessions(authenticated=False)
    try:
        client = BuildbucketClient(lambda _: server.url, opened, clock, MINUTE)
        yield memory, _ServerSide(client, server, clock, events)
    finally:
        opened().close()
        server.stop()
        kernel.close()
