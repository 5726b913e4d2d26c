"""Frozen classes behave like those of ``@dataclass(frozen=True, slots=True)``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from threading import Barrier
from typing import Any, Generic, TypeVar

import pytest

from luci_scheduler.core.frozen import frozen

T = TypeVar("T")


@frozen
class Point:
    """Has a field of each sort."""

    x: int
    y: int = 2
    names: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Standard:
    """The same fields."""

    x: int
    y: int = 2
    names: list[str] = field(default_factory=list)
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)


@frozen
class Box(Generic[T]):
    """Holds one value, whose hash is that of the value."""

    value: T


@frozen
class Named:
    """Takes keywords only, checks them, and has a property."""

    _: KW_ONLY

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("no name")

    @property
    def shout(self) -> str:
        """The name in capitals."""
        return self.name.upper()


@frozen
class Child(Named):
    """Adds a field."""

    age: int = 0


@frozen
class Case:
    """Compares in its own way."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and self.text.lower() == other.text.lower()

    def __hash__(self) -> int:
        return hash(self.text.lower())

    def __repr__(self) -> str:
        return "case"


@pytest.mark.parametrize("arguments", [{"x": 1}, {"x": 1, "y": 3, "names": ["a"], "secret": "t", "note": "n"}])
def test_it_looks_like_a_dataclass(arguments: dict[str, Any]) -> None:
    """Values, text, fields and ``asdict`` are the same."""
    ours, standard = Point(**arguments), Standard(**arguments)
    assert repr(ours) == repr(standard).replace("Standard", "Point")
    assert asdict(ours) == asdict(standard)
    assert [(item.name, item.type, item.repr) for item in fields(ours)] == [
        (item.name, item.type, item.repr) for item in fields(standard)
    ]
    assert is_dataclass(ours)
    assert Point.__match_args__ == Standard.__match_args__
    assert Point.__slots__ == Standard.__slots__
    assert not hasattr(ours, "__dict__")


def test_it_refuses_changes() -> None:
    """No field can be set or deleted, and none can be added."""
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        point.other = 2  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point == Point(1)


def test_it_compares_by_class_and_values() -> None:
    """A field without ``compare`` does not count, and another class is never equal."""
    assert Point(1, note="a") == Point(1, note="b")
    assert Point(1) != Point(2)
    assert Point(1) != Standard(1)
    assert {Box("a"), Box("a"), Box("b")} == {Box("b"), Box("a")}
    assert hash(Box(("a", 1))) == hash(Box(("a", 1)))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_each_instance_has_defaults_of_its_own() -> None:
    """A factory runs for each instance, and None is a value."""
    one, two = Point(1), Point(1)
    one.names.append("a")
    assert (one.names, two.names) == (["a"], [])
    assert Point(1, names=None).names is None  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(), (1, 2, [], "s", "n", "more")])
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...]) -> None:
    """Missing, superfluous and unknown ones, also for the second instance."""
    for _ in range(2):
        with pytest.raises(TypeError, match="__init__"):
            Point(*arguments)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Point(1, z=1)  # type: ignore[call-arg]


def test_copies() -> None:
    """``replace``, ``copy`` and ``deepcopy`` make equal instances."""
    point = Point(1, names=["a"], note="n")
    assert replace(point, y=5) == Point(1, 5, ["a"])
    for made in (copy.copy(point), copy.deepcopy(point)):
        assert made == point
        assert made.note == "n"
    assert copy.deepcopy(point).names is not point.names


def test_keywords_checks_and_subclasses() -> None:
    """``KW_ONLY`` and ``__post_init__`` work, also in a subclass that adds a field."""
    with pytest.raises(TypeError, match="positional"):
        Named("a")  # type: ignore[misc]
    with pytest.raises(ValueError, match="no name"):
        Child(name="")
    child = Child(3, name="a")
    assert (child.shout, child.age, child.tags) == ("A", 3, {})
    assert child != Named(name="a")
    assert Named(name="b").name == "b"


def test_methods_of_the_class_have_precedence() -> None:
    """Its own comparison, hash and text stay."""
    assert Case("A") == Case("a")
    assert len({Case("A"), Case("a")}) == 1
    assert repr(Case("A")) == "case"


def test_a_field_may_have_any_name() -> None:
    """Names in the compiled constructor do not hide those of fields."""

    @frozen
    class Names:
        absent: int
        items: list[int] = field(default_factory=list)
        make_items: int = 1
        set_items: int = 2
        default_set_items: int = 3

    first = Names(0)
    assert (first.items, first.make_items, first.set_items, first.default_set_items) == ([], 1, 2, 3)
    assert Names(absent=5, items=[6], set_items=7) == Names(5, [6], 1, 7, 3)


@pytest.mark.parametrize("option", [{"init": False, "default": 1}, {"hash": True}])
def test_an_unsupported_option_of_a_field_is_an_error(option: dict[str, Any]) -> None:
    """A field that is silently treated otherwise would be a trap."""

    class Options:
        """Has one field with an option."""

        x: int = field(**option)

    with pytest.raises(TypeError, match="the field x of a frozen class cannot have"):
        frozen(Options)


def test_the_first_instances_may_be_made_side_by_side() -> None:
    """The first instance compiles the constructor."""

    @frozen
    class Late:
        x: int
        y: int = 2

    barrier = Barrier(8)

    def first(number: int) -> Late:
        barrier.wait(30)
        return Late(number)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first, range(8))) == [Late(number) for number in range(8)]
