"""Pack the functions of a release, for tests that run them beside today's.

After each release, run ``python -m tests.e2e.pack_release TAG`` and commit the archive. A clone without history can
then still run the release's own code.
"""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

ARCHIVE = Path(__file__).parent / "releases" / "last.tar.xz"


def pack(commit: str) -> None:
    """Replace the archive by the functions of a commit."""
    command = ["git", "archive", "--format=tar", commit, "functions/main.py", "functions/luci_scheduler"]
    tar = subprocess.run(command, check=True, capture_output=True).stdout
    ARCHIVE.write_bytes(lzma.compress(tar, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    (_commit,) = sys.argv[1:]
    pack(_commit)
