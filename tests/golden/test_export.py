"""Round trip: the invocation of a scenario, exported and played again, has the same log."""

import json
from pathlib import Path

import pytest

from emulator.replay.player import play
from emulator.replay.scenario import load_scenario
from luci_scheduler.api.export import to_scenario
from luci_scheduler.api.export_log import NotReplayableError

FOLDER = Path(__file__).parent
ALL = sorted(path.parent for path in FOLDER.glob("*/scenario.json"))
CLOUD_BUILD = [folder for folder in ALL if folder.name.startswith("cloud-build-")]
SCENARIOS = [folder for folder in ALL if folder not in CLOUD_BUILD]


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_exported_and_played_again_it_gives_the_same_log(folder: Path, tmp_path: Path) -> None:
    """This holds for every scenario of Buildbucket. The export sees only the invocation's record and log."""
    ((invocation, log),) = play(load_scenario(folder / "scenario.json")).invocations
    exported = to_scenario(invocation, log)
    (tmp_path / "scenario.json").write_text(exported.scenario, encoding="utf-8")
    (tmp_path / "luci-scheduler.cfg").write_text(exported.config, encoding="utf-8")
    ((again, log_again),) = play(load_scenario(tmp_path / "scenario.json")).invocations
    assert log_again == log
    assert (again.id, again.started, again.finished) == (invocation.id, invocation.started, invocation.finished)
    assert (again.mutations, again.status) == (invocation.mutations, invocation.status)
    assert json.loads(exported.scenario)["deliveries"]


@pytest.mark.parametrize("folder", CLOUD_BUILD, ids=lambda path: path.name)
def test_an_invocation_of_cloud_build_is_not_exported(folder: Path) -> None:
    """The refusal names the kind."""
    ((invocation, log),) = play(load_scenario(folder / "scenario.json")).invocations
    with pytest.raises(NotReplayableError, match="an export has no jobs of the kind cloud_build"):
        to_scenario(invocation, log)
