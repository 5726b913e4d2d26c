"""``python -m emulator``: the local cloud's commands."""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a later import would fail with a traceback
    sys.exit(f"the local cloud needs Python 3.12 or 3.11, not {sys.version.split()[0]}: run it with python3.12")

# gRPC reports every connection that a server closes on standard error. It reads this variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
