"""The optimistic loop: a handler reads, decides and commits again until no other commit interferes."""

from pathlib import Path

import pytest

import luci_scheduler
from luci_scheduler.core.errors import ComeAgainError, PermanentError, StoreConflictError
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.ports import Versioned
from tests.unit.engine.world import JOB, World


def test_an_attempt_is_repeated_until_it_meets_no_conflict() -> None:
    """The result of the attempt that succeeds is returned."""
    world, tries = World(), [1, 2, 3]

    def attempt() -> str:
        if tries.pop() > 1:
            raise StoreConflictError
        return "done"

    assert world.runtime.retry_conflicts("job p/j", "record it", attempt) == "done"
    assert tries == []


def test_endless_conflicts_request_another_delivery() -> None:
    """The error names the document and the step; the limit is `Limits.races`, or the caller's."""
    world, tries = World(), []

    def attempt() -> None:
        tries.append(1)
        raise StoreConflictError

    with pytest.raises(ComeAgainError, match=r"^job p/j changes too fast to record it$"):
        world.runtime.retry_conflicts("job p/j", "record it", attempt)
    assert len(tries) == world.runtime.limits.races
    with pytest.raises(ComeAgainError):
        world.runtime.retry_conflicts("job p/j", "record it", attempt, races=2)
    assert len(tries) == world.runtime.limits.races + 2


def test_other_errors_are_not_repeated() -> None:
    """Other errors reach the caller from the first attempt."""
    world, tries = World(), []

    def attempt() -> None:
        tries.append(1)
        raise PermanentError("no")

    with pytest.raises(PermanentError):
        world.runtime.retry_conflicts("job p/j", "record it", attempt)
    assert len(tries) == 1


def test_an_update_starts_from_the_document_that_was_read() -> None:
    """After a conflict it reads the document again."""
    world = World()
    world.commit()
    found = world.store.invocation(JOB, world.invocations()[0].id)
    assert found is not None
    seen: list[Versioned[Invocation] | None] = []

    def attempt(current: Versioned[Invocation] | None) -> None:
        seen.append(current)
        if len(seen) == 1:
            raise StoreConflictError

    world.counted()
    world.runtime.update_invocation(JOB, found.value.id, "record it", attempt, found)
    assert world.counted() == "1R/0W/0c"
    assert seen[0] is found
    assert seen[1] == found


def test_the_loop_is_written_once() -> None:
    """No other function counts attempts by `Limits.races`."""
    root = Path(luci_scheduler.__file__).parent
    loops = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith("for ") and "races" in line.lower()
    ]
    assert loops == ["engine/runtime.py: for _ in range(races or self.limits.races):"]
