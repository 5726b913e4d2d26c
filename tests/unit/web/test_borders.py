"""Pages reach the store only through the service layer, which checks permissions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import luci_scheduler.web

_FILES = sorted(Path(luci_scheduler.web.__path__[0]).rglob("*.py"))
_FORBIDDEN_ATTRIBUTES = {"store", "queue", "gitiles", "buildbucket"}
_ALLOWED_PACKAGES = {"api", "core", "managers", "web"}  # managers: a task kind declares how pages show it
_ALLOWED_NAMES = {("luci_scheduler.engine.runtime", "logger"), ("luci_scheduler.display", "displayed")}


def _imports(tree: ast.Module) -> set[tuple[str, str]]:
    """Return every name of this project that a module imports, with its module."""
    return {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("luci_scheduler")
        for alias in node.names
    }


def _ports(tree: ast.Module) -> set[str]:
    """Return the ports that a module names as attributes."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & _FORBIDDEN_ATTRIBUTES


def _foreign_names(tree: ast.Module) -> set[tuple[str, str]]:
    """Return the names that a module imports from packages that pages must not use."""
    return {(module, name) for module, name in _imports(tree) if module.split(".")[1] not in _ALLOWED_PACKAGES}


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.name)
def test_no_page_touches_a_port(file: Path) -> None:
    """No module of the pages names the store, the queue or a client of another service."""
    assert _ports(ast.parse(file.read_text(encoding="utf-8"))) == set()


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.name)
def test_pages_import_only_the_layers_below(file: Path) -> None:
    """The only names from elsewhere are the logger and the addresses of local servers."""
    assert _foreign_names(ast.parse(file.read_text(encoding="utf-8"))) <= _ALLOWED_NAMES


def test_a_crossed_border_is_found() -> None:
    """The tests above fail for such a module."""
    tree = ast.parse("from luci_scheduler.engine.commit import on_commit\ncontext.runtime.store.job(job_id)")
    assert _foreign_names(tree) == {("luci_scheduler.engine.commit", "on_commit")}
    assert _ports(tree) == {"store"}


def test_the_scan_covers_the_pages() -> None:
    """The tests above read the modules that render pages."""
    assert {"job.py", "project.py", "invocation.py", "actions.py", "routes.py"} <= {file.name for file in _FILES}
