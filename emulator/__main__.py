"""``python -m emulator``: the local cloud's commands."""

from __future__ import annotations

import os
import sys

# gRPC tells on standard error of every connection that a server ends; read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
