"""``python -m emulator demo``: shows live how a commit in a git repository becomes a build, and how the build ends."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from emulator.demo_run import Demo, follow, print_page, report_faults, run
from emulator.demo_views import View
from emulator.local_cloud import LocalCloud
from emulator.settings import BUILDBUCKET_HOST
from emulator.stores import Store

__all__ = ["main"]

_REPO = "https://sample.googlesource.com/engine"
_REF = "refs/heads/main"
_JOB = "sample/linux-tests"
_CONFIG = f"""
trigger {{
  id: "main-poller"
  gitiles {{ repo: "{_REPO}" refs: "{_REF}" }}
  triggers: "linux-tests"
}}
job {{
  id: "linux-tests"
  buildbucket {{ server: "{BUILDBUCKET_HOST}" bucket: "ci" builder: "Linux Tests" }}
}}
"""
_FILE = "tests.py"
# Long enough for two status checks, two seconds apart.
_SCRIPT = """\
import os, time
print("testing revision", os.environ["REVISION"], flush=True)
for suite, seconds in {"unit": 2, "integration": 2, "end to end": 1.5}.items():
    time.sleep(seconds)
    print(suite, "tests passed", flush=True)
"""
_CHECK_SECONDS = 2
_SECONDS = 45.0  # from the commit to the end of its invocation; it takes seven
_STAGES = ("Local cloud", "Commit", "Invocation", "Build", "Status checks", "End")


def main(
    store: Store | None = None,
    *,
    console_port: int = 0,
    download_url: str = "",
    keep: bool = False,
) -> int:
    """Run the demo; the arguments and errors are those of `demo_run.run`.

    Returns:
        0 only if the build succeeded in Buildbucket and the invocation's debug log agrees.
    """
    options = {"check_interval_seconds": _CHECK_SECONDS, "build": shlex.join((sys.executable, _FILE))}
    demo = Demo(project="sample", config=_CONFIG, stages=_STAGES, options=options, play=_play)
    return run(demo, store, console_port=console_port, download_url=download_url, keep=keep)


def _play(cloud: LocalCloud, view: View, _: Path) -> Callable[[], int]:
    committed = _commit(cloud, view)

    def is_over(page: Any) -> bool:
        _show(cloud, view, page, time.monotonic() - committed)
        return bool(page["final"])

    return partial(_conclude, cloud, follow(cloud, view, _JOB, _SECONDS, is_over))


def _commit(cloud: LocalCloud, view: View) -> float:
    """Commit, publish the commit, and return the time of the publication."""
    files = {"engine.txt": "fast\n", "README": "An engine.\n", _FILE: _SCRIPT}
    revision = cloud.repository(_REPO).commit("Make the engine faster", files, at=time.time_ns())
    cloud.publish_commit(_REPO, _REF, revision)
    view.stage("Commit", f"{revision[:12]} on {_REF} of {_REPO}, published to the topic gitiles-commit")
    return time.monotonic()


def _show(cloud: LocalCloud, view: View, page: Any, seconds: float) -> None:
    log = page["debug_log"]
    view.stage("Invocation", page["invocation_id"])
    if page["view_url"]:
        build = next(cloud.buildbucket.builds.newest_first(), None)
        view.stage("Build", f"{page['view_url'].rpartition('/')[2]} is {build.status if build else 'gone'}")
    checks = log.count("Handling timer")
    if checks or page["pending_timers"]:
        more = f", the next one at {page['pending_timers'][0]['eta'][11:19]} UTC" if page["pending_timers"] else ""
        view.stage("Status checks", f"{checks} done, every {_CHECK_SECONDS} s{more}", done=checks > 0)
    if page["final"]:
        view.stage("End", f"{page['status']}, {seconds:.1f} s after the commit")


def _conclude(cloud: LocalCloud, page: Any) -> int:
    """Print the page and the faults, and return the exit status."""
    print_page(cloud, _JOB, page)
    builds = [build.status for build in cloud.buildbucket.builds.newest_first()]
    outcome = f"Buildbucket says {', '.join(builds) or 'that there is no build'}"
    print(outcome, flush=True)
    return report_faults(page, {f"{outcome}, expected one SUCCESS": builds != ["SUCCESS"]})
