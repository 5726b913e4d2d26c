"""The templates of the debug log's lines: they recognize their own output, and they are the only source of lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luci_scheduler.core import log_lines
from luci_scheduler.core.go_text import format_duration, quote
from luci_scheduler.core.log_lines import Call, Template

PACKAGE = Path(log_lines.__file__).parent.parent
READERS = (*sorted(f"api/{path.name}" for path in (PACKAGE / "api").glob("export*.py")), "web/timeline.py")
DEFINITION = "core/log_lines.py"
TEMPLATES = {name: value for name, value in vars(log_lines).items() if isinstance(value, Template)}
SHORT = 6
"""Beginnings with fewer characters, such as ``Build ``, are words that other texts use."""

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "": st.text(),
    "call": st.sampled_from(Call),
    "duration": st.integers(0, 10**17).map(format_duration),
    "hash": st.from_regex(r"[0-9a-f]{1,40}", fullmatch=True),
    "number": st.integers(),
    "quoted": st.text().map(quote),
    "word": st.from_regex(r"[^\s]{1,20}", fullmatch=True),
}


@pytest.mark.parametrize("name", TEMPLATES)
@settings(derandomize=True, deadline=None, database=None, max_examples=25)
@given(data=st.data())
def test_a_template_matches_its_own_output_with_the_same_fields(name: str, data: st.DataObject) -> None:
    """A free text that contains a fixed part of its line has no unique reading, so the property excludes it."""
    template = TEMPLATES[name]
    fields = {field: data.draw(_VALUES[kind], label=field) for field, kind in template.patterns.items()}
    frame = [part for part in template.format(**dict.fromkeys(template.patterns, "\0")).split("\0") if part]
    free = [str(fields[field]) for field, kind in template.patterns.items() if kind in ("", "word")]
    if len(free) > 1:
        assume(not any(part.strip() in text for part in frame for text in free if part.strip()))
        assume(not any(text.endswith(" ") or text.startswith(" ") for text in free))
    line = template.format(**fields)
    assert template.begins(line)
    assert template.match(line) == {field: str(value) for field, value in fields.items()}


def test_a_template_matches_no_other_line() -> None:
    """The whole line counts, not only its beginning."""
    line = log_lines.STARTING.format(attempt=3)
    assert line == "Starting the invocation (attempt 3)"
    assert log_lines.STARTING.match(f"{line}!") is None
    assert log_lines.STARTING.match("Starting the invocation (attempt x)") is None
    assert log_lines.STARTING.begins("Starting the invocation (attempt x)")
    assert log_lines.CALL_FAILED.match("Failed to make coffee - UNAVAILABLE") is None


@pytest.mark.parametrize("fields", [{}, {"attempt": 1, "more": 2}, {"attempts": 1}])
def test_a_writer_must_name_the_fields(fields: dict[str, int]) -> None:
    """A missing, a foreign and a misspelled name are errors, because the line would be wrong."""
    with pytest.raises(TypeError, match=r"has the fields \['attempt'\], not"):
        log_lines.STARTING.format(**fields)


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _used(tree: ast.Module) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log_lines"
    }


def test_each_template_of_a_reader_has_a_writer() -> None:
    """Otherwise a reader would wait for a line that no log has. No template is without a writer."""
    used = {name: _used(tree) for name, tree in _modules()}
    written = {template for name, templates in used.items() if name not in READERS for template in templates}
    read = {template for name in READERS for template in used[name]} & TEMPLATES.keys()
    assert len(read) > 20
    assert read <= written
    assert written >= TEMPLATES.keys()


def _literals(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a module, without docstrings."""
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


def _fixed_parts(template: Template) -> list[str]:
    parts = template.format(**dict.fromkeys(template.patterns, "\0")).split("\0")
    return [part.strip() for part in parts if len(part.strip()) > SHORT]


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_contains_no_line_text(reader: str) -> None:
    """The texts of the timeline and of the export contain no fixed part of a line."""
    tree = ast.parse((PACKAGE / reader).read_text(encoding="utf-8"))
    parts = {part: name for name, template in TEMPLATES.items() for part in _fixed_parts(template)}
    found = [(text, name) for text in _literals(tree) for part, name in parts.items() if part in text]
    assert found == []


def test_a_writer_contains_no_line_text() -> None:
    """Each call that logs a line passes a template's output or a variable, not a literal text."""
    assert [f"{name}:{line}" for name, tree in _modules() for line in _literal_lines(tree)] == []


def test_a_literal_line_is_found() -> None:
    """The test above fails for these calls."""
    source = "controller.log('done')\nformat_line(now, f'{count} done')\ncontroller.log(log_lines.DONE.format())"
    assert list(_literal_lines(ast.parse(source))) == [1, 2]


def _literal_lines(tree: ast.Module) -> Iterator[int]:
    """Yield the positions of calls that log a literal text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _logs_a_line(node) and any(map(_is_text, node.args)):
            yield node.lineno


def _logs_a_line(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("log", "format_line", "_trouble")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
