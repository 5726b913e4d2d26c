"""The servers of the local cloud in a separate process, until standard input ends.

A benchmark shares no interpreter with them. Builds change only when the benchmark says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from emulator.buildbucket.plans import Announce, Manual
from emulator.options import Options
from emulator.start import start_local_cloud

__all__ = ["running"]


@contextmanager
def running() -> Iterator[Mapping[str, str]]:
    """Run the servers inside ``with``; yield the environment of functions that use them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.servers", folder]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=60)


if __name__ == "__main__":
    options = Options(
        Path(sys.argv[1]),
        host_functions=False,
        sweep_seconds=0,
        check_interval_seconds=3600,
        plan=Manual(Announce(copies=0)),
    )
    with start_local_cloud(options) as cloud:
        print(json.dumps(dict(cloud.environment)), flush=True)
        sys.stdin.read()
