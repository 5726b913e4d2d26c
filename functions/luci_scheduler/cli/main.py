"""The command ``luci-scheduler``: nouns, then verbs; one module for each group of nouns.

A module's ``add_commands(nouns)`` adds its nouns and verbs to the parser. Each verb sets ``run``, a function from the
parsed arguments to an exit code. ``options.session(options)`` returns the `Session` that calls the API.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from luci_scheduler.cli import (
    commit_commands,
    config_commands,
    dead_letter_commands,
    export_commands,
    job_commands,
    login_commands,
)
from luci_scheduler.cli.doctor import command as doctor_command
from luci_scheduler.cli.session import CommandError, Exit, Session, plain
from luci_scheduler.cli.tree import add_common, add_descriptions, apply_environment, check_environment, completion
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = ["main", "make_parser"]

_MODULES = (
    login_commands,
    doctor_command,
    job_commands,
    commit_commands,
    config_commands,
    dead_letter_commands,
    export_commands,
)
_CODES = (
    "Exit codes: 0 success; 1 failure, or the check found a problem; 2 wrong usage; 3 not found, or not visible; "
    "4 not allowed; 5 no answer, try again; 130 interrupted."
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="luci-scheduler",
        description="Inspect and operate a Serverless LUCI Scheduler.",
        epilog=f"{_CODES} Every option has an environment variable: --url is LUCI_SCHEDULER_URL.",
    )
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_commands(nouns)
    script = nouns.add_parser("completion", help="write a completion script for a shell")
    script.add_argument(
        "shell", choices=["bash", "zsh"], help="the shell; for bash: source <(luci-scheduler completion bash)"
    )
    script.set_defaults(run=_completion, offline=True, only_text=True)
    add_common(parser)
    add_descriptions(parser)
    return parser


def main(
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    session: Callable[[argparse.Namespace], Session] = Session,
) -> int:
    """Run the command and return its exit code, see `Exit`.

    Args:
        arguments: the command line; the process's own if None.
        environment: variables that replace missing options; the process's own if None.
        session: makes the session from the parsed arguments.

    Raises:
        SystemExit: for ``--help`` and for wrong usage, as argparse does.
    """
    parser = make_parser()
    apply_environment(parser, os.environ if environment is None else environment)
    parser.set_defaults(session=session)
    options = parser.parse_args(arguments)
    try:
        check_environment(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _run(options)
    except CommandError as error:
        lines = f"luci-scheduler: {_subject(options, error)}{error}".split("\n")
        sys.stderr.write("\n".join(map(plain, lines)) + "\n")
        return int(error.code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has closed the pipe. The rest of the buffer must not be written again at the end of the process.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return int(Exit.DONE)


def _run(options: argparse.Namespace) -> int:
    try:
        return int(options.run(options))
    except PARSER_ERRORS as error:
        if getattr(options, "offline", False):
            raise
        # The console has sent another document than this command knows.
        text = f"an answer cannot be understood ({type(error).__name__}): use the command of the installation's version"
        raise CommandError(text) from error


def _subject(options: argparse.Namespace, error: CommandError) -> str:
    """Return the job or invocation that was not found, as a prefix: the API's text does not name it."""
    named = getattr(options, "invocation", None) or getattr(options, "job", None)
    # The jobs of a backfill are a list, and its errors name them.
    return f"{plain(named)}: " if error.code == Exit.NOT_FOUND and isinstance(named, str) else ""


def _completion(options: argparse.Namespace) -> int:
    sys.stdout.write(completion(make_parser(), options.shell))
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
