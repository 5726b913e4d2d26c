"""The generated part of docs/reference/command.md; ``python -m tests.unit.cli.reference`` rewrites it."""

import argparse
from pathlib import Path

from luci_scheduler.cli.main import make_parser
from luci_scheduler.cli.tree import leaves, options_of, variable

PAGE = Path("docs/reference/command.md")
MARK = "<!-- what follows is made from the parser -->\n"
COMMON = ("--url", "--token", "--audience", "--json")


def rendered() -> str:
    """Return the generated text."""
    parts = []
    for path, leaf in leaves(make_parser()):
        words = [action.metavar or action.dest.upper() for action in leaf._actions if not action.option_strings]
        parts.append(f"## `{' '.join((*path, *words))}`\n\n{_about(path, leaf)}.\n")
        options = [action for action in options_of(leaf) if action.option_strings[0] not in COMMON]
        if options:
            rows = [f"| {_spelled(action)} | `{variable(action)}` | {_help(action)} |" for action in options]
            parts.append("\n".join(["| option | variable | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _about(path: tuple[str, ...], leaf: argparse.ArgumentParser) -> str:
    text = leaf.description or _help_in_parent(path)
    return (text[0].upper() + text[1:]).rstrip(".")


def _help_in_parent(path: tuple[str, ...]) -> str:
    parser = make_parser()
    text = ""
    for word in path:
        (action,) = (item for item in parser._actions if isinstance(item, argparse._SubParsersAction))
        text = next(str(choice.help) for choice in action._choices_actions if choice.dest == word)
        parser = action.choices[word]
    return text


def _spelled(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[0]}{value}`" + (" (required)" if action.required else "")


def _help(action: argparse.Action) -> str:
    return str(action.help or "") % {"default": action.default}


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(head + MARK + "\n" + rendered(), encoding="utf-8")
