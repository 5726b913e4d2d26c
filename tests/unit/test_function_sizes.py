"""Functions are short and have few branches, so a reader can hold one in mind."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_COMPLEXITY = 10
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.Assert,
    ast.match_case,
)


def _complexity(function: ast.AST) -> int:
    """Return one more than the branches of a function, its nested functions included.

    Each part of an ``and`` or ``or`` counts. Ruff's C901 does not count these.
    """
    nodes = list(ast.walk(function))
    operators = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return 1 + operators + sum(isinstance(node, _BRANCHES) for node in nodes)


@cache
def _functions(folder: str) -> dict[str, tuple[int, int]]:
    """Return the complexity and the lines (without blank ones) of each function in a folder."""
    return {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": (_complexity(function), lines)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for function, lines in _functions_of(path.read_text(encoding="utf-8"))
    }


def _functions_of(source: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, sum(bool(line.strip()) for line in lines[node.lineno - 1 : node.end_lineno])


def test_no_function_has_many_branches() -> None:
    """The limit holds for all deployed code."""
    found = _functions("functions")
    assert len(found) > 1000
    assert {name: complexity for name, (complexity, _) in found.items() if complexity > MAX_COMPLEXITY} == {}


@pytest.mark.parametrize(
    ("folder", "median", "long"),
    [("functions", 7, 20), ("functions/luci_scheduler/engine", 9, 22), ("emulator", 7, 20)],
)
def test_most_functions_are_short(folder: str, median: int, long: int) -> None:
    """Nine in ten functions have at most `long` lines, with the docstring, and a complexity of at most six."""
    complexities, lines = zip(*_functions(folder).values(), strict=True)
    assert sorted(lines)[len(lines) * 9 // 10] <= long
    assert sorted(complexities)[len(complexities) * 9 // 10] <= 6
    assert sorted(lines)[len(lines) // 2] <= median


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("return 1", 1),
        ("return a and b and c", 3),
        ("return [x for x in a if x] if b else None", 3),
        ("if a:\n  return 1\n elif b:\n  return 2", 3),
        ("match a:\n  case 1: return 1\n  case _: return 2", 3),
        ("try:\n  a()\n except KeyError: pass", 2),
    ],
)
def test_branches_are_counted(body: str, complexity: int) -> None:
    """Each kind of branch adds one."""
    assert _complexity(ast.parse(f"def f():\n {body}")) == complexity
