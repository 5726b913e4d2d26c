"""How often a running build is checked: each minute without notifications, and rarely with them."""

from dataclasses import replace
from typing import Any

import pytest

from luci_scheduler.bootstrap import make_app
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import SECOND
from luci_scheduler.settings import BuildbucketServer
from tests.unit.engine.world import HOST, World


@pytest.mark.parametrize(("notifications", "seconds"), [(False, 60), (True, 599)])
def test_server_without_notifications_is_asked_each_minute(notifications: bool, seconds: int) -> None:
    """Its checks alone find the end of a build. Others are insurance, and their delays are drawn."""
    world = World()
    server = BuildbucketServer(HOST, "cr-buildbucket@appspot.gserviceaccount.com", Era.V2, notifications=notifications)
    settings = replace(world.app.settings, check_interval_seconds=0, buildbucket_servers=(server,))
    world.app = make_app(settings, world.ports)
    world.runtime = world.app.runtime
    world.ports.entropy.check_delay_seconds = lambda *_: 599  # type: ignore[method-assign]
    build = world.buildbucket._ScheduleBuild

    def schedule(request: Any) -> Any:
        return build({"notify": {"userData": ""}, **request})

    world.buildbucket._ScheduleBuild = schedule  # type: ignore[method-assign]
    world.commit()
    (task,) = world.queue.tasks
    assert (task.kind, task.eta - world.clock.now()) == ("timer", seconds * SECOND)
