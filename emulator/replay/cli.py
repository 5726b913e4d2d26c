"""``python -m emulator replay SCENARIO``: play a scenario and print the pages, or the debug logs alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emulator.errors import LocalCloudError, one_line
from emulator.replay.errors import ReplayError, ScenarioError
from emulator.replay.player import Played, play
from emulator.replay.scenario import Scenario, load_scenario
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.web.presentation import invocation_view, page_text

__all__ = ["main", "page"]

_DESCRIPTION = """Play a scenario through the real functions, one delivery at a time, on one clock and one source of
entropy, and print the page of the invocation that it leads to, as text. If there are several invocations, print
all of them, oldest first.
The same scenario always prints the same text, regardless of the machine's speed, time zone and locale."""
_EPILOG = """A scenario is a JSON file of inputs; docs/reference/scenarios.md describes it, tests/golden/ has examples.
exit status: 0 played; 1 the scenario is bad, does not fit what the scheduler does, or something cannot run (one line on
standard error names the problem and its place); 2 wrong usage"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status: 0 played, 1 failed, with the reason on standard error in one line."""
    options = _parser().parse_args(arguments)
    try:
        played = _play(load_scenario(options.scenario), options)
    except ScenarioError as error:
        return _failed(f"{options.scenario}: {error}")
    except (ReplayError, SchedulerError) as error:
        return _failed(f"{options.scenario}: the replay failed: {error}")
    except LocalCloudError as error:
        hint = "" if "--store memory" in str(error) else "; --store memory needs no emulators"
        return _failed(f"{error}{hint}")
    texts = [log.removesuffix("\n") for _, log in played.invocations] if options.log else _pages(played)
    end = "\n" if options.log else ""  # a log ends as `luci-scheduler invocation log` ends it
    # Write bytes, so that neither the locale nor the platform changes the text.
    sys.stdout.buffer.write(("\n\n".join(texts) + end).encode())
    sys.stdout.flush()
    return 0


def page(played: Played) -> str:
    """Return the page of the first invocation as text, without a final newline, like a copy from a browser."""
    return _pages(played)[0]


def _pages(played: Played) -> list[str]:
    return [
        page_text(invocation_view(invocation, log.removesuffix("\n"), played.now))
        for invocation, log in played.invocations
    ]


def _play(scenario: Scenario, options: argparse.Namespace) -> Played:
    if options.store == "memory":
        return play(scenario)
    from emulator.replay.emulators import running_emulators  # noqa: PLC0415 - loads the clients of Google Cloud

    with running_emulators(options.firestore, options.pubsub, options.download_url) as emulators:
        return play(scenario, emulators)


def _failed(text: str) -> int:
    sys.stderr.write(f"replay: {one_line(text, longest=2000)}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator replay",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="a scenario.json, in the folder of its config")
    parser.add_argument("--log", action="store_true", help="print the debug log alone")
    parser.add_argument(
        "--store",
        choices=["emulators", "memory"],
        default="emulators",
        help="emulators: the official Firestore and Pub/Sub emulators (they need Java), our Cloud Tasks and "
        "Buildbucket servers, the functions behind HTTP; memory: none of these, with the same output "
        "(default: %(default)s)",
    )
    for name, title in (("firestore", "Firestore"), ("pubsub", "Pub/Sub")):
        parser.add_argument(
            f"--{name}",
            metavar="HOST:PORT",
            default="",
            help=f"a {title} emulator that runs already (default: one is started, and stopped at the end)",
        )
    parser.add_argument(
        "--download-url",
        default="",
        metavar="URL",
        help="folder that has the emulators if no Google Cloud SDK is installed (also: EMULATOR_DOWNLOAD_URL)",
    )
    return parser
