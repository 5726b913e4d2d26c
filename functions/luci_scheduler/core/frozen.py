"""Immutable classes with named fields, as ``@dataclass(frozen=True, slots=True)`` makes them, at a fifth of the cost.

The standard library compiles six methods of each such class from source text when a module is imported. A function
imports a hundred of these classes before its first answer, which took a tenth of a cold start. Here only ``__init__``
is compiled, with the first instance. The other methods are shared functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

__all__ = ["frozen"]

T = TypeVar("T")
_ABSENT = object()
"""The default of a parameter whose value a factory makes."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Turn a class with annotated fields into an immutable class with slots, which compares and hashes by value.

    The functions of ``dataclasses`` take its instances, and ``field``, ``KW_ONLY`` and ``__post_init__`` have their
    usual meaning. Methods of the class itself have precedence. A subclass with fields of its own must be `frozen` too.

    Raises:
        TypeError: a field has the option ``init=False`` or ``hash``, which no class here needs.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    members = fields(made)
    for item in members:
        if not item.init or item.hash is not None:
            raise TypeError(f"the field {item.name} of a frozen class cannot have the option init=False or hash")
    values = _values(tuple(item.name for item in members if item.compare))
    methods = {
        "__repr__": _repr,
        "__eq__": _equality(values),
        "__setattr__": _refuse_set,
        "__delattr__": _refuse_delete,
        "__getstate__": _get_state,
        "__setstate__": _set_state,
        "__init__": _late_init(made),
    }
    for name, method in methods.items():
        if name not in vars(made):
            setattr(made, name, method)
    if vars(made).get("__hash__") is None:  # Python sets None in a class that has its own __eq__
        made.__hash__ = _hash(values)
    return made  # type: ignore[no-any-return]


def _late_init(cls: Any) -> Callable[..., None]:
    """Return ``__init__``, which is compiled for the first instance. Most processes use a third of the classes."""

    def init(self: Any, *args: Any, **named: Any) -> None:
        cls.__init__ = _compiled_init(cls, fields(cls))
        cls.__init__(self, *args, **named)

    return init


def _compiled_init(cls: Any, members: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Compile ``__init__``. It sets the slots through their descriptors, because instances refuse assignments.

    Its own names start with two underscores, so that a field may have any other name.
    """
    names: dict[str, Any] = {"__absent": _ABSENT}
    places = [item for item in members if not item.kw_only]
    named = [item for item in members if item.kw_only]
    parameters = [_parameter(item, names) for item in places]
    if named:
        parameters += ["*", *(_parameter(item, names) for item in named)]
    names |= {f"__set_{item.name}": getattr(cls, item.name).__set__ for item in members}
    lines = [f"__set_{item.name}(self, {_value(item)})" for item in members]
    lines += ["self.__post_init__()"] if hasattr(cls, "__post_init__") else []
    exec(f"def __init__({', '.join(['self', *parameters])}):\n " + "\n ".join(lines or ["pass"]), names)  # noqa: S102
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _parameter(item: Field[Any], names: dict[str, Any]) -> str:
    """Return a field's parameter in ``__init__``, and note its default among the names."""
    if item.default is not MISSING:
        names[f"__default_{item.name}"] = item.default
        return f"{item.name}=__default_{item.name}"
    if item.default_factory is not MISSING:
        names[f"__make_{item.name}"] = item.default_factory
        return f"{item.name}=__absent"
    return item.name


def _value(item: Field[Any]) -> str:
    name = item.name
    return name if item.default_factory is MISSING else f"__make_{name}() if {name} is __absent else {name}"


def _values(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return the function that gets the values of an instance's fields: the only one, or a tuple."""
    return attrgetter(*names) if names else lambda _: ()


def _equality(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def equal(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return equal


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    return lambda self: hash(values(self))


def _repr(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_set(_: object, name: str, __: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(_: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, item.name) for item in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for item, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)
