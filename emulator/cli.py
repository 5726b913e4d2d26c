"""The command line of the local cloud."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m emulator", description="The scheduler on this machine alone.")
    commands = {"demo": "a commit becomes a build, live", "replay": "play a scenario through the real functions"}
    parser.add_argument(
        "command", choices=commands, help="; ".join(f"{name}: {what}" for name, what in commands.items())
    )
    options = parser.parse_args(arguments[:1] or ["--help"])
    if options.command == "demo":
        from emulator.demo import main as demo  # noqa: PLC0415 - each command loads what it needs

        return demo()
    from emulator.replay.cli import main as replay  # noqa: PLC0415

    return replay(arguments[1:])
