"""The Cloud Build server of the local cloud."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulator.building.messages import Publisher
from emulator.building.output import Outputs
from emulator.building.program_pool import PARALLEL
from emulator.clock import Clock
from emulator.cloud_build.app import CloudBuildApp
from emulator.cloud_build.builds import Build, BuildStore, Place
from emulator.cloud_build.control import Control
from emulator.cloud_build.faults import Fault
from emulator.cloud_build.kept import export_builds, import_builds
from emulator.cloud_build.notifications import Notifier
from emulator.cloud_build.plans import Change, Plan, Plans, Script
from emulator.cloud_build.service import Resolve, Service
from emulator.cloud_build.state import CloudBuildRequest, CloudBuildState, Surroundings
from emulator.cloud_build.triggers import Trigger, Triggers
from emulator.serving.emulated_server import EmulatedServer
from emulator.serving.faults import Faults

__all__ = ["CloudBuildServer"]


class CloudBuildServer(EmulatedServer[Faults[Fault], CloudBuildRequest]):
    """Cloud Build over HTTP: ``/v1/projects/P/locations/L/builds`` and the other paths with a location.

    Builds follow their plans (``plans``, ``default_plan``) on ``clock``. ``<url>/builds/<id>`` is the page of a build,
    and its ``logUrl``.

    Args:
        clock: the server's time; waits also use it.
        publisher: publishes notifications to the topic ``cloud-builds`` of each build's project.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        default_plan: the plan of builds without another plan. By default a build starts after 0.2 s, and it succeeds
            2 s later.
        triggers: the triggers at first.
        resolve: finds the commits of branches and tags that a trigger is run at.
        parallel: how many builds run their steps at once; by default one for each processor.
        entropy: the source of IDs.
    """

    def __init__(
        self,
        clock: Clock,
        publisher: Publisher,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        default_plan: Plan | None = None,
        triggers: Sequence[Trigger] = (),
        resolve: Resolve = lambda _repo, _ref: "",
        parallel: int = PARALLEL,
        entropy: random.Random | None = None,
    ) -> None:
        self.service = Service(
            clock,
            entropy or random.Random(),  # noqa: S311 - IDs need spread, not secrecy
            publisher,
            default_plan=default_plan or Script(),
            log_url=self._page,
            resolve=resolve,
            parallel=parallel,
        )
        for trigger in triggers:
            self.service.triggers.add(trigger)
        state = CloudBuildState()
        super().__init__(CloudBuildApp(self.service, state, Control(self.service, state)), state, host, port)
        self._around = state.around

    def start(self) -> None:
        """Serve requests and run due changes of builds. Connections are accepted when this returns."""
        super().start()
        self.service.timeline.start()

    def stop(self) -> None:
        """Stop serving and changing builds, and kill their steps; a no-op if the server does not run."""
        super().stop()
        self.service.timeline.stop()
        self.service.life_cycle.stop()

    @property
    def around(self) -> Surroundings:
        """The local cloud around the server; its members may be set while the server runs."""
        return self._around

    @property
    def builds(self) -> BuildStore:
        """The builds, also by invocation."""
        return self.service.store

    @property
    def outputs(self) -> Outputs[str]:
        """The outputs of builds that run their steps."""
        return self.service.outputs

    @property
    def plans(self) -> Plans:
        """The plans of builds."""
        return self.service.plans

    @property
    def triggers(self) -> Triggers:
        """The triggers."""
        return self.service.triggers

    @property
    def notifier(self) -> Notifier:
        """The notifications and their faults."""
        return self.service.notifier

    def on_change(self, call: Callable[[Build], None]) -> None:
        """Call a function with each build that starts or ends, before its announcement; it replaces an earlier one."""
        self.service.life_cycle.on_change = call

    def change_build(self, build_id: str, change: Change) -> Build | None:
        """Give a build a status now, and announce it; None if the build is unknown or has ended."""
        return self.service.life_cycle.change(build_id, change)

    def run_due(self) -> int:
        """Run all changes that are due by the clock; return their number."""
        return self.service.timeline.run_due()

    def export_state(self) -> dict[str, Any]:
        """Return the latest 2,000 builds with their kept outputs, as JSON for `import_state` of a later server."""
        return export_builds(self.service)

    def import_state(self, state: Mapping[str, Any]) -> None:
        """Add the builds of an earlier server; repeating it changes nothing.

        Builds that had not ended then end now as INTERNAL_ERROR, with a detail that says why. So the topic of
        notifications should exist.

        Raises:
            ValueError: the state is not from `export_state` of this version; no build was added.
        """
        import_builds(state, self.service)

    def _page(self, build_id: str, _: Place) -> str:
        return f"{self.url}/builds/{build_id}"
