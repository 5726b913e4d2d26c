"""Partial replies of the v1 API: ``?fields=build(id,status),error``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["PartialError", "select_fields"]

_Tree: TypeAlias = "dict[str, _Tree]"


class PartialError(ValueError):
    """The selector has a syntax error."""


def select_fields(value: Any, selector: str) -> Any:
    """Return the part of a reply that a selector names.

    A selector lists fields with commas. It selects below a field with ``a/b`` or ``a(b,c)``; ``*`` matches any field. A
    selector applies to each item of a list.

    Raises:
        PartialError: the selector has a syntax error.
    """
    tree, rest = _parse(selector)
    if rest:
        raise PartialError(f"Invalid field selection {selector}")
    return _pick(value, tree)


def _parse(text: str) -> tuple[_Tree, str]:
    tree: _Tree = {}
    while True:
        end = next((index for index, character in enumerate(text) if character in ",/()"), len(text))
        name, text = text[:end].strip(), text[end:]
        if not name:
            raise PartialError("Invalid field selection: a name is missing")
        node = tree.setdefault(name, {})
        while text.startswith("/"):
            end = next((index for index, character in enumerate(text[1:], 1) if character in ",/()"), len(text))
            node, text = node.setdefault(text[1:end].strip(), {}), text[end:]
        if text.startswith("("):
            below, text = _parse(text[1:])
            if not text.startswith(")"):
                raise PartialError("Invalid field selection: ) is missing")
            node.update(below)
            text = text[1:]
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _pick(value: Any, tree: _Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_pick(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _pick(item, tree.get(name, tree.get("*", {})))
        for name, item in value.items()
        if name in tree or "*" in tree
    }
