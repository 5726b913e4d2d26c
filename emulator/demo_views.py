"""The progress of a demo: a small table on a terminal, and plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.web.presentation import definition_text

__all__ = ["View", "page_text", "stages_view"]


class View(Protocol):
    """Shows the progress of a demo."""

    def stage(self, name: str, text: str, *, done: bool = True) -> None:
        """Show the state of a stage."""

    def log(self, line: str) -> None:
        """Show a line of the debug log."""


class _Lines:
    """Prints each line once, as plain text, for pipes and files."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def stage(self, name: str, text: str, *, done: bool = True) -> None:
        if self._said.get(name) != text:
            self._said[name] = text
            print(f"{'*' if done else '.'} {name}: {text}", flush=True)

    def log(self, line: str) -> None:
        print(f"    {line}", flush=True)


class _Board:
    """Updates a small table in place, for terminals."""

    def __init__(self, live: Live, names: Sequence[str]) -> None:
        self._live = live
        self._names = names
        self._stages: dict[str, tuple[str, bool]] = {}
        self._line = ""
        self._spinner = Spinner("dots")

    def stage(self, name: str, text: str, *, done: bool = True) -> None:
        self._stages[name] = (text, done)
        self._live.update(self._table())

    def log(self, line: str) -> None:
        self._line = line
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name in self._names:
            text, done = self._stages.get(name, ("", False))
            mark = (
                Text("✓", style="green") if done else self._spinner if name in self._stages else Text("·", style="dim")
            )
            table.add_row(mark, Text(name, style="bold" if name in self._stages else "dim"), Text(text))
        table.add_row(
            "", Text("Debug log", style="dim"), Text(self._line, style="dim", overflow="ellipsis", no_wrap=True)
        )
        return table


@contextmanager
def stages_view(names: Sequence[str]) -> Iterator[View]:
    """Show the progress inside the ``with`` block; ``names`` are the stages, in their order."""
    console = Console()
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, refresh_per_second=10) as live:
        yield _Board(live, names)


def page_text(page: Any) -> str:
    """Return the invocation's page as text, made from its JSON twin."""
    ((kind, fields),) = page["task"].items()
    triggers = [
        f"  • {trigger.get('title', trigger['id'])} {trigger.get('url', '')}" for trigger in page["incoming_triggers"]
    ]
    parts = [
        f"Invocation {page['invocation_id']} of {page['job_id']}\nStatus: {page['status']}",
        f"Definition (rev {page['revision']})",
        definition_text(TaskDefinition(kind, fields)),
        "Incoming triggers",
        "\n".join(triggers),
        "Debug log (UTC)",
        page["debug_log"].strip("\n"),
    ]
    return "\n\n".join(parts)
