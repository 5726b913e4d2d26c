"""Types and codes distinguish errors; their texts are only for people."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import luci_scheduler
from luci_scheduler.api.errors import (
    ApiError,
    Code,
    NoSuchInvocationError,
    NoSuchJobError,
    no_such_invocation,
    no_such_job,
)

_ROOT = Path(luci_scheduler.__path__[0])
_FILES = sorted(
    [*(file for folder in ("api", "web", "cli") for file in (_ROOT / folder).rglob("*.py")), _ROOT / "entry.py"]
)


def _is_error_text(node: ast.AST) -> bool:
    """Return whether an expression is the text of an error: ``error.message`` or ``str(error)``."""
    match node:
        case ast.Attribute(value=ast.Name(id="error"), attr="message" | "args"):
            return True
        case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id="error")]):
            return True
    return False


def _decisions_on_texts(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that compare an error's text, or call a method of it such as ``startswith``."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare() if any(_is_error_text(side) for side in (node.left, *node.comparators)):
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=value)) if _is_error_text(value):
                if node.func.attr != "split":  # type: ignore[attr-defined] - joins the lines of a text
                    yield node.lineno


@pytest.mark.parametrize("file", _FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_no_decision_depends_on_the_text_of_an_error(file: Path) -> None:
    """Texts can be reworded without a change of behavior."""
    assert list(_decisions_on_texts(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    ['if error.message == "no such invocation": pass', 'error.message.startswith("no such job")', '"x" in str(error)'],
)
def test_the_scan_finds_such_decisions(line: str) -> None:
    """The test above fails for these lines."""
    assert list(_decisions_on_texts(ast.parse(line))) == [1]


def test_codes_have_the_numbers_of_grpc() -> None:
    """Clients read the number from a header."""
    assert {code.name: code.value for code in Code} == {code.name: grpc.StatusCode[code.name].value[0] for code in Code}


def test_missing_objects_have_their_own_types() -> None:
    """Both have the code NOT_FOUND, which other errors share."""
    for error, kind in ((no_such_job("p/j"), NoSuchJobError), (no_such_invocation(), NoSuchInvocationError)):
        assert isinstance(error, kind)
        assert isinstance(error, ApiError)
        assert error.code is Code.NOT_FOUND
    assert str(no_such_job("p/j")) == "no such job or no permission to see it: p/j"
