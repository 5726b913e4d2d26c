"""``python -m emulator demo --kind cloud-build``: shows live how a push to GitHub becomes a build of Cloud Build.

Everything is real but the two services: git pushes, a signed webhook announces the push, the functions handle it, the
steps of the build run a program, and the commit gets its statuses.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from emulator.cloud_build.builds import Build
from emulator.demo_run import Demo, follow, print_page, report_faults, run
from emulator.demo_views import View
from emulator.errors import LocalCloudError
from emulator.gitiles.git import git_environment
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.stores import Store

__all__ = ["main"]

_NAME = "example-org/widget"
_REPO = f"https://github.com/{_NAME}"
_JOB = "widget/tests"
_CONFIG = f"""
trigger {{
  id: "pushes"
  gitiles {{ repo: "{_REPO}" refs: "refs/heads/main" }}
  triggers: "tests"
}}
job {{
  id: "tests"
  cloud_build {{
    steps {{ id: "tests" name: "python:3.12" args: "tests.py" }}
    steps {{ id: "report" name: "ubuntu" script: "echo \\"$_BRANCH is green\\"\\n" }}
  }}
}}
"""
_FILE = "tests.py"
_SCRIPT = """\
import os, time
print("testing revision", os.environ["_REVISION"], flush=True)
for suite in ("unit", "integration"):
    time.sleep(0.5)
    print(suite, "tests passed", flush=True)
"""
_CHECK_SECONDS = 5
_SECONDS = 40.0  # from the push to the status of its commit; it takes three
_GIT_SECONDS = 30
_STAGES = ("Local cloud", "Push", "Invocation", "Build", "Commit status")


def main(
    store: Store | None = None,
    *,
    console_port: int = 0,
    download_url: str = "",
    keep: bool = False,
) -> int:
    """Run the demo; the arguments and errors are those of `demo_run.run`.

    Returns:
        0 only if the build's program ran at the pushed commit and succeeded, and the commit has the status for it.
    """
    options = {"check_interval_seconds": _CHECK_SECONDS, "cloud_build": True, "run_steps": True, "github": True}
    demo = Demo(project="widget", config=_CONFIG, stages=_STAGES, options=options, play=_play)
    return run(demo, store, console_port=console_port, download_url=download_url, keep=keep)


def _play(cloud: LocalCloud, view: View, folder: Path) -> Callable[[], int]:
    revision = _push(cloud, view, folder / "work")

    def is_over(page: Any) -> bool:
        view.stage("Invocation", f"{page['invocation_id']} is {page['status']}", done=page["final"])
        state = _show(cloud, view, revision)
        return page["final"] and state not in ("", "pending")

    return partial(_conclude, cloud, revision, follow(cloud, view, _JOB, _SECONDS, is_over))


def _push(cloud: LocalCloud, view: View, work: Path) -> str:
    """Commit in a new work tree, push the commit to GitHub with git, and return its hash."""
    cloud.repository(_REPO)
    revision = Repository.create(work, bare=False).commit("Add the widget", {_FILE: _SCRIPT}, at=time.time_ns())
    url = cloud.github.clone_url(_NAME)
    pushed = subprocess.run(
        ["git", "-C", str(work), "push", "--quiet", url, "refs/heads/main"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_GIT_SECONDS,
        env={**git_environment(), "GIT_ALLOW_PROTOCOL": "http"},
    )
    if pushed.returncode:
        raise LocalCloudError(f"git push to {url} failed: {pushed.stderr.strip()}")
    view.stage("Push", f"{revision[:12]} to main of {_REPO}, announced by a signed webhook")
    return revision


def _show(cloud: LocalCloud, view: View, revision: str) -> str:
    """Show the build and the status of the commit, and return the latter's state; empty without one."""
    build = next(cloud.cloud_build.builds.newest_first(), None)
    if build is not None:
        view.stage("Build", f"{build.id} is {build.status}, page at {build.body['logUrl']}", done=build.ended)
    statuses = cloud.github.statuses.of(_NAME, revision)
    if not statuses:
        return ""
    newest = statuses[0]
    view.stage("Commit status", f"{newest.state}: {newest.description}", done=newest.state != "pending")
    return newest.state


def _conclude(cloud: LocalCloud, revision: str, page: Any) -> int:
    """Print the page, the log of the build and the faults, and return the exit status."""
    builds = list(cloud.cloud_build.builds.newest_first())
    print_page(cloud, _JOB, page)
    log = "\n".join(_log(cloud, build) for build in builds)
    print(f"\nLog of the build:\n{log}", flush=True)
    said = ", ".join(build.status for build in builds) or "that there is no build"
    states = [status.state for status in cloud.github.statuses.of(_NAME, revision)][::-1]
    print(f"Cloud Build says {said}, and the commit has the statuses {', '.join(states) or 'none'}", flush=True)
    faults = {
        f"Cloud Build says {said}, expected one SUCCESS": [build.status for build in builds] != ["SUCCESS"],
        "the program did not run at the pushed commit": f"testing revision {revision}" not in log,
        "the commit has no status success": states[-1:] != ["success"],
    }
    return report_faults(page, faults)


def _log(cloud: LocalCloud, build: Build) -> str:
    output = cloud.cloud_build.outputs.get(build.id)
    return output.read().text if output else ""
