"""The servers of the local cloud in a separate process, until standard input ends.

A benchmark shares no interpreter with them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from emulator.options import Options
from emulator.start import start_local_cloud

__all__: list[str] = []

if __name__ == "__main__":
    options = Options(Path(sys.argv[1]), host_functions=False, sweep_seconds=0, check_interval_seconds=3600)
    with start_local_cloud(options) as cloud:
        print(json.dumps(dict(cloud.environment)), flush=True)
        sys.stdin.read()
