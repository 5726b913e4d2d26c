"""The command line of the local cloud."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m emulator", description="The scheduler on this machine alone.")
    parser.add_argument("command", choices=["replay"], help="replay: play a scenario through the real functions")
    options = parser.parse_args(arguments[:1] or ["--help"])
    if options.command == "replay":
        from emulator.replay.cli import main as replay  # noqa: PLC0415 - each command loads what it needs

        return replay(arguments[1:])
    return 2
