"""The command's tree of parsers, with the shared options, the environment's values and errors that name the nearest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.names import hint
from luci_scheduler.core.frozen import frozen

__all__ = [
    "PREFIX",
    "Parser",
    "add_common",
    "add_descriptions",
    "apply_environment",
    "check_environment",
    "children",
    "leaves",
    "options_of",
    "parse",
    "variable",
]

PREFIX = "LUCI_SCHEDULER_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

Path = tuple[str, ...]


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest words, and that shows its help if a word is missing."""

    def error(self, message: str) -> NoReturn:
        """End the command with exit code 2."""
        missing = message.removeprefix("the following arguments are required: ")
        if missing in ("COMMAND", "VERB"):
            self.print_help(sys.stderr)
            self.exit(Exit.WRONG_USAGE)
        self.print_usage(sys.stderr)
        self.exit(Exit.WRONG_USAGE, f"{self.prog}: {message}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check a choice; argparse's own error has no nearest words."""
        choices = list(action.choices or ())
        if not choices or value in choices:
            return
        near = hint(str(value), list(map(str, choices))) or f"; choose from {', '.join(map(str, choices))}"
        raise argparse.ArgumentError(action, f"there is no {str(value)!r}{near}")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments; an unknown option ends the command with exit code 2 and names the nearest option.

    Raises:
        SystemExit: for ``--help`` and for wrong usage, as argparse does.
    """
    options, rest = parser.parse_known_args(arguments)
    if rest:
        leaf: argparse.ArgumentParser = getattr(options, "leaf", parser)
        known = [name for action in leaf._actions for name in action.option_strings]  # noqa: SLF001
        near = hint(rest[0].partition("=")[0], known) if rest[0].startswith("-") else ""
        leaf.error(f"unexpected argument: {' '.join(rest)}{near}")
    return options


def leaves(parser: argparse.ArgumentParser, path: Path = ()) -> Iterator[tuple[Path, argparse.ArgumentParser]]:
    """Yield each verb with the words that lead to it, in the order of the help."""
    following = children(parser)
    if not following:
        yield path, parser
    for word, child in following.items():
        yield from leaves(child, (*path, word))


def children(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the next words of the command, with their parsers; none for a verb."""
    for action in parser._actions:  # noqa: SLF001 - argparse exposes its tree nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return a verb's options without ``--help``."""
    return [
        action
        for action in parser._actions  # noqa: SLF001
        if action.option_strings and not isinstance(action, argparse._HelpAction)  # noqa: SLF001
    ]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the shared options to every verb: the console, the credentials and the output format."""
    for _, leaf in leaves(parser):
        leaf.set_defaults(leaf=leaf)
        there = {name for action in options_of(leaf) for name in action.option_strings}
        if not leaf.get_default("offline"):
            leaf.add_argument("--url", default="", help="address of the console")
            leaf.add_argument(
                "--token",
                default="",
                help="bearer token (default: that of `luci-scheduler login`, else an ID token of the service account; "
                "none for a console on this machine)",
            )
            leaf.add_argument(
                "--audience", default="", help="audience of the ID token (default: the console's address)"
            )
        if "--json" not in there and not leaf.get_default("only_text"):
            leaf.add_argument("--json", action="store_true", help="write one JSON document instead of text")


def add_descriptions(parser: argparse.ArgumentParser) -> None:
    """Give each noun and verb without a description the text that its parent's help has for it."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for choice in action._choices_actions:  # noqa: SLF001
                text, child = str(choice.help), action.choices[choice.dest]
                child.description = child.description or f"{text[0].upper()}{text[1:]}."
                add_descriptions(child)


def variable(action: argparse.Action) -> str:
    """Return the environment variable of an option."""
    name = next(text for text in action.option_strings if text.startswith("--"))
    return PREFIX + name.lstrip("-").upper().replace("-", "_")


def apply_environment(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Set the environment's values as defaults of options; `check_environment` reports invalid values."""
    for _, leaf in leaves(parser):
        for action in options_of(leaf):
            name = variable(action)
            if name in environment:
                action.default = _value(action, name, environment[name])
                action.required = False


def check_environment(options: argparse.Namespace) -> None:
    """Check that no parsed argument comes from an invalid variable.

    Variables of other verbs, and of options on the command line, are not checked.

    Raises:
        ValueError: a variable has an invalid value; the text does not repeat the value, which may be a token.
    """
    for value in vars(options).values():
        if isinstance(value, _Bad):
            raise ValueError(value.fault)  # noqa: TRY004 - the value of a variable is wrong, not a type


@frozen
class _Bad:
    """Replaces the invalid value of a variable."""

    fault: str


class _Listed(list[str]):
    """The values of a variable: argparse copies a default list before it appends, and the copy starts empty."""

    def __copy__(self) -> list[str]:
        return []


def _value(action: argparse.Action, name: str, text: str) -> object:
    if action.nargs == 0:
        if text.lower() not in (*_TRUE, *_FALSE):
            return _Bad(f"{name} must be true or false")
        return text.lower() in _TRUE
    if action.choices is not None and text not in action.choices:
        return _Bad(f"{name} must be one of {', '.join(map(str, action.choices))}")
    if isinstance(action, argparse._AppendAction):  # noqa: SLF001 - the values of a list are separated by commas
        return _Listed(item for item in text.split(",") if item)
    return text  # argparse converts a default text like a given one
