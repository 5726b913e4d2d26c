"""Writes the tables of inputs, outputs and resources in the README of each Terraform module.

``infra/readme.py`` rewrites the tables, and ``infra/readme.py --check`` reports outdated ones. The input is in the form
of ``terraform fmt``: a block begins and ends at the start of a line.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent / "terraform"
BEGIN, END = "<!-- written by infra/readme.py -->", "<!-- end of the written part -->"
_OPEN, _CLOSE = "({[", ")}]"


@dataclass(frozen=True)
class Block:
    """A block of a Terraform file: its words, e.g. ``("resource", "google_pubsub_topic", "this")``, and its lines."""

    words: tuple[str, ...]
    body: str

    def value(self, name: str) -> str:
        """Return the expression of an argument, or an empty string. It ends where its brackets are closed."""
        found = re.search(rf"^  {name}\s+= (?:<<-EOT\n(.*?)\n  EOT|(.*))", self.body, re.MULTILINE | re.DOTALL)
        return (found[1] or next(_split(found[2], "\n"))) if found else ""

    @property
    def description(self) -> str:
        """The description, as a cell of a table."""
        lines = self.value("description").strip('"').replace('\\"', '"').replace("|", "\\|").splitlines()
        return "<br>".join(line.strip() for line in lines)


def blocks(folder: Path) -> Iterator[Block]:
    """Yield the blocks of all files of a module, in order."""
    for path in sorted(folder.glob("*.tf")):
        text = path.read_text(encoding="utf-8")
        for words, body in re.findall(r"^(\w[^\n{]*) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            yield Block(tuple(words.replace('"', "").split()), body)


def _split(text: str, separators: str) -> Iterator[str]:
    """Yield the parts of an expression between separators that are in no bracket and in no string."""
    part, depth = "", 0
    for token in re.findall(r'"(?:\\.|[^"\\])*"|.', text, re.DOTALL):
        depth += (token in _OPEN) - (token in _CLOSE)
        if token in separators and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += token
    yield part.strip()


def _inside(text: str, function: str) -> str | None:
    """Return the arguments of ``function(...)``, if the text is such a call."""
    return text[len(function) + 1 : -1] if text.startswith(f"{function}(") and text.endswith(")") else None


def _kind(type_: str) -> tuple[str, str]:
    """Return a type in words, and the members of its object, if it is one."""
    for outer in ("list", "set", "map"):
        if (element := _inside(type_, outer)) is not None:
            kind, members = _kind(element)
            return f"{outer} of {kind}", members
    members = _inside(type_, "object")
    return ("object", members.strip("{} \n")) if members is not None else (type_, "")


def rows(name: str, type_: str, default: str, description: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield the row of an input, and one for each member of an object: name, type, default, contents."""
    kind, members = _kind(type_)
    yield name, kind, f"`{' '.join(default.split())}`" if default else "required", description
    for member in filter(None, _split(members, ",\n")):
        key, _, value = member.partition("=")
        given = [*_split(_inside(value.strip(), "optional") or "", ","), "null"]
        yield from rows(f"{name}.{key.strip()}", given[0] or value.strip(), given[1] if given[0] else "")


def _table(title: str, head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    if not lines:
        return ""
    table = [head, ("---",) * len(head), *lines]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in table) + "\n"


def tables(folder: Path) -> str:
    """Return the written part of a module's README."""
    found = list(blocks(folder))
    inputs = [
        (f"`{row[0]}`", *row[1:])
        for block in found
        if block.words[0] == "variable"
        for row in rows(block.words[1], block.value("type"), block.value("default"), block.description)
    ]
    outputs = [(f"`{block.words[1]}`", block.description) for block in found if block.words[0] == "output"]
    kinds = sorted(
        {(f"`{block.words[1]}`", block.words[0]) for block in found if block.words[0] in ("resource", "data")}
    )
    parts = [
        _table("Inputs", ("name", "type", "default", "contents"), inputs),
        _table("Outputs", ("name", "contents"), outputs),
        _table("Resources", ("type", "kind"), kinds),
    ]
    return "\n".join(filter(None, parts))


def readme(folder: Path) -> str:
    """Return the README of a module with current tables. Its own text stays."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].strip("\n")
    written = f"{before.rstrip()}\n\n{BEGIN}\n\n{tables(folder)}\n{END}\n"
    return written + (f"\n{after}\n" if after else "")


def modules() -> list[Path]:
    """Return the folders of the root module and of all other modules."""
    return [ROOT, *sorted(path.parent for path in ROOT.glob("modules/*/variables.tf"))]


def main(arguments: list[str]) -> int:
    """Rewrite the outdated READMEs, or with ``--check`` report them. Return the exit code."""
    outdated = [folder for folder in modules() if readme(folder) != (folder / "README.md").read_text(encoding="utf-8")]
    for folder in outdated:
        if "--check" in arguments:
            sys.stdout.write(f"infra: {folder / 'README.md'} is outdated: run python3 infra/readme.py\n")
        else:
            (folder / "README.md").write_text(readme(folder), encoding="utf-8")
    return 1 if outdated and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
