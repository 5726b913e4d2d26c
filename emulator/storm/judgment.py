"""The judgment of a run: its history is replayed commit by commit, and each invariant is checked. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.storm.claim_checks import check_claims
from emulator.storm.cloud_checks import check_cloud_builds
from emulator.storm.history import Run
from emulator.storm.invariants import Violation
from emulator.storm.output_checks import check_output
from emulator.storm.prompt_checks import check_prompt
from emulator.storm.run_checks import Film, check_run
from emulator.storm.status_checks import check_statuses
from emulator.storm.step_checks import Step, check_step

__all__ = ["violations"]


def violations(run: Run) -> list[Violation]:
    """Return the violations of a run, the earliest first; there must be none."""
    return sorted(_found(run), key=lambda violation: violation.at)


def _found(run: Run) -> Iterator[Violation]:
    film = Film(run)
    for commit in run.history.commits:
        changes = film.ledger.apply(commit)
        film.add(commit, changes)
        yield from check_step(Step(commit, changes, film.ledger))
    film.close()
    yield from check_run(film)
    yield from check_output(film)
    yield from check_prompt(film)
    yield from check_claims(film)
    yield from check_cloud_builds(film)
    yield from check_statuses(film)
