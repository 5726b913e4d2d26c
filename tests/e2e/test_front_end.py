"""A commit becomes a build that ends, while the front end stands before all functions and strips tokens or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from emulator.buildbucket.plans import End, Script, Start
from emulator.front_end.modes import Stripping
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import MILLISECOND
from tests.e2e.support import MAIN, job_id, repo, write_config
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


def _build_a_commit(cloud: LocalCloud) -> dict[str, Any]:
    """Publish a commit, and return the page of its ended invocation as the developer sees it."""
    revision = cloud.repository(repo("door")).commit("Change", {"a": "b"}, MAIN, at=1)
    cloud.publish_commit(repo("door"), MAIN, revision)

    def ended() -> dict[str, Any] | None:
        items = cloud.invocations(job_id("door"))
        return items[0] if items and items[0]["final"] else None

    item = until(ended)
    assert item is not None
    return item


def _options(folder: Path, stripping: Stripping, store: Literal["memory", "emulators"], **more: Any) -> Options:
    (folder / "configs").mkdir()
    write_config(folder / "configs", {"door": ["door"]})
    return Options(
        folder=folder,
        store=store,
        front_end="iap",
        stripping=stripping,
        check_interval_seconds=1,
        # The notification of the end is late, so that a status check comes first.
        plan=Script((Start(50 * MILLISECOND), End(1500 * MILLISECOND))),
        sync_seconds=0,
        **more,
    )


def _check(cloud: LocalCloud) -> None:
    item = _build_a_commit(cloud)
    assert item["status"] == "SUCCEEDED"
    assert len(list(cloud.buildbucket.builds.newest_first())) == 1
    assert cloud.front_end is not None
    assert cloud.front_end.run_schedule("sweep").status == 200
    # On a busy machine, the first status check comes after the end.
    until(lambda: len(cloud.cloud_tasks.stats().attempts_by_task) > 1, "the sync and at least one status check")


@pytest.mark.parametrize("stripping", ["always", "never"])
def test_a_build_in_memory(stripping: Stripping, tmp_path: Path) -> None:
    """Push, task, schedule and console: each caller's token passes both locks."""
    with start_local_cloud(_options(tmp_path, stripping, "memory")) as cloud:
        _check(cloud)
        output = cloud.functions["on_task"].output
        until(lambda: any('"on_build_completion"' in line for line in output.lines), "a notification arrives")
        assert "unauthenticated" not in "\n".join(output.lines)


@pytest.mark.emulators
def test_a_build_on_the_official_emulators(tmp_path: Path, firestore_emulator: Any, pubsub_emulator: Any) -> None:
    """The official Pub/Sub attaches no token, so the push entrance adds it; the functions are processes."""
    running = {"firestore_address": firestore_emulator.address, "pubsub_address": pubsub_emulator.address}
    with start_local_cloud(_options(tmp_path, "always", "emulators", **running)) as cloud:
        _check(cloud)
        for function in cloud.functions.values():
            assert not [line for line in function.output.lines if "unauthenticated" in line]
