"""The servers of the local cloud in a separate process, until standard input ends.

A benchmark shares no interpreter with them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from emulator.local_cloud import LocalCloud

__all__: list[str] = []

if __name__ == "__main__":
    with LocalCloud(Path(sys.argv[1]), host_functions=False, sweep_seconds=0, check_interval_seconds=3600) as cloud:
        print(json.dumps(dict(cloud.environment)), flush=True)
        sys.stdin.read()
