"""The catalogs of planted bugs: ``catalog/NAME.toml``, one table ``[[bug]]`` for each bug.

Members of a table:

- ``name``: words joined by hyphens, unique over all catalogs;
- ``file``: the file to edit, from the root of the repository;
- ``before``, ``after``: the exact text to replace, which occurs once in the file, and its replacement;
- ``breaks``: the promise that the bug breaks, as one sentence;
- ``tests``: paths of pytest that are tried first, narrow enough to take seconds;
- ``equivalent``: only for a survivor, the reason why no test can notice it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CATALOGS", "ROOT", "Bug", "catalog_names", "read_catalog"]

ROOT = Path(__file__).parents[2]
CATALOGS = Path(__file__).parent / "catalog"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One planted bug. The module's docstring describes the members."""

    name: str
    file: str
    before: str
    after: str
    breaks: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def planted(self, source: str) -> str:
        """Return the source with the bug.

        Raises:
            ValueError: ``before`` does not occur exactly once, so the entry no longer fits its file.
        """
        if (times := source.count(self.before)) != 1:
            raise ValueError(f"{self.name}: its `before` occurs {times} times in {self.file}: adapt the entry")
        return source.replace(self.before, self.after)


def catalog_names() -> Sequence[str]:
    """Return the names of the catalogs, sorted."""
    return sorted(path.stem for path in CATALOGS.glob("*.toml"))


def read_catalog(name: str, folder: Path = CATALOGS) -> Sequence[Bug]:
    """Read a catalog.

    Raises:
        FileNotFoundError: there is no such catalog.
        ValueError: an entry is malformed.
    """
    text = (folder / f"{name}.toml").read_text(encoding="utf-8")
    return [_bug(table) for table in tomllib.loads(text)["bug"]]


def _bug(table: dict[str, object]) -> Bug:
    try:
        bug = Bug(**{**table, "tests": tuple(table.get("tests", ()))})
    except TypeError as error:
        raise ValueError(f"bad entry {table.get('name')!r}: {error}") from error
    if not _NAME.fullmatch(bug.name):
        raise ValueError(f"bad name {bug.name!r}: words of small letters and digits, joined by hyphens")
    if bug.before == bug.after or not bug.tests or not bug.breaks:
        raise ValueError(f"{bug.name}: it needs a change, a promise that it breaks, and tests to try first")
    return bug
