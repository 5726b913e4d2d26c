"""Prose is plain English, and every public name is described.

The style section of CONTRIBUTING.md explains each turn of phrase that the tests count, and its replacement.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeGuard

import pytest

ROOT = Path(__file__).parents[2]

PARTS = ("docs", "infra", "functions", "emulator", "tests")
MAX_RATE = 1.0
"""Turns per 1,000 words that each part may have. Some are legitimate, such as "the message asks for JSON"."""


def _any_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


TURNS = {
    "headless 'What …'": re.compile(r"(?:^|[.:;] )What (?!do\b|does\b|happens\b|(?:is|are) the\b)[a-z]+", re.MULTILINE),
    "headless 'what …'": re.compile(
        rf"\bwhat {_any_of('is are was were has have it they come comes came waits fails cannot may must others')}\b"
    ),
    "vague relative": re.compile(r"\b(?:ones? that|those (?:that|which|who)|whoever|whatever)\b", re.IGNORECASE),
    "somebody, nobody": re.compile(r"\b(?:some|no)body\b", re.IGNORECASE),
    "bring": re.compile(r"\b(?:bring(?:s|ing)?|brought)\b", re.IGNORECASE),
    "tell": re.compile(r"\b(?:tells?|told)\b", re.IGNORECASE),
    "is to be": re.compile(rf"\b{_any_of('is are was were')} to (?!the\b|a\b|an\b)[a-z]+"),
    "asked for": re.compile(r"\bask(?:s|ed)? for\b"),
    "trailing adverb": re.compile(r", too\b|\bbesides\b", re.IGNORECASE),
    "of its own": re.compile(rf"\bof {_any_of('its their our his her')} own\b"),
}
"""Turn → its pattern."""


_COMMENT = re.compile(r"(?:^\s*|  )#(?!.*\bnoqa\b) *(.*)$", re.MULTILINE)
_TERRAFORM_TEXT = re.compile(r"^\s*# (.*)$|(?:description|error_message|says) *= \"(.*)\"", re.MULTILINE)


class _Module(NamedTuple):
    """The findings of a module. Its tree is not kept, because a million nodes slow each garbage collection down."""

    prose: list[str]
    """Docstrings and comments."""
    undescribed: list[str]
    """Public names without a docstring."""


@cache
def _modules(folder: str) -> dict[Path, _Module]:
    """Read each module in a folder. Parsing takes most of the time of these tests.

    Hidden folders hold other people's packages, such as the environment of the generated client.
    """
    paths = (path for path in sorted((ROOT / folder).rglob("*.py")) if "/." not in str(path.relative_to(ROOT)))
    return {path: _read(path) for path in paths}


def _read(path: Path) -> _Module:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    prose = [ast.get_docstring(tree) or "", *_docstrings(tree), *_COMMENT.findall(source)]
    return _Module(prose, list(_undescribed(path, tree)))


def _python_prose(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield the docstrings and comments of a folder's modules."""
    for path, module in _modules(folder).items():
        for text in module.prose:
            yield path, text


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings below a node. Only statements are visited, because expressions hold none."""
    for child in getattr(node, "body", ()) if isinstance(node, ast.mod | ast.stmt) else ():
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(child) or ""
        yield from _docstrings(child)


def _markdown_prose() -> Iterator[tuple[Path, str]]:
    """Yield the text of Markdown pages, without code and without the section that quotes the turns."""
    for path in markdown_pages():
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
        if path.name == "CONTRIBUTING.md":
            text = re.sub(r"^## Style\n.*?^## ", "## ", text, flags=re.DOTALL | re.MULTILINE)
        yield path, text


def _terraform_prose() -> Iterator[tuple[Path, str]]:
    """Yield the comments and texts of Terraform files."""
    for path in sorted((ROOT / "infra").rglob("*")):
        if path.suffix in (".tf", ".hcl") and ".terraform" not in path.parts:
            for comment, value in _TERRAFORM_TEXT.findall(path.read_text(encoding="utf-8")):
                yield path, comment or value


def markdown_pages() -> list[Path]:
    """Return every Markdown page of the repository."""
    folders = [ROOT / "docs", ROOT / "infra"]
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    return sorted(page for page in pages if ".terraform" not in page.parts)


def prose(part: str) -> Iterator[tuple[Path, str]]:
    """Yield the prose of a part of the repository, with the file of each piece."""
    if part == "docs":
        return _markdown_prose()
    return _terraform_prose() if part == "infra" else _python_prose(part)


@pytest.mark.parametrize("part", PARTS)
def test_turns_of_phrase_are_rare(part: str) -> None:
    """No part exceeds the limit. A failure names the worst files and the commonest turns."""
    words, turns, files = 0, Counter[str](), Counter[str]()
    for path, text in prose(part):
        words += len(re.findall(r"[A-Za-z']+", text))
        for name, pattern in TURNS.items():
            if found := len(pattern.findall(text)):
                turns[name] += found
                files[str(path.relative_to(ROOT))] += found
    assert words > 1000
    rate = 1000 * turns.total() / words
    assert rate <= MAX_RATE, f"{rate:.1f} per 1,000 words: {turns.most_common(4)} in {files.most_common(8)}"


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("What waits is started.", "headless 'What …'"),
        ("It returns what is there.", "headless 'what …'"),
        ("One that fails is retried.", "vague relative"),
        ("Nobody looks.", "somebody, nobody"),
        ("It brings a trigger.", "bring"),
        ("The task tells the time.", "tell"),
        ("It is to be done.", "is to be"),
        ("A triage is asked for.", "asked for"),
        ("It is late, too.", "trailing adverb"),
        ("It has a thread of its own.", "of its own"),
    ],
)
def test_each_turn_is_found(text: str, turn: str) -> None:
    """A sentence with a turn matches its pattern."""
    assert TURNS[turn].search(text)


def test_plain_sentences_pass() -> None:
    """The advised replacements match no pattern."""
    text = "The sweep enqueues lost tasks again. What happens next? The handler lists the pending triggers."
    assert not any(pattern.search(text) for pattern in TURNS.values())


def _undescribed(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the public names of a module without a docstring."""
    place = path.relative_to(ROOT).as_posix()
    if not ast.get_docstring(tree):
        yield place
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{place}: {node.name}"
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if _is_public_method(member) and not ast.get_docstring(member):
                yield f"{place}: {node.name}.{member.name}"


def _is_public_method(member: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Whether a statement of a class defines a public method; a property's setter is described by its getter."""
    if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) or member.name.startswith("_"):
        return False
    return not any(ast.unparse(decorator).endswith(".setter") for decorator in member.decorator_list)


def test_a_name_without_a_docstring_is_found() -> None:
    """Private names, nested functions and setters need none."""
    source = """
def public(): pass
def _private(): pass
class Shown:
    '''A class.'''
    def __init__(self): pass
    def method(self):
        def inner(): pass
    @name.setter
    def name(self, value): pass
"""
    found = list(_undescribed(ROOT / "module.py", ast.parse(source)))
    assert found == ["module.py", "module.py: public", "module.py: Shown.method"]


@pytest.mark.parametrize("folder", ["functions", "emulator"])
def test_every_public_name_has_a_docstring(folder: str) -> None:
    """Modules, classes, functions and methods are described."""
    modules = _modules(folder)
    assert len(modules) > 50
    assert [name for module in modules.values() for name in module.undescribed] == []
