"""The stored results of the catalogs: ``results/NAME.json``.

Each file has the catalog's name, the date and the commit of the run, the numbers of bugs that were caught and that
survived, and for each bug its name, file, promise, the test that caught it, and the reason if it is equivalent.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.planted.catalog import ROOT
from tests.planted.planting import Verdict

__all__ = ["RESULTS", "store"]

RESULTS = Path(__file__).parent / "results"


def store(catalog: str, verdicts: Sequence[Verdict]) -> Path:
    """Store the results of a whole catalog; return the file."""
    caught = sum(bool(verdict.caught_by) for verdict in verdicts)
    result = {
        "catalog": catalog,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "caught": caught,
        "survived": len(verdicts) - caught,
        "bugs": [_row(verdict) for verdict in verdicts],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{catalog}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def _row(verdict: Verdict) -> dict[str, str]:
    bug = verdict.bug
    return {
        "name": bug.name,
        "file": bug.file,
        "breaks": bug.breaks,
        "caught_by": verdict.caught_by,
        "equivalent": "" if verdict.caught_by else bug.equivalent,
    }


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
