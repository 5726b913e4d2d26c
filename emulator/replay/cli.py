"""``python -m emulator replay SCENARIO``: play a scenario and print the page, or the debug log alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emulator.replay.player import Played, play
from emulator.replay.scenario import ScenarioError, load_scenario
from luci_scheduler.web.presentation import invocation_view, page_text

__all__ = ["main", "page"]


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status: 0 played, 1 the scenario is bad or does not fit."""
    parser = argparse.ArgumentParser(prog="python -m emulator replay", description=__doc__)
    parser.add_argument("scenario", type=Path, help="a scenario.json; its schema: docs/reference/scenarios.md")
    parser.add_argument("--log", action="store_true", help="print the debug log alone")
    parser.add_argument("--store", choices=["memory"], default="memory", help="where the documents are kept")
    options = parser.parse_args(arguments)
    try:
        played = play(load_scenario(options.scenario))
    except (ScenarioError, OSError, KeyError) as error:
        sys.stderr.write(f"replay: {options.scenario}: {error}\n")
        return 1
    sys.stdout.write(played.invocations[0][1].removesuffix("\n") if options.log else page(played))
    return 0


def page(played: Played) -> str:
    """Return the page of the first invocation as text, without a final newline, like a copy from a browser."""
    invocation, log = played.invocations[0]
    return page_text(invocation_view(invocation, log.removesuffix("\n"), played.now))
