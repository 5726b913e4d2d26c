"""Four rotations of a signing secret: no version that an earlier revision reads goes away."""

import re
from collections.abc import Mapping
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.timeout(1800)


def _read(generation: int) -> set[int]:
    """Return the generations whose keys a revision reads. The module's output `versions` has the same rule."""
    return {number for number in (generation - 1, generation, generation + 1) if number > 0}


def _keys(done: CompletedProcess[str], what: str) -> set[int]:
    return {int(number) for number in re.findall(rf'secret_version\.key\["(\d+)"\]: {what}', done.stdout)}


def test_a_rotation_keeps_what_earlier_revisions_read(rotations: Mapping[int, CompletedProcess[str]]) -> None:
    """After a rotation, revisions of the previous generation can start, and each key has one version."""
    existing: set[int] = set()
    for generation, done in rotations.items():
        assert done.returncode == 0, done.stdout + done.stderr
        created, destroyed = _keys(done, "Creation complete"), _keys(done, "Destruction complete")
        assert created.isdisjoint(existing), "a key changed"
        existing = (existing | created) - destroyed
        assert existing >= _read(generation) | _read(generation - 1) - {0}
        assert len(existing) <= 4
        assert created == ({1, 2} if generation == 1 else {generation + 1})


def test_keys_nobody_reads_go_away(rotations: Mapping[int, CompletedProcess[str]]) -> None:
    """The key of three generations ago is destroyed."""
    assert {generation: _keys(done, "Destruction complete") for generation, done in rotations.items()} == {
        1: set(),
        2: set(),
        3: set(),
        4: {1},
        5: {2},
    }
