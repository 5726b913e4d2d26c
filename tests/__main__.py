"""Runs all tests: ``python -m tests``. Those of Terraform run beside the others, which mostly wait for servers.

The output of the Terraform tests comes after that of the others, and their totals last. Arguments go to pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

BESIDE = "tests/terraform"


def _start(arguments: Sequence[str], log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=log and subprocess.STDOUT)


def main(arguments: Sequence[str]) -> int:
    """Run both parts, and return 0 if both succeed, otherwise the exit code of a part that fails."""
    with tempfile.TemporaryFile() as log:
        beside = _start([BESIDE, *arguments], log)
        try:
            others = _start([f"--ignore={BESIDE}", *arguments]).wait()
            own = beside.wait()
        finally:
            beside.terminate()
        log.seek(0)
        sys.stdout.write(log.read().decode(errors="replace"))
    sys.stdout.write(f"tests/terraform: exit code {own}; all other tests: exit code {others}\n")
    return others or own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
