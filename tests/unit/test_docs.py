"""The docs are sound: links work, paths exist, lines are short, the glossary names classes, indexes are complete."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from luci_scheduler.config.reader import read_config
from tests.unit.test_prose import markdown_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LONGEST_LINE = 160

GENERATED_TABLES = {"api.md", "command.md", "performance.md", "threats.md"}
"""Pages with tables that tests compare with the code's texts. Their rows may be long."""

TO_CREATE = {"functions/luci_scheduler/managers/echo.py"}
"""Files that a guide tells its reader to create."""


def _text(page: Path) -> str:
    """Return a page without its fenced code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _anchor(heading: str) -> str:
    """Return the fragment that GitHub makes from a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower())
    return plain.strip().replace(" ", "-")


def _broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (
            fragment and fragment not in map(_anchor, re.findall(r"^#+ (.*)$", _text(file), re.MULTILINE))
        ):
            yield target


@pytest.mark.parametrize("page", markdown_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each file exists, and each fragment is a heading of it."""
    assert list(_broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """A missing heading is reported, and an existing heading is not."""
    page = tmp_path / "page.md"
    page.write_text("# Some `code` here\n\n[good](#some-code-here) [bad](page.md#other)\n", encoding="utf-8")
    assert list(_broken_links(page)) == ["page.md#other"]


@pytest.mark.parametrize("page", markdown_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page: Path) -> None:
    """A line has at most 160 characters, except rows of generated tables."""
    lines = page.read_text(encoding="utf-8").splitlines()
    if page.name in GENERATED_TABLES or page.is_relative_to(ROOT / "infra"):
        lines = [line for line in lines if not line.startswith("| ")]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def _paths(text: str) -> Iterator[str]:
    """Yield the repository's paths that a page names in code."""
    for code in re.findall(r"`([^`\s]+)`", text):
        path = code.partition("::")[0]
        if re.fullmatch(r"(?:tests|functions|emulator|infra|docs)/[\w./-]+", path):
            yield path
        elif re.fullmatch(r"(?:core|engine|managers|adapters|config|api|web|cli)/[\w/]+\.py", path):
            yield f"functions/luci_scheduler/{path}"


def test_paths_are_found() -> None:
    """A path is in code, alone; it starts at the root or at the package of the functions."""
    text = "Run `tests/unit/test_x.py::test_y` and read `core/cron.py`, but not `ls docs/x`, `core/*.py` or core/a.py."
    assert list(_paths(text)) == ["tests/unit/test_x.py", "functions/luci_scheduler/core/cron.py"]


@pytest.mark.parametrize("page", markdown_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page: Path) -> None:
    """A file or folder that a page names is in the repository."""
    assert [path for path in _paths(_text(page)) if path not in TO_CREATE and not (ROOT / path).exists()] == []


def _exists(path: str) -> bool:
    """Whether a dotted path names a module's attribute."""
    module, _, name = path.rpartition(".")
    return hasattr(importlib.import_module(module), name)


def test_the_glossary_names_classes() -> None:
    """Each term ends with the path of the class that holds it, and each path exists."""
    entries = re.findall(r"^- \*\*(.*?)\*\*(.*?)(?=^- |^#|\Z)", _text(DOCS / "concepts.md"), re.MULTILINE | re.DOTALL)
    assert len(entries) > 40
    paths = {term: re.findall(r"`(luci_scheduler(?:\.\w+)+)`", text) for term, text in entries}
    assert [term for term, found in paths.items() if not found] == []
    assert [(term, path) for term, found in paths.items() for path in found if not _exists(path)] == []


def _section(page: Path, heading: str) -> str:
    """Return the text of a page from a heading of the second level to the next one."""
    return page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_architecture_lists_every_layer() -> None:
    """It has the import order of `pyproject.toml`, and a row for each module and package."""
    section = _section(DOCS / "architecture.md", "Layers")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = [set(re.findall(r"\w+", layer)) for layer in contracts[0]["layers"]]
    order = re.findall(r"`main` → .*?(?=\n\n)", section, re.DOTALL)[0].split("→")[1:]
    assert [set(re.findall(r"\w+", layer)) for layer in order] == layers
    rows = " ".join(re.findall(r"^\| (`.*?) \|", section.partition("Imports run one way")[0], re.MULTILINE))
    assert set(re.findall(r"`(\w+)(?:/|\.py)`", rows)) - {"main"} == set.union(*layers)


def test_the_architecture_names_every_module_of_the_engine() -> None:
    """A newcomer finds each step."""
    section = _section(DOCS / "architecture.md", "Layers")
    modules = {path.stem for path in (ROOT / "functions/luci_scheduler/engine").glob("*.py")} - {"__init__"}
    assert set(re.findall(r"`engine/(\w+)\.py`", section)) == modules


@pytest.mark.parametrize("folder", ["decisions", "explanation", "operations"])
def test_a_folder_lists_its_pages(folder: str) -> None:
    """The README of a folder links to each page of it."""
    linked = set(re.findall(r"\]\(([\w.-]+\.md)\)", _text(DOCS / folder / "README.md")))
    assert {page.name for page in (DOCS / folder).glob("*.md")} - {"README.md"} <= linked


def test_the_list_of_pages_is_complete() -> None:
    """`docs/README.md` links to each page outside the folders with an index."""
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", _text(DOCS / "README.md")))
    pages = {
        page.relative_to(DOCS).as_posix()
        for folder in ("", "how-to", "reference")
        for page in (DOCS / folder).glob("*.md")
    }
    assert pages - {"README.md"} <= linked


def test_the_readme_is_one_screen() -> None:
    """It has one picture, one diagram, and a config without problems."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 65
    assert text.count("![") == 1
    assert text.count("```mermaid") == 1
    (config,) = re.findall(r"```\n(trigger .*?)```", text, re.DOTALL)
    assert len(config.splitlines()) <= 12
    assert read_config("tint", config).warnings == ()
