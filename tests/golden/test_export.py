"""Round trip: the invocation of a scenario, exported and played again, has the same log."""

import json
from pathlib import Path

import pytest

from emulator.replay.player import play
from emulator.replay.scenario import load_scenario
from luci_scheduler.api.export import to_scenario

FOLDER = Path(__file__).parent
SCENARIOS = sorted(path.parent for path in FOLDER.glob("*/scenario.json"))


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_exported_and_played_again_it_gives_the_same_log(folder: Path, tmp_path: Path) -> None:
    """This holds for every scenario. The export sees only the invocation's record and log."""
    ((invocation, log),) = play(load_scenario(folder / "scenario.json")).invocations
    exported = to_scenario(invocation, log)
    (tmp_path / "scenario.json").write_text(exported.scenario, encoding="utf-8")
    (tmp_path / "luci-scheduler.cfg").write_text(exported.config, encoding="utf-8")
    ((again, log_again),) = play(load_scenario(tmp_path / "scenario.json")).invocations
    assert log_again == log
    assert (again.id, again.started, again.finished) == (invocation.id, invocation.started, invocation.finished)
    assert (again.mutations, again.status) == (invocation.mutations, invocation.status)
    assert json.loads(exported.scenario)["deliveries"]
