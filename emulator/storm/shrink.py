"""Shrinking: the smallest part of a failing run that still fails. Pure, but for the runs that the caller makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import TypeVar

__all__ = ["shrink"]

T = TypeVar("T")


def shrink(items: Sequence[T], fails: Callable[[Sequence[T]], bool], tries: int = 400) -> tuple[T, ...]:
    """Return a part of ``items``, in their order, that still fails and from which no single item can be left out.

    The method is delta debugging (Zeller and Hildebrandt, 2002): leave out ever smaller parts. It needs no assumption
    about how items depend on each other, and about ``n log n`` runs if few of them matter.

    Args:
        items: the faults of a run, or the actions of its script. They fail together.
        fails: runs a part of them. It must be deterministic; it is called once for each part.
        tries: the largest number of runs. After them the smallest failing part so far is returned.
    """
    known: dict[tuple[int, ...], bool] = {}

    def holds(places: tuple[int, ...]) -> bool:
        if places not in known:
            known[places] = len(known) < tries and fails([items[place] for place in places])
        return known[places]

    if holds(()):
        return ()
    left = _smaller(tuple(range(len(items))), holds)
    return tuple(items[place] for place in left)


def _smaller(left: tuple[int, ...], holds: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...]:
    parts = 2
    while len(left) > 1:
        pieces = _pieces(left, parts)
        others = [tuple(chain(*pieces[:place], *pieces[place + 1 :])) for place in range(len(pieces))]
        found = next((part for part in (*pieces, *others) if holds(part)), None)
        if found is not None:
            parts = 2 if len(found) <= len(left) // parts else max(2, parts - 1)
            left = found
        elif parts < len(left):
            parts = min(len(left), 2 * parts)
        else:
            break
    return left


def _pieces(items: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Cut the items into ``count`` parts of almost equal length."""
    count = min(count, len(items))
    edges = [len(items) * place // count for place in range(count + 1)]
    return [items[start:end] for start, end in pairwise(edges)]
