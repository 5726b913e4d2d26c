"""``python -m emulator storm``: plays schedules of faults on the real functions, and checks every invariant."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from emulator.arguments import whole_number
from emulator.storm.enumeration import ENUMERATIONS, scenarios, singles
from emulator.storm.faults import KINDS, Kind
from emulator.storm.focus import focused
from emulator.storm.history import LARGEST_SEED, Schedule
from emulator.storm.invariants import SENTENCES
from emulator.storm.judgment import violations
from emulator.storm.pairs import firsts
from emulator.storm.report import MISSING_KINDS_MATTER, document, missing_kinds, summary
from emulator.storm.scripts import SCENARIOS
from emulator.storm.storming import Outcome, Tally, find_pairs, shrunk, storm
from emulator.storm.tales import tale
from emulator.storm.world import run

__all__ = ["main"]

_STATUSES = "exit status: 0 every invariant held, 1 an invariant was violated, 2 wrong usage"
_SHOWN = 5
"""Failing schedules that are shrunk and printed; the others are listed by their seeds."""
_PROGRESS_SECONDS = 1.0
_LOGGED_SECONDS = 60.0
"""Between two lines about the progress in a log, where a line cannot be replaced."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        return _list()
    if options.replay is not None:
        return _replay(parser, options.replay)
    if options.sample and not options.enumerate:
        parser.error("--sample needs --enumerate; --schedules limits drawn schedules")
    if len(options.scenario) > 1 and not options.enumerate:
        parser.error("--scenario takes several names only with --enumerate")
    if options.focused and options.enumerate:
        parser.error("--focused draws faults, and --enumerate does not")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"the folder of --json does not exist: {options.json.parent}")
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
        help="instead of drawn faults, play every single fault; every call that hangs, with each further fault; or "
        "every pair of faults within a handler and its successor",
    )
    what.add_argument("--list", action="store_true", help="list the kinds of faults and the invariants")
    seed = whole_number(0, LARGEST_SEED)
    parser.add_argument("--seed", type=seed, default=1, help="of the first schedule (default: %(default)s)")
    parser.add_argument("--processes", type=whole_number(1), default=1, metavar="P", help="default: %(default)s")
    parser.add_argument(
        "--scenario",
        default=[],
        nargs="+",
        choices=SCENARIOS,
        metavar="NAME",
        help=f"one of {', '.join(SCENARIOS)}, or several of an enumeration; default: random schedules, or an "
        "enumeration of all others",
    )
    parser.add_argument(
        "--focused", action="store_true", help="draw a few kinds per schedule at a high rate, where work is contended"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--without", type=_kinds, default=(), metavar="KIND,…", help="switch kinds of faults off")
    kinds.add_argument("--only", type=_kinds, default=(), metavar="KIND,…", help="switch all other kinds off")
    parser.add_argument("--sample", type=whole_number(1), metavar="N", help="with --enumerate: play N of them, evenly")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to a file")
    return parser


def _kinds(text: str) -> tuple[Kind, ...]:
    names = text.split(",")
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"no kind of faults has the name {unknown[0]!r}; --list names all kinds")
    return tuple(map(Kind, names))


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
    began, tally = time.monotonic(), Tally()
    schedules, stands_for = _schedules(options)
    with _Progress(len(schedules)) as progress:
        for part in storm(schedules, options.processes):
            tally.join(part)
            text = f"{tally.faults.total():,} faults, {len(tally.failed)} violations"
            progress.show(tally.schedules, text)
    seconds, what = time.monotonic() - began, options.enumerate or ("focused" if options.focused else "")
    sampled = bool(options.sample)
    print(summary(tally, seconds, what, sampled=sampled, stands_for=stands_for))
    _print_failures(tally.failed)
    if options.json:
        found = document(
            tally,
            seconds,
            what,
            options.seed,
            scenarios=options.scenario,
            sampled=sampled,
            stands_for=stands_for,
        )
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    missing = missing_kinds(tally, sorted(_without(options))) if tally.schedules >= MISSING_KINDS_MATTER else []
    if missing and not what:
        print(f"never occurred: {', '.join(missing)}")
    return 1 if tally.failed else 0


def _without(options: argparse.Namespace) -> frozenset[Kind]:
    return frozenset(options.without or (set(Kind) - set(options.only) if options.only else ()))


def _schedules(options: argparse.Namespace) -> tuple[Sequence[Schedule], int]:
    """Return the schedules to play, and the number of pairs for which they stand; 0: they are no pairs."""
    without = _without(options)
    only = "".join(options.scenario[:1])
    if not options.enumerate:
        seeds = range(options.seed, options.seed + options.schedules)
        if options.focused:
            return [replace(focused(seed, only), without=without) for seed in seeds], 0
        return [Schedule(seed, without=without, scenario=only or "random") for seed in seeds], 0
    names, stands_for = scenarios(options.scenario), 0
    if options.enumerate == "single":
        bases = [Schedule(options.seed, scenario=name) for name in names]
        found = [replace(base, faults=(fault,)) for base in bases for fault in singles(base, without)]
    else:
        played = [schedule for name in names for schedule in firsts(name, options.seed, without)]
        with _Progress(len(played)) as progress:
            show = partial(progress.show, text="looking for pairs")
            pairs = find_pairs(played, options.enumerate, options.processes, without, show)
        found, stands_for = pairs.schedules, pairs.stands_for
    return _sampled(found, options.sample or len(found)), stands_for


def _sampled(schedules: Sequence[Schedule], count: int) -> list[Schedule]:
    """Return ``count`` of the schedules, at equal distances."""
    count = min(count, len(schedules))
    return [schedules[len(schedules) * place // count] for place in range(count)]


class _Progress:
    """The state of a long command, on standard error: one line on a terminal, and a line each minute in a log."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._pause = _PROGRESS_SECONDS if self._is_terminal else _LOGGED_SECONDS
        # A terminal shows the first state at once. Short commands log nothing.
        self._next = time.monotonic() + (0.0 if self._is_terminal else self._pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")

    def show(self, done: int, text: str) -> None:
        """Show the state if the pause since the last time is over."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause
        line = f"{done:,} of {self._total:,}, {text}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()


def _print_failures(failed: Sequence[Outcome]) -> None:
    for outcome in failed[:_SHOWN]:
        small = shrunk(outcome)
        print(f"\nseed {outcome.schedule.seed}: {len(outcome.faults)} faults, shrunk to {len(small.faults)}")
        try:
            played = run(small.schedule)
        except Exception as error:  # noqa: BLE001 - the run itself fails, which the line replays
            print(f"the run fails: {error!r}")
        else:
            print(tale(played, violations(played)))
        print(f"replay: python -m emulator storm --replay {shlex.quote(small.schedule.line())}")
    for outcome in failed[_SHOWN:]:
        print(f"also: python -m emulator storm --replay {shlex.quote(outcome.schedule.line())}")
