"""The switches of the start page, for the servers that run only if a config needs them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emulator.buildbucket.server import BuildbucketServer
from emulator.buildbucket.testing import MemoryPublisher
from emulator.clock import RealClock
from emulator.cloud_build.server import CloudBuildServer
from emulator.github.server import GitHubServer
from emulator.gitiles.server import GitilesServer
from emulator.optional_servers import OptionalServers
from emulator.switches import CLOUD_BUILD_SWITCHES, GITHUB_SWITCHES, SWITCHES, Switches


def _cloud(folder: Path, optional: OptionalServers) -> Any:
    publisher = MemoryPublisher()
    return SimpleNamespace(
        buildbucket=BuildbucketServer(RealClock(), publisher),
        gitiles=GitilesServer(folder),
        pubsub=SimpleNamespace(loses=False, copies=1),
        optional=optional,
    )


def test_cloud_build_and_github_fail_while_their_switch_is_on(tmp_path: Path) -> None:
    """A local cloud without these servers has no switch for them."""
    assert Switches(_cloud(tmp_path, OptionalServers())).texts == SWITCHES
    build, github = CloudBuildServer(RealClock(), MemoryPublisher()), GitHubServer(tmp_path)
    switches = Switches(_cloud(tmp_path, OptionalServers(build, github)))
    assert switches.texts == {**SWITCHES, **CLOUD_BUILD_SWITCHES, **GITHUB_SWITCHES}
    for name, server in (("github_fail", github), ("cloud_build_fail", build)):
        switches.turn(name, on=True)
        assert [fault.effect for fault in server.faults.active()] == ["error"]
        switches.turn(name, on=False)
        assert server.faults.active() == []
    switches.turn("cloud_build_lost", on=True)
    assert [(fault.effect, fault.method, fault.when) for fault in build.faults.active()] == [
        ("cut", "create", "after"),
        ("cut", "run", "after"),
    ]
