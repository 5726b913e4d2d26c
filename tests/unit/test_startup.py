"""A process hardly looks for garbage until its first answer, and looks as usual from then on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from luci_scheduler.startup import POSTPONED

FUNCTIONS = Path(__file__).parents[2] / "functions"
CODE = """
import gc, json, sys
import functions_framework
seen = [(*gc.get_threshold(), gc.get_freeze_count(), gc.get_stats()[2]["collections"])]
server = functions_framework.create_app("on_task", "main.py", "http")
for answers in range(3):
    seen.append((*gc.get_threshold(), gc.get_freeze_count(), gc.get_stats()[2]["collections"]))
    server.test_client().post("/timer", data="{}")
from luci_scheduler import startup
startup.postpone_collections(server)
seen.append((*gc.get_threshold(), gc.get_freeze_count(), 0))
print(json.dumps(seen))
"""


def test_collections_are_postponed_until_the_first_answer() -> None:
    """The imports of a function cause no full collection. Later collections leave out their objects."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(FUNCTIONS)}
    answer = subprocess.run(
        [sys.executable, "-c", CODE], cwd=FUNCTIONS, env=environment, capture_output=True, text=True, check=True
    )
    before, loaded, first, second, again = json.loads(answer.stdout.splitlines()[-1])
    usual = before[:3]
    assert loaded[:4] == [POSTPONED, *usual[1:], before[3]]
    assert loaded[4] == before[4], "no full collection"
    assert first[:3] == second[:3] == again[:3] == usual
    assert first[3] > 50_000
    assert again[3] <= second[3] <= first[3], "a process starts once"
