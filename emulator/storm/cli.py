"""``python -m emulator storm``: plays schedules of faults on the real functions, and checks every invariant."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from emulator.arguments import whole_number
from emulator.storm.enumeration import ENUMERATIONS, enumerated
from emulator.storm.faults import KINDS, Kind
from emulator.storm.history import Schedule
from emulator.storm.invariants import SENTENCES
from emulator.storm.judgment import violations
from emulator.storm.report import summary, tally_document
from emulator.storm.storming import Outcome, Tally, shrunk, storm
from emulator.storm.tales import tale
from emulator.storm.world import run

__all__ = ["main"]

_STATUSES = "exit status: 0 every invariant held, 1 an invariant was violated, 2 wrong usage"
_SHOWN = 5
"""Failing schedules that are shrunk and printed; the others are listed by their seeds."""
_PROGRESS_SECONDS = 1.0


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        return _list()
    if options.replay is not None:
        return _replay(parser, options.replay)
    return _storm(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator storm",
        description="Play schedules of faults on the real functions, in memory and on a virtual clock, and check every "
        "invariant after each commit. Every decision follows from the seed.",
        epilog=_STATUSES,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--schedules", type=whole_number(1), default=100, metavar="N", help="default: %(default)s")
    what.add_argument("--replay", metavar="LINE", help="play one schedule again: the line that a failing run prints")
    what.add_argument(
        "--enumerate",
        choices=ENUMERATIONS,
        help="instead of drawn faults, play every single fault; every call that hangs with each further fault; or every "
        "pair of faults within a handler and its successors",
    )
    what.add_argument("--list", action="store_true", help="list the kinds of faults and the invariants")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule (default: %(default)s)")
    parser.add_argument("--processes", type=whole_number(1), default=1, metavar="P", help="default: %(default)s")
    parser.add_argument("--scenario", default="", help="default: that of the schedules or of the enumeration")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--without", type=_kinds, default=(), metavar="KIND,…", help="switch kinds of faults off")
    kinds.add_argument("--only", type=_kinds, default=(), metavar="KIND,…", help="switch all other kinds off")
    parser.add_argument("--sample", type=whole_number(1), metavar="N", help="with --enumerate: play N of them, evenly")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to a file")
    return parser


def _kinds(text: str) -> tuple[Kind, ...]:
    try:
        return tuple(map(Kind, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; --list names all kinds") from error


def _list() -> int:
    width = max(map(len, KINDS))
    print(f"{len(KINDS)} kinds of faults:")
    for kind, spec in KINDS.items():
        print(f"  {kind:{width}}  {spec.says}{f' ({spec.amount})' if spec.amount else ''}")
    print(f"{len(SENTENCES)} invariants:")
    for invariant, sentence in SENTENCES.items():
        print(f"  {invariant:{width}}  {sentence}")
    return 0


def _replay(parser: argparse.ArgumentParser, line: str) -> int:
    try:
        schedule = Schedule.parse(line)
    except ValueError as error:
        parser.error(str(error))
    played = run(schedule)
    found = violations(played)
    print(tale(played, found))
    print(f"trace hash: {played.trace_hash}")
    return 1 if found else 0


def _storm(options: argparse.Namespace) -> int:
    began = time.monotonic()
    without = frozenset(options.without or (set(Kind) - set(options.only) if options.only else ()))
    if options.enumerate:
        schedules: Sequence[Schedule] = enumerated(options.enumerate, options.seed, options.scenario, without)
        if options.sample:
            schedules = _sampled(schedules, options.sample)
    else:
        scenario = options.scenario or "random"
        seeds = range(options.seed, options.seed + options.schedules)
        schedules = [Schedule(seed, without=without, scenario=scenario) for seed in seeds]
    tally = Tally()
    for outcome in _watched(storm(schedules, options.processes), tally, len(schedules)):
        tally.add(outcome)
    seconds = time.monotonic() - began
    print(summary(tally, seconds, options.enumerate or ""))
    _print_failures(tally.failed)
    if options.json:
        document = tally_document(tally, seconds, options)
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if tally.failed else 0


def _sampled(schedules: Sequence[Schedule], count: int) -> list[Schedule]:
    step = max(1, len(schedules) / count)
    return [schedules[int(place * step)] for place in range(min(count, len(schedules)))]
