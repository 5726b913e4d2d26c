"""Faults of requests, and hidden commits."""

import pytest

from emulator.gitiles.faults import GitilesFault, GitilesFaults

A, B = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*", "/tint/+log/main", True),
        ("/tint/+log/*", "/tint/+log/main", True),
        ("/tint/+log/*", "/tint/+refs", False),
        ("/tin?/+refs", "/tint/+refs", True),
        ("/TINT/*", "/tint/+refs", False),
    ],
)
def test_the_paths_of_a_fault(pattern: str, path: str, *, matches: bool) -> None:
    assert GitilesFault("error", pattern).matches(path) is matches


def test_a_commit_is_hidden_until_it_is_revealed() -> None:
    faults = GitilesFaults()
    faults.hide(A)
    for _ in range(5):
        faults.count_hidden({A})
    assert faults.hidden() == {A}
    faults.reveal(A)
    faults.reveal(B)
    assert faults.hidden() == frozenset()


def test_a_commit_is_hidden_for_a_number_of_requests() -> None:
    faults = GitilesFaults()
    faults.hide(A, times=3)
    faults.hide(B, times=1)
    hidden = []
    for _ in range(4):
        hidden.append(faults.hidden())
        faults.count_hidden({A})
    assert hidden == [{A, B}, {A, B}, {A, B}, {B}]


def test_hiding_again_replaces_the_number() -> None:
    faults = GitilesFaults()
    faults.hide(A, times=1)
    faults.hide(A)
    faults.count_hidden({A})
    assert faults.hidden() == {A}


def test_clearing_reveals_all_commits() -> None:
    faults = GitilesFaults()
    faults.hide(A)
    faults.add(GitilesFault("cut"))
    faults.clear()
    assert (faults.hidden(), faults.active()) == (frozenset(), [])
