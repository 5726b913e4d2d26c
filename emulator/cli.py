"""The command line of the local cloud."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from emulator.arguments import PORT, speed, whole_number
from emulator.errors import LocalCloudError
from emulator.front_end.modes import MODES, STRIPPINGS

__all__ = ["main"]

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_INSTALL = "the extra [local] has everything that the local cloud needs: pip install '.[local]' in the checkout"
_OPTION = re.compile(r"--[a-z-]+")
_INTERRUPTED = 130
_STATUSES = "exit status: 0 done, 1 failed (one line on standard error gives the reason), 2 wrong usage"


def main(arguments: Sequence[str], prog: str = "python -m emulator") -> int:
    """Run a command and return its exit status: 0 done, 1 failed; wrong usage exits with status 2.

    Args:
        arguments: the words after the program's name.
        prog: the program's name in help texts.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run the scheduler on this machine: official emulators, local servers, and the functions.",
        epilog=_STATUSES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(
        commands.add_parser(
            "up",
            allow_abbrev=False,
            help="start everything and keep it running until Ctrl-C",
            description="Start everything, print the addresses, and keep it running until Ctrl-C.",
            epilog=_STATUSES,
        )
    )
    _add_demo(
        commands.add_parser(
            "demo",
            allow_abbrev=False,
            help="show live how a commit becomes a build",
            description="Show live how a commit becomes a build, which is checked twice and ends.",
            epilog=_STATUSES,
        )
    )
    # These read their own arguments, --help included.
    commands.add_parser("replay", help="play a scenario through the real functions", add_help=False)
    commands.add_parser("storm", help="test that faults lose nothing, in memory and in virtual time", add_help=False)
    commands.add_parser("chaos", help="test that faults and crashes of real processes lose nothing", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command in ("up", "demo"):
        commands.choices[options.command].error(_unknown(rest, commands.choices[options.command]))
    try:
        return _COMMANDS[options.command](options, rest)
    except KeyboardInterrupt:  # while its modules are loaded; later, each command stops its own servers
        sys.stderr.write("stopped\n")
        return _INTERRUPTED
    except LocalCloudError as error:
        sys.stderr.write(f"{options.command}: {error}\n")
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "emulator").partition(".")[0] in ("emulator", "luci_scheduler"):
            raise
        sys.stderr.write(f"{options.command}: {error.name} is not installed: {_INSTALL}\n")
        return 1


def _unknown(rest: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Return the error about arguments that a command does not have, with the nearest option."""
    near = get_close_matches(rest[0].partition("=")[0], _OPTION.findall(parser.format_help()), n=1)
    return f"unrecognized arguments: {' '.join(rest)}{f'; did you mean {near[0]}?' if near else ''}"


def _up(options: argparse.Namespace, _: Sequence[str]) -> int:
    from emulator.up import up  # noqa: PLC0415 - each command loads what it needs

    return up(options)


def _demo(options: argparse.Namespace, _: Sequence[str]) -> int:
    if options.kind == "cloud-build":
        from emulator.cloud_build_demo import main as demo  # noqa: PLC0415 - see above
    else:
        from emulator.demo import main as demo  # noqa: PLC0415 - see above

    return demo(options.store, console_port=options.console_port, download_url=options.download_url, keep=options.keep)


def _replay(_: argparse.Namespace, rest: Sequence[str]) -> int:
    from emulator.replay.cli import main as replay  # noqa: PLC0415 - see above

    return replay(rest)


def _chaos(_: argparse.Namespace, rest: Sequence[str]) -> int:
    from emulator.chaos.cli import main as chaos  # noqa: PLC0415 - see above

    return chaos(rest)


def _storm(_: argparse.Namespace, rest: Sequence[str]) -> int:
    from emulator.storm.cli import main as storm  # noqa: PLC0415 - see above

    return storm(rest)


_COMMANDS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "up": _up,
    "demo": _demo,
    "replay": _replay,
    "storm": _storm,
    "chaos": _chaos,
}


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        choices=["emulators", "memory"],
        help="emulators: the official Firestore and Pub/Sub emulators (they need Java and 900 MB of memory), functions "
        "as processes; memory: neither, everything in this process, with 100 MB "
        "(default: the emulators if they and Java are installed, else memory)",
    )
    parser.add_argument(
        "--console-port", type=PORT, default=0, metavar="PORT", help="port of the pages (default: a free port)"
    )
    parser.add_argument(
        "--download-url",
        default="",
        metavar="URL",
        help="folder that has the emulators if no Google Cloud SDK is installed (also: EMULATOR_DOWNLOAD_URL)",
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument(
        "--kind",
        choices=["buildbucket", "cloud-build"],
        default="buildbucket",
        help="buildbucket: a commit of a Gitiles repository becomes a Buildbucket build; cloud-build: a push to a "
        "GitHub repository becomes a Cloud Build build, and the commit gets a status (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the local cloud running until Ctrl-C, to look around")


def _add_up(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    _add_contents(parser)
    _add_builds(parser)
    _add_output(parser)
    _add_behavior(parser)
    _add_front_end(parser)
    for name in ("firestore", "pubsub", "cloud-tasks", "buildbucket", "gitiles", "cloud-build", "github"):
        parser.add_argument(f"--{name}-port", type=PORT, default=0, metavar="PORT", help="default: a free port")


def _add_contents(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        help="holds configs/<project>/luci-scheduler.cfg, repositories/<host>/<project>, logs/ and the state, which "
        "the next run continues; a new folder gets a sample project (default: a temporary folder)",
    )
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="PATH",
        help="start a build for each commit in the git repository of PATH, which is served in place, unchanged "
        "(default: asks if the current folder is in one)",
    )
    parser.add_argument("--no-watch", action="store_false", dest="watch", help="watch no repository, and do not ask")
    parser.add_argument("--fresh", action="store_true", help="forget the state of earlier runs in --folder")
    parser.add_argument(
        "--configs", type=Path, metavar="FOLDER", help="where <project>/luci-scheduler.cfg are, if not in --folder"
    )
    parser.add_argument(
        "--project",
        type=_project,
        help="the cloud project (default: a fresh name that no web page can guess, "
        "because the official emulators answer every page)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--quiet", action="store_true", help="print only the addresses and problems")
    output.add_argument(
        "--json", action="store_true", help="print JSON lines: the addresses, then a line for each commit, build..."
    )


def _add_builds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--build",
        type=_command,
        metavar="COMMAND",
        help="run this in the shell for each build, on a checkout of its commit, such as 'sh build.sh' "
        "(default: builds do nothing and succeed)",
    )
    parser.add_argument(
        "--builders",
        type=Path,
        metavar="FILE",
        help="a TOML file that maps builders to commands (default: builders.toml in --folder, if it exists)",
    )
    parser.add_argument(
        "--cloud-build",
        action="store_true",
        help="serve Cloud Build (default: if a config has a cloud_build job, or with --cloud-build-port)",
    )
    parser.add_argument(
        "--run-steps",
        action="store_true",
        help="run the steps of Cloud Build's builds as programs on this machine, on a checkout of their commit "
        "(default: --build runs in their place; without it they do nothing and succeed)",
    )
    parser.add_argument(
        "--triggers",
        type=Path,
        metavar="FILE",
        help="a TOML file with the triggers of Cloud Build (default: triggers.toml in --folder, if it exists)",
    )
    parser.add_argument(
        "--github",
        action="store_true",
        help="serve GitHub: repositories, webhooks and commit statuses (default: if a config names github.com, or with "
        "--github-port)",
    )


def _add_behavior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lenient-triggers",
        action="store_true",
        help="warn of unknown jobs in 'triggers' and leave them out, as SCHEDULER_LENIENT_TRIGGERS does",
    )
    parser.add_argument(
        "--events",
        type=_push_address,
        nargs="?",
        const="",
        metavar="URL",
        help="announce starts and ends of invocations on the topic invocation-events, and push them to URL on this "
        "machine (default: nothing is announced; without URL: no subscription)",
    )
    parser.add_argument(
        "--allow-fetch",
        type=_host,
        action="append",
        default=[],
        metavar="HOST",
        help="a host outside this machine that url_fetch jobs may call; may be repeated (default: none)",
    )
    parser.add_argument(
        "--protocol", choices=["v1", "v2"], default="v2", help="the Buildbucket API (default: %(default)s)"
    )
    parser.add_argument(
        "--check-interval",
        type=whole_number(1),
        default=60,
        metavar="SECONDS",
        help="between status checks of a build (default: %(default)s)",
    )
    parser.add_argument(
        "--speed",
        type=speed,
        default=1.0,
        metavar="FACTOR",
        help="speed as a multiple of real time; above or below 1 only with --store memory (default: 1)",
    )


def _add_front_end(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--front-end",
        choices=MODES,
        help="check callers before the functions as the platform does, with this front end of the console "
        "(default: none, and every caller is the developer)",
    )
    parser.add_argument(
        "--stripping",
        choices=STRIPPINGS,
        default="documented",
        help="which tokens lose their signature in the front end (default: %(default)s)",
    )


def _project(text: str) -> str:
    if not _PROJECT.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a cloud project: 6 to 30 lower-case letters, digits and hyphens,"
            " a letter first, no hyphen last"
        )
    return text


def _push_address(text: str) -> str:
    parts = urlsplit(text)
    if not text:  # the option without a value; argparse converts that as well
        return ""
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address on this machine such as http://127.0.0.1:9000/")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name such as status.example.com")
    return text


def _command(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no command; give one such as 'sh build.sh'")
    return text
