"""Shrinking finds the smallest part of a list that still fails."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from emulator.storm.shrink import shrink


@pytest.mark.parametrize("wanted", [(), (7,), (0, 99), (3, 4, 5), tuple(range(0, 100, 9))])
def test_the_culprits_remain(wanted: tuple[int, ...]) -> None:
    """Exactly the items that are needed for the failure remain, in their order."""
    assert shrink(range(100), lambda items: set(wanted) <= set(items), tries=5000) == wanted


def test_no_item_can_be_left_out() -> None:
    """Where items replace each other, the result is minimal: without any of its items nothing fails."""

    def fails(items: Sequence[int]) -> bool:
        return sum(items) >= 50 and any(item % 2 for item in items)

    left = shrink(range(20), fails, tries=5000)
    assert fails(left)
    assert not any(fails(part) for part in itertools.combinations(left, len(left) - 1))


def test_each_part_is_played_once_within_the_tries() -> None:
    """No part is played twice, and after the last try the smallest failing part so far is returned."""
    played: list[tuple[int, ...]] = []

    def fails(items: Sequence[int]) -> bool:
        played.append(tuple(items))
        return {3, 60} <= set(items)

    left = shrink(range(64), fails, tries=6)
    assert {3, 60} <= set(left)
    assert len(played) == len(set(played)) == 6
