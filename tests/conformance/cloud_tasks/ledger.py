"""The ledger of known differences between this server and the documented service, stored in ``ledger.json``.

``python -m tests.conformance.cloud_tasks.ledger`` writes the list into the reference page.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cloud-tasks-server.md"
BEGIN = "<!-- ledger: begin (generated) -->"
END = "<!-- ledger: end -->"


@dataclass(frozen=True)
class Difference:
    """A known difference: the documented behavior, this server's behavior, and the reason."""

    id: str
    documented: str
    here: str
    why: str


def load() -> list[Difference]:
    """Read the ledger."""
    return [Difference(**entry) for entry in json.loads((Path(__file__).parent / "ledger.json").read_text())]


def table() -> str:
    """Render the ledger as a Markdown list."""
    lines = []
    for difference in load():
        lines.append(f"- **{difference.id}**")
        parts = (f"Documented: {difference.documented}", f"Here: {difference.here}", f"Reason: {difference.why}")
        lines += [
            line for part in parts for line in textwrap.wrap(part, 150, initial_indent="  ", subsequent_indent="  ")
        ]
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """Return the page with the table between its markers."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
