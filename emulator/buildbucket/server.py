"""The Buildbucket server of the local cloud."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Literal

from emulator.buildbucket.app import BuildbucketApp
from emulator.buildbucket.builders import BuilderConfig, Registry
from emulator.buildbucket.builds import Build, BuildStore, Outcome
from emulator.buildbucket.canned import CannedResponse
from emulator.buildbucket.commands import PARALLEL
from emulator.buildbucket.control import Control
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.kept import export_builds, import_builds
from emulator.buildbucket.notifications import Notifier
from emulator.buildbucket.plans import Announce, Manual, Plan, Plans, PlanSource, Script
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketRequest, BuildbucketState, Surroundings
from emulator.building.messages import Publisher
from emulator.building.output import Outputs
from emulator.clock import Clock
from emulator.serving.emulated_server import EmulatedServer
from emulator.serving.faults import Faults
from luci_scheduler.core.instants import MINUTE

__all__ = ["BuildbucketServer"]


class BuildbucketServer(EmulatedServer[Faults[Fault], BuildbucketRequest]):
    """Buildbucket over HTTP: the v2 API (``/prpc/buildbucket.v2.Builds/...``) and the v1 API over one store of builds.

    Builds follow their plans (``plans``, ``default_plan``) on ``clock``. With ``life_cycle="manual"`` builds change
    only by `start_build` and `end_build`. `script_response` prepares responses in advance.

    Args:
        clock: the server's time; waits also use it.
        publisher: publishes notifications. Its exceptions are logged; the notification of a build's end is retried.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        service_account: the publishing account, as ``/auth/api/v1/server/info`` shows it.
        app_id: the App Engine application that the server represents.
        hostname: the service's hostname in tags and notifications, by default ``<app_id>.appspot.com``.
        default_plan: the plan of builds without another plan. By default a bot takes the build after 1 s, and it
            succeeds 2 s later.
        plan_source: returns the plan of a build that no rule of ``plans`` matches, or None.
        parallel: how many programs of builds run at once; by default one for each processor.
        life_cycle: ``plans`` or ``manual``.
        request_id_memory: how long v2 remembers request IDs, in nanoseconds; None means forever. The default is the
            minute that the API promises.
        strict_builders: whether only builders added by `add_builder` exist.
        entropy: the source of IDs.
    """

    def __init__(
        self,
        clock: Clock,
        publisher: Publisher,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        service_account: str = "cr-buildbucket@appspot.gserviceaccount.com",
        app_id: str = "cr-buildbucket",
        hostname: str | None = None,
        default_plan: Plan | None = None,
        plan_source: PlanSource = lambda _: None,
        parallel: int = PARALLEL,
        life_cycle: Literal["plans", "manual"] = "plans",
        request_id_memory: int | None = MINUTE,
        strict_builders: bool = False,
        entropy: random.Random | None = None,
    ) -> None:
        self.clock = clock
        self.hostname = hostname or f"{app_id}.appspot.com"
        entropy = entropy or random.Random()  # noqa: S311 - IDs need spread, not secrecy
        plan = Manual() if life_cycle == "manual" else default_plan or Script()
        service = Service(
            clock,
            entropy,
            publisher,
            self.hostname,
            plan,
            request_id_memory,
            plan_source=plan_source,
            parallel=parallel,
        )
        service.registry.strict = strict_builders
        state = BuildbucketState()
        # The spacing has its own source, so that IDs do not depend on the number of replies.
        spacing = random.Random(0)  # noqa: S311 - see above
        app = BuildbucketApp(service, state, app_id, service_account, Control(service, state), spacing)
        super().__init__(app, state, host, port)
        self._service = service
        self._canned = state.canned
        self._around = state.around

    def start(self) -> None:
        """Serve requests and run due changes of builds. Connections are accepted when this returns."""
        super().start()
        self._service.timeline.start()

    def stop(self) -> None:
        """Stop serving and changing builds, and kill their programs; a no-op if the server does not run."""
        super().stop()
        self._service.timeline.stop()
        self._service.life_cycle.stop()

    @property
    def builds(self) -> BuildStore:
        """The store of builds."""
        return self._service.store

    @property
    def around(self) -> Surroundings:
        """The local cloud around the server; its members may be set while the server runs."""
        return self._around

    @property
    def outputs(self) -> Outputs[int]:
        """The outputs of builds that run programs."""
        return self._service.outputs

    def on_change(self, call: Callable[[Build], None]) -> None:
        """Call a function with each build that starts or ends, after the announcement; it replaces an earlier one."""
        self._service.life_cycle.on_change = call

    def export_state(self) -> dict[str, Any]:
        """Return the latest 2,000 builds with their kept outputs, as JSON for `import_state` of a later server."""
        return export_builds(self.builds, self.outputs)

    def import_state(self, state: Mapping[str, Any]) -> None:
        """Add the builds of an earlier server; repeating it changes nothing.

        Builds that had not ended then end now as INFRA_FAILURE, with a summary that says why, and their end is
        announced. So the topics of notifications should exist.

        Raises:
            ValueError: the state is not from `export_state` of this version; no build was added.
        """
        import_builds(state, self.builds, self.outputs, self._service.life_cycle.end)

    @property
    def registry(self) -> Registry:
        """The builders and buckets, and their access rules."""
        return self._service.registry

    @property
    def plans(self) -> Plans:
        """The plans of builds."""
        return self._service.plans

    @property
    def notifier(self) -> Notifier:
        """The notifications and their faults."""
        return self._service.notifier

    @property
    def request_id_memory(self) -> int | None:
        """How long v2 remembers request IDs, in nanoseconds; None means forever."""
        return self._service.request_id_memory

    @request_id_memory.setter
    def request_id_memory(self, value: int | None) -> None:
        self._service.request_id_memory = value

    def add_builder(self, builder: BuilderId, config: BuilderConfig | None = None) -> None:
        """Register a builder with its settings."""
        self.registry.add(builder, config)

    def run_due(self) -> int:
        """Run all changes that are due by the clock; return their number."""
        return self._service.timeline.run_due()

    def start_build(self, build_id: int, *, at: int | None = None, announce: Announce | None = None) -> Build | None:
        """Start a scheduled build, by default now, and announce it; None if the build is not scheduled."""
        return self._service.life_cycle.start(build_id, at=at, announce=announce)

    def end_build(
        self,
        build_id: int,
        outcome: Outcome,
        *,
        at: int | None = None,
        announce: Announce | None = None,
        reported_ago: int = 0,
    ) -> Build | None:
        """End a build, by default now, and announce it; None if the build is unknown or has ended already."""
        return self._service.life_cycle.end(build_id, outcome, at=at, announce=announce, reported_ago=reported_ago)

    def script_response(self, method: str, response: CannedResponse | Mapping[str, Any]) -> None:
        """Queue a response for a method (``ScheduleBuild``, ``GetBuild``, ``v1.put``, ``v1.get``, ``v1.cancel``...).

        The responses are used in order; afterwards calls use the store again. A malformed request gets its error and
        uses up no response. The builds of such responses do not exist in the store.
        """
        self._canned.add(method, response if isinstance(response, CannedResponse) else CannedResponse(response))

    def responses_left(self) -> dict[str, int]:
        """Return the number of queued responses per method."""
        return self._canned.left()
