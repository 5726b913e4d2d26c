"""The bounded memory of answers."""

from luci_scheduler.adapters.kept import Kept


def test_the_value_that_was_not_used_for_the_longest_time_goes_first() -> None:
    """Reading a value is a use."""
    kept = Kept[str, int](3)
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        kept.put(name, value)
    assert kept.get("a") == 1
    kept.put("d", 4)
    assert [kept.get(name) for name in "abcd"] == [1, None, 3, 4]
    assert ("b" in kept, "d" in kept) == (False, True)


def test_weights_count() -> None:
    """A replaced value no longer weighs, and a value that is too heavy is not kept, nor its predecessor."""
    kept = Kept[str, str](10)
    kept.put("a", "old", 9)
    kept.put("a", "new", 4)
    kept.put("b", "b", 6)
    assert (kept.get("a"), kept.get("b")) == ("new", "b")
    kept.put("c", "c", 5)
    assert [kept.get(name) for name in "abc"] == [None, None, "c"]
    kept.put("c", "huge", 11)
    assert kept.get("c") is None
    kept.put("d", "d", 10)
    assert kept.get("d") == "d"
