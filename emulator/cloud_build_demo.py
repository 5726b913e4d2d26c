"""``python -m emulator demo --kind cloud-build``: shows live how a push to GitHub becomes a build of Cloud Build.

Everything is real but the two services: git pushes, a signed webhook announces the push, the functions handle it, the
steps of the build run a program, and the commit gets its statuses.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from emulator.cloud_build.builds import Build
from emulator.demo_views import View, page_text, stages_view
from emulator.errors import LocalCloudError
from emulator.gitiles.git import git_environment
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.options import Options, TcpPorts
from emulator.processes import wait_for_interruption
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from emulator.stores import Store, choose_store

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
    """Run the demo.

    Args:
        store: see `Options.store`; None: the emulators if they are at hand, else memory.
        console_port: the port of the pages; 0 picks a free port.
        download_url: see `Options.download_url`.
        keep: keep the local cloud running until Ctrl-C.

    Returns:
        0 only if the build's program ran at the pushed commit and succeeded, and the commit has the status for it.

    Raises:
        LocalCloudError: the local cloud cannot start, or the push is refused.
    """
    began = time.monotonic()
    store, reason = choose_store(store, download_url=download_url)
    if reason:
        print(f"{reason}, so the demo runs in memory; --store emulators downloads the official emulators", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as name, ExitStack() as running:
        folder = Path(name)
        config = folder / "configs" / "widget" / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text(_CONFIG, encoding="utf-8")
        with stages_view(_STAGES) as view:
            options = Options(
                folder=folder,
                check_interval_seconds=_CHECK_SECONDS,
                cloud_build=True,
                run_steps=True,
                github=True,
                ports=TcpPorts(console=console_port),
                store=store,
                download_url=download_url,
                on_progress=partial(view.stage, "Local cloud", done=False),
            )
            cloud = running.enter_context(start_local_cloud(options))
            where = " IN MEMORY" if store == "memory" else ""
            view.stage("Local cloud", f"up{where} after {time.monotonic() - began:.1f} s, pages at {cloud.console_url}")
            revision = _push(cloud, view, folder / "work")
            page = _follow(cloud, view, revision)
        status = _conclude(cloud, page, revision)
        if keep:
            start = running.enter_context(StartPage(cloud))
            print(f"\nThe local cloud keeps running, start page at {start.url}; Ctrl-C stops it.", flush=True)
            with suppress(KeyboardInterrupt):
                wait_for_interruption()
        else:
            print("The addresses end with the demo; ARGS=--keep keeps them.", flush=True)
        return status


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


def _follow(cloud: LocalCloud, view: View, revision: str) -> Any:
    """Show the progress until the commit has its final status.

    Return the invocation's page, or None if no invocation comes in time.
    """
    pushed, seen, page = time.monotonic(), 0, None
    while time.monotonic() < pushed + _SECONDS:
        if found := cloud.invocations(_JOB):
            page = found[0]
            lines = page["debug_log"].splitlines()
            for line in lines[seen:]:
                if line.startswith("["):
                    view.log(line)
            seen = len(lines)
            view.stage("Invocation", f"{page['invocation_id']} is {page['status']}", done=page["final"])
            state = _show(cloud, view, revision)
            if page["final"] and state not in ("", "pending"):
                break
        time.sleep(0.1)
    return page


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


def _conclude(cloud: LocalCloud, page: Any, revision: str) -> int:
    """Print the page, the log of the build and the faults, and return the exit status."""
    builds = list(cloud.cloud_build.builds.newest_first())
    if page is not None:
        print(f"\n{page_text(page)}\n\nThis page: {cloud.console_url}/jobs/{_JOB}/{page['invocation_id']}", flush=True)
    log = "\n".join(_log(cloud, build) for build in builds)
    print(f"\nLog of the build:\n{log}", flush=True)
    said = ", ".join(build.status for build in builds) or "that there is no build"
    states = [status.state for status in cloud.github.statuses.of(_NAME, revision)][::-1]
    print(f"Cloud Build says {said}, and the commit has the statuses {', '.join(states) or 'none'}", flush=True)
    faults = {
        "no invocation was created": page is None,
        f"Cloud Build says {said}, expected one SUCCESS": [build.status for build in builds] != ["SUCCESS"],
        "the program did not run at the pushed commit": f"testing revision {revision}" not in log,
        "the debug log does not say `with status SUCCEEDED`": page is None
        or "with status SUCCEEDED" not in page["debug_log"],
        "the commit has no status success": states[-1:] != ["success"],
    }
    for fault in (fault for fault, holds in faults.items() if holds):
        print(f"demo: {fault}", file=sys.stderr)
    return int(any(faults.values()))


def _log(cloud: LocalCloud, build: Build) -> str:
    output = cloud.cloud_build.outputs.get(build.id)
    return output.read().text if output else ""
