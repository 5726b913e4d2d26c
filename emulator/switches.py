"""The faults that the start page switches on and off."""

from __future__ import annotations

from collections.abc import Mapping

from emulator import cloud_build
from emulator.buildbucket.builds import Outcome
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import End, Plan, Script, Start
from emulator.github.faults import GitHubFault
from emulator.gitiles.faults import GitilesFault
from emulator.local_cloud import LocalCloud
from luci_scheduler.core.instants import SECOND

__all__ = ["CLOUD_BUILD_SWITCHES", "GITHUB_SWITCHES", "SWITCHES", "Switches"]

SWITCHES: Mapping[str, str] = {
    "builds_fail": "new builds fail",
    "builds_hang": "new builds never end",
    "lose": "notifications of builds are lost",
    "fail": "Buildbucket answers 502",
    "slow": "Buildbucket answers three seconds late",
    "gitiles_fail": "Gitiles answers 503",
    "gitiles_slow": "Gitiles answers three seconds late",
    "messages_lost": "commit events and notifications are lost in Pub/Sub",
    "messages_doubled": "Pub/Sub delivers each message twice",
}
"""Name → the effect while it is on."""
CLOUD_BUILD_SWITCHES: Mapping[str, str] = {
    "cloud_build_fail": "Cloud Build answers 503",
    "cloud_build_lost": "Cloud Build makes builds, and its answers are lost",
}
"""The same for a local cloud that serves Cloud Build."""
GITHUB_SWITCHES: Mapping[str, str] = {"github_fail": "GitHub answers 503"}
"""The same for a local cloud that serves GitHub."""
_SLOW_SECONDS = 3.0
_BODY = "this failure was switched on, on the start page of the local cloud"
_FAILING = Script((Start(SECOND), End(2 * SECOND, Outcome("FAILURE", summary=_BODY))))
_HANGING = Script((Start(SECOND),))


class Switches:
    """The switches of a local cloud; all are off at first."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self.on: frozenset[str] = frozenset()
        """The names of the active switches."""

    @property
    def texts(self) -> Mapping[str, str]:
        """The switches that this local cloud has: name → the effect."""
        optional = self._cloud.optional
        return {
            **SWITCHES,
            **(CLOUD_BUILD_SWITCHES if optional.cloud_build else {}),
            **(GITHUB_SWITCHES if optional.github else {}),
        }

    def turn(self, name: str, *, on: bool) -> None:
        """Turn a switch on or off.

        Raises:
            ValueError: there is no such switch.
        """
        if name not in self.texts:
            raise ValueError("there is no such switch")
        self.on = self.on | {name} if on else self.on - {name}
        self._apply_to_buildbucket()
        self._apply_to_gitiles()
        self._apply_to_cloud_build()
        self._apply_to_github()
        messages = self._cloud.pubsub
        messages.loses = "messages_lost" in self.on
        messages.copies = 2 if "messages_doubled" in self.on else 1

    def _apply_to_buildbucket(self) -> None:
        buildbucket = self._cloud.buildbucket
        buildbucket.plans.override = self._plan()
        buildbucket.faults.clear()
        buildbucket.notifier.clear_faults()
        if "lose" in self.on:
            buildbucket.notifier.add_fault(NotificationFault("drop", times=None))
        if "fail" in self.on:
            buildbucket.faults.add(Fault("http", times=None, status=502, body=_BODY))
        if "slow" in self.on:
            buildbucket.faults.add(Fault("slow", times=None, seconds=_SLOW_SECONDS))

    def _apply_to_cloud_build(self) -> None:
        server = self._cloud.optional.cloud_build
        if server is None:
            return
        server.plans.override = self._cloud_build_plan()
        server.faults.clear()
        server.notifier.clear_faults()
        if "lose" in self.on:
            server.notifier.add_fault(cloud_build.NotificationFault("drop", times=None))
        if "cloud_build_fail" in self.on:
            server.faults.add(cloud_build.Fault("error", times=None))
        if "cloud_build_lost" in self.on:
            for method in ("create", "run"):
                server.faults.add(cloud_build.Fault("cut", method, "after", None))

    def _apply_to_github(self) -> None:
        server = self._cloud.optional.github
        if server is None:
            return
        server.faults.clear()
        if "github_fail" in self.on:
            server.faults.add(GitHubFault("error", times=None))

    def _cloud_build_plan(self) -> cloud_build.Script | None:
        working = cloud_build.Change("WORKING", SECOND)
        if "builds_fail" in self.on:
            return cloud_build.Script((working, cloud_build.Change("FAILURE", 2 * SECOND, _BODY, "USER_BUILD_STEP")))
        return cloud_build.Script((working,)) if "builds_hang" in self.on else None

    def _plan(self) -> Plan | None:
        if "builds_fail" in self.on:
            return _FAILING
        return _HANGING if "builds_hang" in self.on else None

    def _apply_to_gitiles(self) -> None:
        faults = self._cloud.gitiles.faults
        faults.clear()
        if "gitiles_fail" in self.on:
            faults.add(GitilesFault("error", times=None, status=503))
        if "gitiles_slow" in self.on:
            faults.add(GitilesFault("slow", times=None, seconds=_SLOW_SECONDS))
