"""The verb ``doctor``: its options, the order of its checks, and its output."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.session import Session
from luci_scheduler.cli.tables import plain

__all__ = ["add_commands", "examine"]

_WAIT = 30.0  # seconds for one probe; a cold start and a retry of the queue take a few
_FINDINGS_WAIT = 75.0  # seconds for all calls of on_task


def add_commands(nouns: Any) -> None:
    """Add ``doctor`` to the parser."""
    parser = nouns.add_parser(
        "doctor",
        help="check an installation from outside, after an apply",
        description="Check an installation from outside, after an apply. Each fault comes with its remedy.",
        epilog="Exit codes: 0 no check failed, 1 a check failed or, with --strict, was not made.",
    )
    parser.add_argument("--strict", action="store_true", help="fail if your credentials do not allow a check")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="limit of all checks (default: %(default)g)"
    )
    parser.add_argument(
        "--google-apis",
        default="",
        metavar="URL",
        help="address that serves Google's APIs without credentials (a local cloud prints it)",
    )
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if options.timeout <= 0:
        raise CommandError("--timeout must be positive", Exit.WRONG_USAGE)
    return examine(options, _patience)


def _patience(check: str) -> float:
    return _FINDINGS_WAIT if check == "indexes" else _WAIT


def examine(options: argparse.Namespace, patience: Callable[[str], float]) -> int:
    """Run all checks, write their results, and return the exit code.

    Args:
        options: the parsed arguments.
        patience: check → seconds to wait for a probe.
    """
    # The checks load Google's and the HTTP library, which other commands do not need.
    from luci_scheduler.cli.doctor.checks import Outcome, Result, run_checks  # noqa: PLC0415
    from luci_scheduler.cli.doctor.control_plane import ControlPlane  # noqa: PLC0415
    from luci_scheduler.cli.doctor.google_apis import GoogleApis  # noqa: PLC0415
    from luci_scheduler.cli.doctor.inside import Inside  # noqa: PLC0415

    session: Session = options.session(options)
    google = GoogleApis(options.google_apis)
    inside = Inside(session, google, patience)
    control = ControlPlane(google, lambda: inside.names)
    results: list[Result] = []
    for result in run_checks([*inside.first_checks(), *control.checks(), *inside.probe_checks()], options.timeout):
        results.append(result)
        if not options.json:
            session.write(_line(result))
    counts = {outcome: sum(item.outcome is outcome for item in results) for outcome in Outcome}
    failed = counts[Outcome.FAILED] + counts[Outcome.NOT_RUN] + (counts[Outcome.NOT_CHECKED] if options.strict else 0)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    session.show({"ok": not failed, "checks": _documents(results)}, f"{len(results)} checks: {summary}")
    return Exit.FAILED if failed else Exit.DONE


def _line(result: Any) -> str:
    text = f"{result.outcome:<12} {result.name:<15} {plain(result.text)}\n"
    return f"{text}{'':<28} -> {plain(result.remedy)}\n" if result.remedy else text


def _documents(results: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {"name": item.name, "outcome": str(item.outcome), "text": item.text, "remedy": item.remedy} for item in results
    ]
