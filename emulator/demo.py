"""``python -m emulator demo``: shows live how a commit in a git repository becomes a build, and how the build ends."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from emulator.demo_views import View, page_text, stages_view
from emulator.local_cloud import LocalCloud
from emulator.options import Options, TcpPorts
from emulator.processes import wait_for_interruption
from emulator.settings import BUILDBUCKET_HOST
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from emulator.stores import Store, choose_store

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
    """Run the demo.

    Args:
        store: see `Options.store`; None: the emulators if they are at hand, else memory.
        console_port: the port of the pages; 0 picks a free port.
        download_url: see `Options.download_url`.
        keep: keep the local cloud running until Ctrl-C.

    Returns:
        0 only if the build succeeded in Buildbucket and the invocation's debug log agrees.

    Raises:
        LocalCloudError: the local cloud cannot start.
    """
    began = time.monotonic()
    store, reason = choose_store(store, download_url=download_url)
    if reason:
        print(f"{reason}, so the demo runs in memory; --store emulators downloads the official emulators", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as name, ExitStack() as running:
        folder = Path(name)
        config = folder / "configs" / "sample" / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text(_CONFIG, encoding="utf-8")
        with stages_view(_STAGES) as view:
            options = Options(
                folder=folder,
                check_interval_seconds=_CHECK_SECONDS,
                build=shlex.join((sys.executable, _FILE)),
                ports=TcpPorts(console=console_port),
                store=store,
                download_url=download_url,
                on_progress=partial(view.stage, "Local cloud", done=False),
            )
            cloud = running.enter_context(start_local_cloud(options))
            where = " IN MEMORY" if store == "memory" else ""
            view.stage("Local cloud", f"up{where} after {time.monotonic() - began:.1f} s, pages at {cloud.console_url}")
            page = _follow(cloud, view, _commit(cloud, view))
        status = _conclude(cloud, page)
        if keep:
            start = running.enter_context(StartPage(cloud))
            print(f"\nThe local cloud keeps running, start page at {start.url}; Ctrl-C stops it.", flush=True)
            with suppress(KeyboardInterrupt):
                wait_for_interruption()
        else:
            print("The addresses end with the demo; --keep keeps them (make demo ARGS=--keep).", flush=True)
        return status


def _commit(cloud: LocalCloud, view: View) -> float:
    """Commit, publish the commit, and return the time of the publication."""
    files = {"engine.txt": "fast\n", "README": "An engine.\n", _FILE: _SCRIPT}
    revision = cloud.repository(_REPO).commit("Make the engine faster", files, at=time.time_ns())
    cloud.publish_commit(_REPO, _REF, revision)
    view.stage("Commit", f"{revision[:12]} on {_REF} of {_REPO}, published to the topic gitiles-commit")
    return time.monotonic()


def _follow(cloud: LocalCloud, view: View, committed: float) -> Any:
    """Show the progress until the invocation has ended, and return its page; None if no invocation comes in time."""
    seen: list[str] = []
    page = None
    while time.monotonic() < committed + _SECONDS:
        found = cloud.invocations(_JOB)
        if found:
            page = found[0]
            lines = page["debug_log"].splitlines()
            for line in lines[len(seen) :]:
                if line.startswith("["):
                    view.log(line)
            seen = lines
            _show(cloud, view, page, time.monotonic() - committed)
            if page["final"]:
                return page
        time.sleep(0.1)
    return page


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
    if page is not None:
        print(f"\n{page_text(page)}\n\nThis page: {cloud.console_url}/jobs/{_JOB}/{page['invocation_id']}", flush=True)
    builds = [build.status for build in cloud.buildbucket.builds.newest_first()]
    outcome = f"Buildbucket says {', '.join(builds) or 'that there is no build'}"
    print(outcome, flush=True)
    faults = {
        "no invocation was created": page is None,
        f"Buildbucket says {', '.join(builds) or 'that there is no build'}, expected one SUCCESS": builds
        != ["SUCCESS"],
        "the debug log does not say `with status SUCCEEDED`": page is None
        or "with status SUCCEEDED" not in page["debug_log"],
    }
    for fault in (fault for fault, holds in faults.items() if holds):
        print(f"demo: {fault}", file=sys.stderr)
    return int(any(faults.values()))
