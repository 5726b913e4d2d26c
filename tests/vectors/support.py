"""The shared part of the vector tests: the source of the cases."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from luci_scheduler.core.era import Era

__all__ = ["FOLDER", "Case", "cases", "era"]

FOLDER = Path(os.environ.get("LUCI_VECTORS") or Path(__file__).parent)
if not FOLDER.is_dir():
    raise NotADirectoryError(f"LUCI_VECTORS names no folder: {FOLDER}")
Case = dict[str, Any]


def cases(name: str) -> list[Any]:
    """Return the cases of a file as parameters. A missing file is reported, not failed."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return [pytest.param(None, id=name, marks=pytest.mark.skip(reason=f"the vectors lack {name}.json"))]
    return [pytest.param(case, id=case["name"]) for case in json.loads(path.read_text(encoding="utf-8"))["cases"]]


def era(text: str) -> Era:
    """Return the era that a vector names."""
    return Era.V1 if text == "2021" else Era.V2
