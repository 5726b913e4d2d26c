"""The modules that measure, in the order of the table."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from tests.benchmarks.measure import Measure

__all__ = ["SUITES", "Suite", "measures_of"]


@dataclass(frozen=True, slots=True)
class Suite:
    """A module of this folder with the function ``measures(*, quick: bool) -> list[Measure]``."""

    module: str
    title: str
    quick: bool = True
    """Whether `make bench-quick` runs it."""


SUITES = (
    Suite("handlers", "Handlers beside the same calls without our code"),
    Suite("many_jobs", "One commit for many jobs beside the same calls without our code"),
    Suite("cold_start", "Cold start"),
    Suite("burst", "Bursts of commits, against Buildbot"),
    Suite("pages", "Pages of the console"),
    Suite("simulation", "Simulation of many projects, with faults"),
    Suite("month", "Simulation of a month, against the naive model", quick=False),
    Suite("hostile_patterns", "A commit of one project with another project's patterns"),
    Suite("config_watch", "From saving a config to its activation", quick=False),
    Suite("timeouts", "Outside calls to a silent server", quick=False),
)


def measures_of(module: str, *, quick: bool) -> list[Measure]:
    """Import a module and run its measures in this process."""
    found: list[Measure] = importlib.import_module(f"tests.benchmarks.{module}").measures(quick=quick)
    return found
