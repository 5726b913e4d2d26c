"""``luci-scheduler local``: the local cloud, if it is installed."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from luci_scheduler.cli.errors import Exit

__all__ = ["NAME", "add_commands", "run"]

NAME = "local"
_PACKAGE = "emulator"


def add_commands(nouns: Any) -> None:
    """Add ``local`` to the parser, for the help; the local cloud reads its own arguments."""
    parser = nouns.add_parser(
        NAME,
        help="run the scheduler on this machine",
        description="Run the scheduler on this machine: official emulators, local servers, and the functions.",
        add_help=False,
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND", help="up, demo, replay or chaos")
    parser.set_defaults(run=lambda options: run(options.arguments), offline=True, only_text=True)


def run(words: Sequence[str]) -> int:
    """Run a command of the local cloud and return its exit status."""
    # gRPC reports every connection that a server closes on standard error. It reads this variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        # By name: the deployed functions never import the local cloud, and an installation may lack it.
        cloud = importlib.import_module(f"{_PACKAGE}.cli")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _PACKAGE:
            raise
        sys.stderr.write("local: this installation has no local cloud: install the package serverless-luci-scheduler\n")
        return Exit.FAILED
    except KeyboardInterrupt:  # the import takes a while; later, the local cloud handles Ctrl-C
        sys.stderr.write("stopped\n")
        return Exit.INTERRUPTED
    return int(cloud.main(words, prog=f"luci-scheduler {NAME}"))
