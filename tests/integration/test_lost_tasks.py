"""The queue of the local cloud is purged while builds run and jobs wait for their ticks: the sweep brings all of it back."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import End, Script, Start
from emulator.local_cloud import BUILDBUCKET_HOST, LocalCloud
from luci_scheduler.core.instants import MILLISECOND

pytestmark = pytest.mark.timeout(150)

REPO, MAIN = "https://r.googlesource.com/repo", "refs/heads/main"
RUNNING = tuple(f"build{number}" for number in range(10))
TICKING = tuple(f"tick{number}" for number in range(10))


def _config() -> str:
    task = f'buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "b" }}'
    triggers = " ".join(f'triggers: "{name}"' for name in RUNNING)
    poller = f'trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} {triggers} }}'
    jobs = [f'job {{ id: "{name}" {task} }}' for name in RUNNING]
    jobs += [f'job {{ id: "{name}" schedule: "with 15s interval" {task} }}' for name in TICKING]
    return "\n".join([poller, *jobs])


def _wait(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def _pages(cloud: LocalCloud, names: tuple[str, ...]) -> list[list[str]]:
    """Return the statuses of each job's invocations."""
    pages = [cloud.page(f"jobs/p/{name}") for name in names]
    return [[item["status"] for item in page["invocations"]] if page else [] for page in pages]


def test_a_purged_queue_is_filled_again(tmp_path: Path) -> None:
    """No notification comes: builds end by the checks that the sweep puts back, and schedules by their ticks."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "luci-scheduler.cfg").write_text(_config(), encoding="utf-8")
    settings = {"SCHEDULER_SWEEP_GRACE_SECONDS": "1", "SCHEDULER_COMMIT_WAIT_SECONDS": "0"}
    plan = Script((Start(50 * MILLISECOND), End(300 * MILLISECOND)))
    with LocalCloud(
        tmp_path,
        check_interval_seconds=12,
        plan=plan,
        settings=settings,
        sweep_seconds=0,
        sync_seconds=0,
        store="memory",
    ) as cloud:
        cloud.buildbucket.notifier.add_fault(NotificationFault("drop", "*", "p/ci/b", None))
        cloud.publish_commit(REPO, MAIN, "a" * 40)
        _wait(lambda: _pages(cloud, RUNNING) == [["RUNNING"]] * len(RUNNING))
        cloud._tasks.purge_queue(name=cloud._queue_name)
        _wait(lambda: _swept(cloud) and _pages(cloud, RUNNING) == [["SUCCEEDED"]] * len(RUNNING))
        _wait(lambda: _swept(cloud) and all(_pages(cloud, TICKING)))


def _swept(cloud: LocalCloud) -> bool:
    """Have the sweep run."""
    cloud.task("sweep")
    return True
