"""The command ``luci-scheduler``: nouns, then verbs; one module for each group of nouns.

A module's ``add_commands(nouns)`` adds its nouns and verbs to the parser. Each verb sets ``run``, a function from the
parsed arguments to an exit code. ``options.session(options)`` returns the `Session` that calls the API.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luci_scheduler.cli import (
    commit_commands,
    config_commands,
    dead_letter_commands,
    export_commands,
    invocation_commands,
    job_commands,
    local_command,
    login_commands,
)
from luci_scheduler.cli.completion import SHELLS, complete_names, completion
from luci_scheduler.cli.doctor import command as doctor_command
from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.names import missing_job
from luci_scheduler.cli.session import Session, name_parts
from luci_scheduler.cli.tables import plain
from luci_scheduler.cli.tree import Parser, add_common, add_descriptions, apply_environment, check_environment, parse
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = ["main", "make_parser"]

_MODULES = (
    login_commands,
    doctor_command,
    job_commands,
    invocation_commands,
    commit_commands,
    config_commands,
    dead_letter_commands,
    export_commands,
    local_command,
)
_CODES = (
    "Exit codes: 0 success; 1 failure, or the check found a problem; 2 wrong usage; 3 not found, or not visible; "
    "4 not allowed; 5 no answer, try again; 6 aborted; 7 discarded; 8 out of patience; 130 interrupted."
)
_NAMES = "complete-names"  # what a shell calls; it is not in the help


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="luci-scheduler",
        description="Inspect and operate a Serverless LUCI Scheduler.",
        epilog=f"{_CODES} Every option has an environment variable: --url is LUCI_SCHEDULER_URL.",
    )
    parser.add_argument("--version", action="version", version=f"luci-scheduler {_version()}")
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_commands(nouns)
    script = nouns.add_parser("completion", help="write a completion script for a shell")
    script.add_argument("shell", choices=SHELLS, help="the shell; for bash: source <(luci-scheduler completion bash)")
    script.set_defaults(run=_completion, offline=True, only_text=True)
    add_common(parser)
    add_descriptions(parser)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only --version needs it

    try:
        return version("serverless-luci-scheduler")
    except PackageNotFoundError:
        return "(not installed as a package)"


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
    words = _plain_words(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [local_command.NAME]:
        return local_command.run(words[1:])
    parser = _whole_parser()
    apply_environment(parser, os.environ if environment is None else environment)
    parser.set_defaults(session=session)
    options = parse(parser, words)
    try:
        check_environment(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _run(options)
    except CommandError as error:
        lines = f"luci-scheduler: {_subject(options, error)}{error}{_nearest(options, error)}".split("\n")
        sys.stderr.write("\n".join(map(plain, lines)) + "\n")
        return int(error.code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has closed the pipe. The rest of the buffer must not be written again at the end of the process.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return int(Exit.DONE)


def _plain_words(words: Sequence[str]) -> list[str]:
    """Return the words of the command; ``help WORDS`` means ``WORDS --help``."""
    return [*words[1:], "--help"] if words[:1] == ["help"] else list(words)


def _whole_parser() -> argparse.ArgumentParser:
    """Return the parser with the word that only shells use."""
    parser = make_parser()
    nouns: Any = parser._subparsers._group_actions[0]  # type: ignore[union-attr]  # noqa: SLF001
    names = nouns.add_parser(_NAMES)
    names.add_argument("word", nargs="?", default="")
    names.set_defaults(run=_complete_names, only_text=True, json=False)
    add_common(names)
    return parser


def _complete_names(options: argparse.Namespace) -> int:
    return complete_names(lambda: options.session(options), options.token, options.word)


def _nearest(options: argparse.Namespace, error: CommandError) -> str:
    """Return the nearest names if a job was not found."""
    named = [getattr(options, name, None) for name in ("invocation", "job", "target")]
    texts = [text for text in named if isinstance(text, str)]
    if not error.names_job or not texts:
        return ""
    session: Session = options.session(options)
    return missing_job(session, "/".join(name_parts(texts[0], session.url)[:2]))


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
    named = next((getattr(options, name) for name in ("invocation", "job", "target") if hasattr(options, name)), None)
    # The jobs of a backfill are a list, and its errors name them.
    return f"{plain(named)}: " if error.code == Exit.NOT_FOUND and isinstance(named, str) else ""


def _completion(options: argparse.Namespace) -> int:
    sys.stdout.write(completion(make_parser(), options.shell))
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
