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
        parts.append(f"## `{' '.join((*path, *words))}`\n\n{_about(leaf)}\n")
        options = [action for action in options_of(leaf) if action.option_strings[0] not in COMMON]
        if options:
            rows = [f"| {_spelled(action)} | `{variable(action)}` | {_help(action)} |" for action in options]
            parts.append("\n".join(["| option | variable | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _about(leaf: argparse.ArgumentParser) -> str:
    assert leaf.description is not None
    return leaf.description


def _spelled(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[0]}{value}`" + (" (required)" if action.required else "")


def _help(action: argparse.Action) -> str:
    return str(action.help or "") % {"default": action.default}


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(head + MARK + "\n" + rendered(), encoding="utf-8")
