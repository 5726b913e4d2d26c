"""The command's tree of parsers, with the shared options, the environment's values and shell completion."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = [
    "PREFIX",
    "add_common",
    "add_descriptions",
    "apply_environment",
    "check_environment",
    "completion",
    "leaves",
    "options_of",
    "variable",
]

PREFIX = "LUCI_SCHEDULER_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

Path = tuple[str, ...]


def leaves(parser: argparse.ArgumentParser, path: Path = ()) -> Iterator[tuple[Path, argparse.ArgumentParser]]:
    """Yield each verb with the words that lead to it, in the order of the help."""
    children = _children(parser)
    if not children:
        yield path, parser
    for word, child in children.items():
        yield from leaves(child, (*path, word))


def _children(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
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


@dataclass(frozen=True, slots=True)
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


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a script that completes words and options in bash or zsh; it makes no calls."""
    words: dict[str, list[str]] = {}
    _collect(parser, "", words)
    for path, leaf in leaves(parser):
        words[" ".join(path)] = sorted(name for action in options_of(leaf) for name in action.option_strings)
    cases = "\n".join(f'    "{path}") words="{" ".join(items)}" ;;' for path, items in words.items())
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return head + _SCRIPT.replace("@CASES@", cases)


def _collect(parser: argparse.ArgumentParser, path: str, words: dict[str, list[str]]) -> None:
    for word, child in _children(parser).items():
        words.setdefault(path, []).append(word)
        _collect(child, f"{path} {word}".strip(), words)


_SCRIPT = """\
_luci_scheduler() {
  local words="" path="" word
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) continue ;; esac
    [ "$(set -- $path; echo $#)" -lt 2 ] && path="${path:+$path }$word"
  done
  case "$path" in
@CASES@
    *) path="${path%% *}"; case "$path" in
@CASES@
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _luci_scheduler luci-scheduler
"""
