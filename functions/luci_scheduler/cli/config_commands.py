"""``luci-scheduler config``: check and compare local config files; ``validate`` needs no cloud and no network."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]

_LENIENT = (
    "warn about unknown jobs in 'triggers' and ignore them, as an installation with SCHEDULER_LENIENT_TRIGGERS does"
)
_FILE = "luci-scheduler.cfg"
_ERAS = ("2021", "head")
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


def add_commands(nouns: Any) -> None:
    """Add ``config validate`` and ``config diff`` to the parser."""
    verbs = nouns.add_parser("config", help="check or compare config files").add_subparsers(
        metavar="VERB", required=True
    )
    _add_validate(verbs)
    _add_diff(verbs)


def _add_validate(verbs: Any) -> None:
    parser = verbs.add_parser(
        "validate",
        help="report every error and warning in config files",
        description="Report every error and warning in config files, each as FILE:LINE: PATH: MESSAGE.",
        epilog="Exit codes: 0 no errors (warnings are possible), 1 errors, 2 wrong usage or an unreadable file.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help=f"a config file, or a folder that has {_FILE} in it or in its subfolders (one per project)",
    )
    parser.add_argument("--project", help="the configs' project (default: the name of each file's folder)")
    parser.add_argument(
        "--era",
        choices=_ERAS,
        default="head",
        help="the rules to apply: today's (head, the default) or those of 2021",
    )
    parser.add_argument(
        "--strict", action="store_true", help="report old bucket names as errors, as LUCI does, not as warnings"
    )
    _add_rules(parser)
    parser.add_argument("--quiet", action="store_true", help="do not list warnings; they are still counted")
    parser.add_argument("--json", action="store_true", help="write one JSON document instead of lines")
    parser.set_defaults(run=_validate, offline=True)


def _add_diff(verbs: Any) -> None:
    parser = verbs.add_parser(
        "diff",
        help="compare a config file with the active config",
        description="Compare the jobs in a config file with the active jobs that the caller may see.",
        epilog="Exit codes: 0 no changes, 1 changes, or errors in the config, 2 wrong usage or an unreadable file.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a config file")
    parser.add_argument("--project", required=True, help="the config's project")
    _add_rules(parser)
    parser.set_defaults(run=_diff)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    """Add the options for the rules that an installation sets."""
    parser.add_argument("--lenient-triggers", action="store_true", help=_LENIENT)
    parser.add_argument(
        "--github-hosts",
        type=_hosts,
        default=(),
        metavar="HOST,HOST",
        help="hosts of GitHub Enterprise in the installation's SCHEDULER_COMMIT_HOSTS (default: none, only github.com)",
    )


def _hosts(text: str) -> tuple[str, ...]:
    """Return the names of hosts, in lower case."""
    hosts = tuple(filter(None, text.lower().split(",")))
    if not all(map(_HOST.fullmatch, hosts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of host names such as git.example.com,git2.example.com")
    return hosts


def _validate(options: argparse.Namespace) -> int:
    from luci_scheduler.cli.config_reports import report  # noqa: PLC0415 - loads protobuf and every task kind

    return report(options)


def _diff(options: argparse.Namespace) -> int:
    from luci_scheduler.cli.config_reports import compare  # noqa: PLC0415 - see above

    return compare(options)
