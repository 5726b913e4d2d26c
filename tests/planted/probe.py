"""Looks which planted bugs the storm alone finds: ``python -m tests.planted.probe [NAME …]``.

Each bug is planted in a copy of the checkout. Focused schedules are played there until one violates an invariant. The
figures are stored in ``results/storm.json``: ``found_by_storm`` (bug → invariant and seed), ``missed_by_storm`` and
``schedules``, the most schedules for a bug. Without names, the bugs of the stored file are tried again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from emulator.storm.focus import focused
from emulator.storm.storming import Outcome, play_and_judge
from tests.planted.catalog import ROOT, read_catalog
from tests.planted.planting import Copy, copy_files
from tests.planted.results import RESULTS

__all__ = ["main"]

SCHEDULES = 60
FILE = RESULTS / "storm.json"
_PLAY = "--play"


def main(arguments: Sequence[str]) -> int:
    """Try bugs and store the figures; with ``--play``, play schedules in this very tree. Return the exit code."""
    if list(arguments) == [_PLAY]:
        return _play()
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    found: dict[str, str] = stored["found_by_storm"]
    missed: list[str] = stored["missed_by_storm"]
    names = list(arguments) or [*found, *missed]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy_files(ROOT, root := Path(folder, "0"))
        copy = Copy(root)
        for bug in read_catalog("engine"):
            if bug.name in names:
                how = copy.output_with(bug, ("tests.planted.probe", _PLAY)).strip()
                found.pop(bug.name, None)
                missed = [name for name in missed if name != bug.name]
                if how:
                    found[bug.name] = how
                else:
                    missed.append(bug.name)
                sys.stdout.write(f"{bug.name}: {how or 'missed'}\n")
                sys.stdout.flush()
                document = {"schedules": SCHEDULES, "found_by_storm": found, "missed_by_storm": missed}
                FILE.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        copy.close()
    return 0


def _play() -> int:
    for seed in range(SCHEDULES):
        outcome = play_and_judge(focused(seed))
        if not outcome.holds:
            sys.stdout.write(f"{_symptom(outcome)}, seed {seed}\n")
            return 1
    return 0


def _symptom(outcome: Outcome) -> str:
    """Return the invariant that was violated first; the type of the error if the run itself failed."""
    names = [str(violation.invariant) for violation in outcome.violations]
    return names[0] if names else outcome.error.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
