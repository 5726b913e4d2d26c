"""The command ``luci-scheduler``: nouns, then verbs; one module for each noun.

A module has ``add_commands(nouns)``, which adds its noun and verbs to the parser; each verb sets ``run``, a function from the
parsed arguments to an exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from luci_scheduler.cli import config_commands

__all__ = ["main"]

_MODULES = (config_commands,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 wrong usage.

    Raises:
        SystemExit: for ``--help`` and for wrong usage, as argparse does.
    """
    parser = argparse.ArgumentParser(prog="luci-scheduler", description="Serverless LUCI Scheduler, for its operators.")
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_commands(nouns)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
