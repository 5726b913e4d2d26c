"""The frame of each demo: a fresh local cloud, the progress on the terminal, and the conclusion."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emulator.demo_views import View, page_text, stages_view
from emulator.local_cloud import LocalCloud
from emulator.options import Options, TcpPorts
from emulator.processes import wait_for_interruption
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from emulator.stores import Store, choose_store

__all__ = ["Demo", "follow", "print_page", "report_faults", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One demo."""

    project: str
    config: str
    """The text of the project's ``luci-scheduler.cfg``."""
    stages: Sequence[str]
    options: Mapping[str, Any]
    """Further options of the local cloud, by their names in `Options`."""
    play: Callable[[LocalCloud, View, Path], Callable[[], int]]
    """Plays the demo in a running local cloud, with a folder for its files. It returns the conclusion, which prints the
    outcome and returns the exit status."""


def run(demo: Demo, store: Store | None, *, console_port: int, download_url: str, keep: bool) -> int:
    """Start a local cloud, play a demo in it, and return the exit status of its conclusion.

    Args:
        demo: the demo.
        store: see `Options.store`; None: the emulators if they are at hand, else memory.
        console_port: the port of the pages; 0 picks a free port.
        download_url: see `Options.download_url`.
        keep: keep the local cloud running until Ctrl-C.

    Raises:
        LocalCloudError: the local cloud cannot start, or the demo cannot begin.
    """
    began = time.monotonic()
    store, reason = choose_store(store, download_url=download_url)
    if reason:
        print(f"{reason}, so the demo runs in memory", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as name, ExitStack() as running:
        folder = Path(name)
        config = folder / "configs" / demo.project / "luci-scheduler.cfg"
        config.parent.mkdir(parents=True)
        config.write_text(demo.config, encoding="utf-8")
        with stages_view(demo.stages) as view:
            options = Options(
                folder=folder,
                ports=TcpPorts(console=console_port),
                store=store,
                download_url=download_url,
                on_progress=partial(view.stage, "Local cloud", done=False),
                **demo.options,
            )
            cloud = running.enter_context(start_local_cloud(options))
            where = " IN MEMORY" if store == "memory" else ""
            view.stage("Local cloud", f"up{where} after {time.monotonic() - began:.1f} s, pages at {cloud.console_url}")
            conclude = demo.play(cloud, view, folder)
        status = conclude()
        if keep:
            start = running.enter_context(StartPage(cloud))
            print(f"\nThe local cloud keeps running, start page at {start.url}; Ctrl-C stops it.", flush=True)
            with suppress(KeyboardInterrupt):
                wait_for_interruption()
        else:
            print("The addresses end with the demo; --keep keeps them (with make: ARGS=--keep).", flush=True)
        return status


def follow(cloud: LocalCloud, view: View, job: str, seconds: float, is_over: Callable[[Any], bool]) -> Any:
    """Show new lines of the debug log of a job's latest invocation, for at most ``seconds``.

    ``is_over`` gets the invocation's page in each round, and shows the rest. Returns the last page; None if no
    invocation came in time.
    """
    until, seen, page = time.monotonic() + seconds, 0, None
    while time.monotonic() < until:
        if found := cloud.invocations(job):
            page = found[0]
            lines = page["debug_log"].splitlines()
            for line in lines[seen:]:
                if line.startswith("["):
                    view.log(line)
            seen = len(lines)
            if is_over(page):
                return page
        time.sleep(0.1)
    return page


def print_page(cloud: LocalCloud, job: str, page: Any) -> None:
    """Print an invocation's page and its address; nothing if there is no page."""
    if page is not None:
        print(f"\n{page_text(page)}\n\nThis page: {cloud.console_url}/jobs/{job}/{page['invocation_id']}", flush=True)


def report_faults(page: Any, further: Mapping[str, bool]) -> int:
    """Print each fault that holds, and return the exit status: 0 only without a fault.

    Each demo expects an invocation whose debug log ends in success; ``further`` are the faults of one demo.
    """
    faults = {
        "no invocation was created": page is None,
        **further,
        "the debug log does not say `with status SUCCEEDED`": page is None
        or "with status SUCCEEDED" not in page["debug_log"],
    }
    for fault in (fault for fault, holds in faults.items() if holds):
        print(f"demo: {fault}", file=sys.stderr)
    return int(any(faults.values()))
