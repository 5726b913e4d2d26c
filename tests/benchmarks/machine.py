"""The machine, the versions, and the work of others beside a measure."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from emulator.downloads import FIRESTORE, PUBSUB
from emulator.errors import LocalCloudError
from emulator.java import find_java
from emulator.sdk import find_firestore_jar, find_pubsub_jar
from tests.benchmarks.peers.buildbot import VERSION

__all__ = ["QUIET", "Beside", "Watch", "commit", "machine", "versions"]

QUIET = 0.15
"""The largest share of the processors that other work may have taken while a machine counts as quiet."""
_LIBRARIES = (
    "functions-framework", "google-cloud-firestore", "google-cloud-tasks", "google-cloud-pubsub", "grpcio", "protobuf",
    "flask", "jinja2", "structlog",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the memory."""
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    rows = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Return the versions of Python, the libraries, the emulators and Buildbot."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        "Firestore emulator": _installed(find_firestore_jar()) or FIRESTORE.file,
        "Pub/Sub emulator": _installed(find_pubsub_jar()) or PUBSUB.file,
        "java": _java(),
        "buildbot": VERSION,
    }


def _installed(jar: Path | None) -> str:
    return f"{jar.name} of the installed SDK" if jar else ""


def _java() -> str:
    try:
        command = [find_java(), "-version"]
    except LocalCloudError:
        return "none"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stderr or done.stdout).splitlines()[0]


def commit() -> str:
    """Return the commit of this checkout, with a plus if files differ from it."""
    found = [_git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")]
    return found[0][:12] + ("+" if found[1] else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Beside:
    """The load of the machine around a measure."""

    seconds: float
    load_before: float
    load_after: float
    foreign: float
    """The share of the processors that other work took."""

    @property
    def is_quiet(self) -> bool:
        """Whether other work took little."""
        return self.foreign <= QUIET


class Watch:
    """Watches the machine from its creation until `stop`, while this process waits for child processes."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._busy, self._own = _busy(), _own()
        self._begun = time.monotonic()

    def stop(self) -> Beside:
        """Return the work of others since the creation."""
        seconds = time.monotonic() - self._begun
        foreign = (_busy() - self._busy) - (_own() - self._own)
        share = max(0.0, foreign) / (seconds * (psutil.cpu_count() or 1))
        return Beside(round(seconds, 1), round(self._load, 2), round(os.getloadavg()[0], 2), round(share, 3))


def _busy() -> float:
    """Return the seconds of all processors that were not idle."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in names))


def _own() -> float:
    """Return the seconds of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
