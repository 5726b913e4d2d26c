"""The stored results of the catalogs: ``results/NAME.json``.

Each file has the catalog's name, the numbers of caught and surviving bugs, and the names of bugs that wait for their
first run. A list in the order of the catalog has the tried bugs. A bug has its name, file and promise, the test that
caught it (empty for a survivor), the reason why no test can catch it (``equivalent``), and the date and the commit of
its last run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.planted.catalog import ROOT, Bug
from tests.planted.planting import Verdict

__all__ = ["RESULTS", "read_results", "store"]

RESULTS = Path(__file__).parent / "results"


def read_results(catalog: str, folder: Path = RESULTS) -> dict[str, dict[str, str]]:
    """Return the stored result of each bug of a catalog, by name; empty without a file."""
    path = folder / f"{catalog}.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"bugs": []}
    return {row["name"]: row for row in stored["bugs"]}


def store(catalog: str, bugs: Sequence[Bug], verdicts: Sequence[Verdict], folder: Path = RESULTS) -> Path:
    """Store new results of some bugs of a catalog, and keep those of its other ``bugs``; return the file."""
    known = read_results(catalog, folder)
    known.update({verdict.bug.name: _row(verdict) for verdict in verdicts})
    rows = [known[bug.name] for bug in bugs if bug.name in known]
    caught = sum(bool(row["caught_by"]) for row in rows)
    result = {
        "catalog": catalog,
        "caught": caught,
        "survived": len(rows) - caught,
        "not_planted": [bug.name for bug in bugs if bug.name not in known],
        "bugs": rows,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{catalog}.json"
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
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the commit of the checkout, with a mark if other files than the results have changed since."""
    has_changed = _git("status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(ROOT)}")
    return _git("rev-parse", "--short=12", "HEAD") + ("-dirty" if has_changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
