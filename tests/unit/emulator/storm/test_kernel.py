"""The kernel: processes take turns in virtual time."""

from __future__ import annotations

import pytest

from emulator.storm.kernel import Kernel
from luci_scheduler.core.instants import Instant


def test_processes_are_interleaved_at_each_sleep() -> None:
    """Each process continues at its instant, and equal instants keep their order."""
    kernel, seen = Kernel(Instant(0)), []

    def process(name: str, pause: int) -> None:
        for _ in range(3):
            kernel.sleep(pause)
            seen.append((name, kernel.now()))

    kernel.spawn(0, lambda: process("a", 2))
    kernel.spawn(0, lambda: process("b", 3))
    kernel.run(100)
    kernel.close()
    # At 6, process b has waited since 3, and process a since 4.
    assert seen == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6), ("b", 9)]
    assert kernel.now() == 100


def test_a_sleep_that_nothing_interrupts_needs_no_other_process() -> None:
    """Time moves on at once; an action that is due meanwhile still comes first."""
    kernel, seen = Kernel(Instant(0)), []

    def process() -> None:
        kernel.sleep(5)
        seen.append(("woken", kernel.now()))
        kernel.sleep(10)
        seen.append(("woken again", kernel.now()))

    kernel.spawn(0, process)
    kernel.at(7, lambda: seen.append(("action", kernel.now())))
    kernel.run(100)
    kernel.close()
    assert seen == [("woken", 5), ("action", 7), ("woken again", 15)]


def test_nothing_after_the_end_of_a_run_happens_in_it() -> None:
    """A sleep beyond the end goes on in the next run."""
    kernel, seen = Kernel(Instant(0)), []

    def process() -> None:
        kernel.sleep(15)
        seen.append(kernel.now())

    kernel.spawn(0, process)
    kernel.run(10)
    assert (seen, kernel.now()) == ([], 10)
    kernel.run(20)
    assert seen == [15]
    kernel.run(5)
    kernel.close()
    assert kernel.now() == 20, "the clock never goes back"


def test_all_processes_end_with_the_kernel() -> None:
    """A process that still sleeps ends where it is. It cleans up, and cannot sleep any more."""
    kernel, ended = Kernel(Instant(0)), []

    def process() -> None:
        try:
            kernel.sleep(1_000)
            ended.append("woken")
        finally:
            ended.append("cleaned up")
            kernel.sleep(1)
            ended.append("slept")

    kernel.spawn(0, process)
    kernel.spawn(0, lambda: None)
    kernel.run(10)
    assert (kernel.is_waiting, ended) == (True, [])
    kernel.close()
    assert (kernel.is_waiting, ended) == (False, ["cleaned up"])


def test_only_a_process_can_sleep() -> None:
    """An action takes no time."""
    kernel = Kernel(Instant(0))
    kernel.at(0, lambda: kernel.sleep(1))
    with pytest.raises(RuntimeError, match="only a process can sleep"):
        kernel.run(10)
    kernel.close()


def test_an_error_of_a_process_ends_the_run() -> None:
    """The caller that drives the run gets it."""
    kernel = Kernel(Instant(0))

    def process() -> None:
        raise ValueError("broken")

    kernel.spawn(0, process)
    with pytest.raises(ValueError, match="broken"):
        kernel.run(10)
    kernel.close()
