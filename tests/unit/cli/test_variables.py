"""The variables of the command's options."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.main import main
from luci_scheduler.cli.session import Session
from tests.unit.cli.support import Console, run_on, says
from tests.unit.engine.world import REPO

MAIN = "refs/heads/main"


def test_variables_stand_for_options(capsys: pytest.CaptureFixture[str]) -> None:
    """A given option overrides its variable; an invalid variable is wrong usage, and its value is not repeated."""
    console = Console(X_Prpc_Grpc_Code="0")
    variables = {
        "LUCI_SCHEDULER_URL": "https://c.example.com",
        "LUCI_SCHEDULER_TOKEN": "t1",
        "LUCI_SCHEDULER_JSON": "true",
    }
    assert run_on(console, "jobs", **variables) == 0
    assert console.sent["Authorization"] == "Bearer t1"
    assert json.loads(capsys.readouterr().out) == {"jobs": [], "nextCursor": ""}
    assert run_on(console, "jobs", "--token", "t2", **variables) == 0
    assert console.sent["Authorization"] == "Bearer t2"
    assert run_on(console, "jobs", "--url", "http://localhost:1") == 0
    assert "Authorization" not in console.sent
    assert run_on(console, "jobs") == Exit.WRONG_USAGE
    needed = {"LUCI_SCHEDULER_REPO": REPO, "LUCI_SCHEDULER_REF": MAIN, "LUCI_SCHEDULER_JOB": "p/a,p/b", **variables}
    assert run_on(console, "backfill", "a", "b", **needed) == Exit.FAILED  # the call is made; the reply has no commits


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JSON", "canary", "LUCI_SCHEDULER_JSON must be true or false"),
        ("ERA", "canary", "LUCI_SCHEDULER_ERA must be one of 2021, head"),
    ],
)
def test_a_bad_variable_is_reported_only_by_its_verbs(
    name: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only verbs that have the option check its variable, unless the option is given; the value is not repeated."""
    bad = {f"LUCI_SCHEDULER_{name}": value}
    file = tmp_path / "p" / "luci-scheduler.cfg"
    file.parent.mkdir()
    file.write_text('job { id: "a" noop {} }', encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["config", "validate", str(file)], bad)
    captured = capsys.readouterr()
    assert message in captured.err
    assert "canary" not in captured.err
    assert main(["completion", "bash"], bad) == 0
    given = ["--json"] if name == "JSON" else ["--era", "head"]
    assert main(["config", "validate", str(file), *given], bad) == 0
    with pytest.raises(SystemExit, match="0"):
        main(["config", "validate", "--help"], bad)


def test_variables_of_other_verbs_do_not_matter() -> None:
    """LUCI_SCHEDULER_YES is for `backfill`, LUCI_SCHEDULER_LIMIT for `invocations`."""
    variables = {"LUCI_SCHEDULER_YES": "perhaps", "LUCI_SCHEDULER_LIMIT": "many", "LUCI_SCHEDULER_FOLLOW": "x"}
    assert run_on(Console(X_Prpc_Grpc_Code="0"), "job", "abort", "p/j", "--url", "http://localhost", **variables) == 0


def test_a_given_list_replaces_the_variable() -> None:
    """No job of the variable is added to the given ones."""
    asked: list[Any] = []

    def post(_url: str, data: bytes, **_: Any) -> requests.Response:
        asked.append(json.loads(data)["jobs"])
        return says({})("")

    needed = {"LUCI_SCHEDULER_REPO": REPO, "LUCI_SCHEDULER_REF": MAIN, "LUCI_SCHEDULER_JOB": "p/a,p/b"}
    arguments = ["backfill", "a", "b", "--url", "http://localhost"]
    for more in ([], ["--job", "p/c"], ["--job", "p/c", "--job", "p/d"]):
        main([*arguments, *more], needed, lambda options: Session(options, post))
    assert [[ref["job"] for ref in jobs] for jobs in asked] == [["a", "b"], ["c"], ["c", "d"]]
