"""``python -m emulator``: the local cloud's commands."""

from __future__ import annotations

import os
import sys

# gRPC reports every connection that a server closes on standard error. It reads this variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
