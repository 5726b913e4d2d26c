"""Faults that are used up by the requests that they match."""

import threading
from dataclasses import dataclass

import pytest

from emulator.serving.faults import Faults, use_matching


@dataclass(slots=True)
class Fault:
    """A fault of paths that begin with a prefix."""

    prefix: str = ""
    times: int | None = 1

    def matches(self, path: str) -> bool:
        """Return whether the fault affects a path."""
        return path.startswith(self.prefix)


def use(faults: Faults[Fault], path: str) -> list[Fault]:
    """Use the faults of a path."""
    return faults.use(lambda fault: fault.matches(path))


def test_a_fault_affects_the_given_number_of_requests() -> None:
    faults: Faults[Fault] = Faults()
    faults.add(Fault(times=2))
    assert [len(use(faults, "/")) for _ in range(3)] == [1, 1, 0]
    assert faults.active() == []


def test_a_fault_without_a_number_stays_until_it_is_removed() -> None:
    faults: Faults[Fault] = Faults()
    faults.add(Fault(times=None))
    assert [len(use(faults, "/")) for _ in range(5)] == [1] * 5
    faults.clear()
    assert use(faults, "/") == []


def test_a_request_uses_only_the_faults_that_match_it() -> None:
    faults: Faults[Fault] = Faults()
    log, refs = Fault("/log"), Fault("/refs")
    faults.add(log)
    faults.add(refs)
    assert use(faults, "/log/main") == [log]
    assert faults.active() == [refs]


def test_several_faults_of_one_request_are_in_the_order_of_their_addition() -> None:
    faults: Faults[Fault] = Faults()
    first, second = Fault(times=None), Fault("/log", times=None)
    faults.add(first)
    faults.add(second)
    assert use(faults, "/log") == [first, second]


def test_equal_faults_are_used_up_one_by_one() -> None:
    """Equality of two faults does not make them one fault."""
    once, also_once = Fault(times=1), Fault(times=2)
    faults = [once, also_once]
    assert use_matching(faults, lambda _fault: True) == [once, also_once]
    assert [fault is also_once for fault in faults] == [True]


def test_the_list_of_active_faults_is_a_copy() -> None:
    faults: Faults[Fault] = Faults()
    faults.add(Fault())
    faults.active().clear()
    assert len(faults.active()) == 1


@pytest.mark.parametrize("threads", [8])
def test_concurrent_requests_do_not_overuse_a_fault(threads: int) -> None:
    faults: Faults[Fault] = Faults()
    faults.add(Fault(times=100))
    hits: list[int] = []

    def work() -> None:
        hits.extend(len(use(faults, "/")) for _ in range(50))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(hits) == 100
