"""The log of a local cloud in memory: the same lines, with the same members, as in the cloud."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import requests

from emulator.buildbucket.plans import End, Script, Start
from emulator.options import Options
from emulator.start import start_local_cloud
from luci_scheduler.core.instants import MILLISECOND
from tests.waiting import until

PAGE = Path("docs/reference/observability.md")
REPO = "https://sample.googlesource.com/engine"
MAIN = "refs/heads/main"
CONFIG = f"""
trigger {{ id: "poller" schedule: "triggered" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} triggers: "tests" }}
job {{ id: "tests" buildbucket {{ server: "cr-buildbucket.appspot.com" bucket: "ci" builder: "Tests" }} }}
"""
EXPECTED = {"config_synced", "sweep_done", "invocation_finished", "unauthenticated", "commit_unwatched"}


def _documented() -> tuple[set[str], dict[str, set[str]]]:
    """Return the members of all lines, and those of each event, as the page has them."""
    text = PAGE.read_text(encoding="utf-8")
    members = text[text.index("| member |") : text.index("\n\n", text.index("| member |"))]
    common = {name for row in members.splitlines()[2:] for name in re.findall(r"`([\w./]+)`", row.split("|")[1])}
    rows = re.findall(r"^\| `(\w+)` \| [A-Z, ]+ \|(.*)\|$", text, re.MULTILINE)
    return common, {event: set(re.findall(r"`(\w+)`", about)) for event, about in rows}


def test_the_lines_have_the_documented_members(tmp_path: Path) -> None:
    """From a commit to the end of its build, with a sweep, a sync and a refused caller."""
    config = tmp_path / "proj" / "luci-scheduler.cfg"
    config.parent.mkdir()
    config.write_text(CONFIG, encoding="utf-8")
    options = Options(
        tmp_path,
        store="memory",
        plan=Script((Start(50 * MILLISECOND), End(100 * MILLISECOND))),
        settings={"SCHEDULER_COMMIT_WAIT_SECONDS": "0"},  # the commits are made up
        sweep_seconds=0,
        sync_seconds=0,
    )
    lines: list[dict[str, Any]] = []

    def seen() -> bool:
        assert cloud.memory is not None
        lines[:] = [json.loads(line) for line in cloud.memory.output.lines]
        return {line["message"] for line in lines} >= EXPECTED

    with start_local_cloud(options) as cloud:
        assert requests.post(f"{cloud.functions['on_task'].url}/sweep", timeout=30).status_code == 401
        cloud.task("sweep")
        cloud.publish_commit(REPO, MAIN, "a" * 40)
        cloud.publish_commit(REPO, "refs/heads/unwatched", "b" * 40)
        until(seen)
    common, own = _documented()
    always = {"message", "severity", "time", "function", "logging.googleapis.com/trace"}
    assert always <= common
    for line in lines:
        assert always <= line.keys(), line
        assert line.keys() <= common | own[line["message"]], line
        assert line["severity"] in ("INFO", "WARNING", "ERROR")
        assert line["logging.googleapis.com/trace"].startswith(f"projects/{cloud.project}/traces/")
