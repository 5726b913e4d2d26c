"""Masks: the fields of a build in a reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from emulator.buildbucket.schema import MESSAGES, FieldType

__all__ = ["DEFAULT_FIELDS", "BuildMask", "MaskError"]

# A tree of names; an empty subtree selects the whole field.
_Tree: TypeAlias = "dict[str, _Tree]"

DEFAULT_FIELDS = (
    "id",
    "builder",
    "number",
    "createdBy",
    "createTime",
    "startTime",
    "endTime",
    "updateTime",
    "status",
    "statusDetails",
    "critical",
    "canary",
    "input.experimental",
    "input.gerritChanges",
    "input.gitilesCommit",
)
_STRUCTS = {
    "inputProperties": "input.properties",
    "outputProperties": "output.properties",
    "requestedProperties": "infra.buildbucket.requestedProperties",
}


class MaskError(ValueError):
    """The mask is invalid; the text is the reason."""


class BuildMask:
    """A checked mask; `apply` reduces a build to its fields."""

    def __init__(self, fields: _Tree | None, structs: Mapping[str, _Tree], step_status: Iterable[str]) -> None:
        self._fields = fields
        self._structs = structs
        self._step_status = frozenset(step_status)

    @classmethod
    def parse(cls, mask: Mapping[str, Any] | None, fields: list[str], *, prefix: str = "") -> BuildMask:
        """Check the mask of a request, which has one of two forms.

        Args:
            mask: the decoded ``BuildMask`` message, or None.
            fields: the paths of the older ``fields`` parameter, which may contain ``*``.
            prefix: the prefix of paths that concern builds in a list (``builds.*.``); other paths are ignored.

        Raises:
            MaskError: a path is unknown, or fields exclude each other.
        """
        if mask is not None and fields:
            raise MaskError("`mask` and `fields` can't be used together; prefer `mask` since `fields` is deprecated")
        if fields:
            paths = [path.removeprefix(prefix) for path in fields if path.startswith(prefix)]
            return cls(_tree(paths, wildcards=True), {}, ())
        return cls._read(mask or {})

    @classmethod
    def _read(cls, mask: Mapping[str, Any]) -> BuildMask:
        """Check the newer form of a mask, the ``BuildMask`` message."""
        if mask.get("allFields"):
            if any(mask.get(name) for name in ("fields", *_STRUCTS)):
                raise MaskError("mask.AllFields is mutually exclusive with other mask fields")
            return cls(None, {}, mask.get("stepStatus", ()))
        paths = list(mask.get("fields") or DEFAULT_FIELDS)
        structs: dict[str, _Tree] = {}
        for name, path in _STRUCTS.items():
            if mask.get(name):
                paths.append(path)
                structs[path] = _struct_tree([entry.get("path", []) for entry in mask[name]])
        return cls(_tree(paths, wildcards=False), structs, mask.get("stepStatus", ()))

    def apply(self, build: Mapping[str, Any]) -> dict[str, Any]:
        """Return the masked copy of a complete build message."""
        masked = dict(build) if self._fields is None else _pick(build, self._fields)
        for path, tree in self._structs.items():
            *parents, last = path.split(".")
            holder = masked
            for parent in parents:
                holder = holder.get(parent, {})
            if last in holder:
                holder[last] = _pick_struct(holder[last], tree)
        if self._step_status and "steps" in masked:
            masked["steps"] = [step for step in masked["steps"] if step.get("status") in self._step_status]
        return masked


def _tree(paths: Iterable[str], *, wildcards: bool) -> _Tree:
    tree: _Tree = {}
    for path in paths:
        _check(path, wildcards=wildcards)
        _insert(tree, path.split("."))
    return tree


def _insert(tree: _Tree, names: list[str]) -> None:
    node = tree
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name in node and not node[name]:
            return
        if last:
            node[name] = {}
        node = node.setdefault(name, {})


def _check(path: str, *, wildcards: bool) -> None:
    kind: FieldType = "Build"
    for position, name in enumerate(path.split(".")):
        if isinstance(kind, list):
            _check_below_repeated(path, name, wildcards=wildcards)
            kind = kind[0]
            continue
        if wildcards and name == "*" and position == 0:
            return
        if not isinstance(kind, str) or kind not in MESSAGES or name not in MESSAGES[kind]:
            raise MaskError(f'invalid path "{path}": field "{name}" does not exist in message {kind}')
        kind = MESSAGES[kind][name]


def _check_below_repeated(path: str, name: str, *, wildcards: bool) -> None:
    """Check a name that follows a repeated field in a path."""
    if not wildcards:
        raise MaskError(f'field mask path "{path}": a repeated field is only allowed in the last position')
    if name != "*":
        raise MaskError(f'field mask path "{path}": expected * after a repeated field')


def _pick(value: Any, tree: _Tree) -> Any:
    if not tree or "*" in tree and not tree["*"]:  # noqa: RUF021 - one case: the whole field is selected
        return _copy(value)
    if isinstance(value, list):
        return [_pick(item, tree.get("*", tree)) for item in value]
    return {name: _pick(value[name], below) for name, below in tree.items() if name in value}


def _copy(value: Any) -> Any:
    """Copy the containers, so that removing fields from a reply does not change the build."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _struct_tree(paths: Iterable[list[str]]) -> _Tree:
    tree: _Tree = {}
    for path in paths:
        if not path:
            raise MaskError("a struct mask needs a path")
        _insert(tree, [_struct_name(name) for name in path])
    return tree


def _struct_name(element: str) -> str:
    """Return the name in the tree for an element of a struct mask; see `_pick_struct`."""
    if element == "*":
        return element
    if len(element) > 1 and element.startswith('"') and element.endswith('"'):
        return f"={element[1:-1]}"
    if "*" in element or element.lstrip("-").isdigit():
        raise MaskError(f"bad struct mask element {element!r}: numbers and names with * must be quoted")
    return f"={element}"


def _pick_struct(value: Any, tree: _Tree) -> Any:
    """Select from properties. Names in the tree begin with ``=``, so that only the wildcard is ``*``."""
    if not tree:
        return value
    if isinstance(value, list):
        return [_pick_struct(item, tree["*"]) for item in value] if "*" in tree else []
    if not isinstance(value, Mapping):
        return None
    picked = {}
    for key, item in value.items():
        below = tree.get(f"={key}", tree.get("*"))
        if below is not None:
            picked[key] = _pick_struct(item, below)
    return picked
