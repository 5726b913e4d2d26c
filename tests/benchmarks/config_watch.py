"""Seconds from saving a config to its activation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

from emulator.config_watch import ConfigWatch
from emulator.options import Options
from emulator.start import start_local_cloud
from tests.benchmarks.measure import Measure

__all__ = ["measures"]

_TIMES, _QUICK_TIMES = 15, 3
_SECONDS = 30.0


def _save(folder: Path, milliseconds: int) -> None:
    file = folder / "configs" / "project" / "luci-scheduler.cfg"
    file.parent.mkdir(parents=True, exist_ok=True)
    jobs = "".join(f'job {{ id: "job-{number}" noop {{ sleep_ms: {milliseconds} }} }}\n' for number in range(50))
    file.write_text(jobs, encoding="utf-8")


def _seconds(store: Literal["emulators", "memory"], times: int) -> list[float]:
    """Save changes of a config with 50 jobs, and return the seconds that each took."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(folder, 1)
        with (
            start_local_cloud(Options(folder=folder, store=store)) as cloud,
            ConfigWatch(cloud.configs, cloud.sync, cloud.feed),
        ):
            for number in range(times):
                seen = len(cloud.feed.after(0))
                began = time.monotonic()
                _save(folder, number + 2)
                if not cloud.feed.after(seen, _SECONDS):
                    raise SystemExit(f"{store}: a change was not in force after {_SECONDS:.0f} s")
                taken.append(time.monotonic() - began)
    return taken


def measures(*, quick: bool) -> list[Measure]:
    """Measure in memory, and without ``quick`` also on the emulators."""
    memory = Measure(
        "a saved config is in force, in memory", "s", _seconds("memory", _QUICK_TIMES if quick else _TIMES)
    )
    if quick:
        return [memory]
    return [memory, Measure("a saved config is in force, on the emulators", "s", _seconds("emulators", _TIMES))]
