"""The path of a commit event, from the entry point to the request for its build.

How many calls deep, through which modules.
"""

import base64
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import luci_scheduler
from luci_scheduler import entry
from tests.unit.engine.world import REPO, World

ROOT = str(Path(luci_scheduler.__file__).parent)
MAX_DEPTH = 16
"""Calls of this project's functions that are open while the build is requested."""
MAX_MODULES = 59
"""Modules whose functions run until then; one of them only for the first commit of a process."""
ENGINE_CALLS = [
    "commit.on_commits",
    "commit.on_commit",
    "commit.take_commit",
    "triggers.fan_out",
    "triggers.accept_triggers",
    "launch.launch_all",
    "launch.launch",
    "launch._attempt",
]
ENGINE_MODULES = {"commit", "jobs", "launch", "runtime", "triage", "triggers"}


class _Tracer:
    """Follows the calls of the project's functions until a build is requested."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.open_calls: list[str] = []
        self.at_request: list[str] | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == "_ScheduleBuild":
            self.at_request = list(self.open_calls)
        if self.at_request is not None or not code.co_filename.startswith(ROOT):
            return
        if event == "call":
            module = code.co_filename.removeprefix(f"{ROOT}/").removesuffix(".py")
            self.modules.add(module)
            self.open_calls.append(f"{module}.{code.co_name}")
        elif event == "return":
            self.open_calls.pop()


def _traced_commit() -> _Tracer:
    world, tracer = World(), _Tracer()
    document = {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}
    data = base64.b64encode(json.dumps(document).encode()).decode()
    message = {"data": data, "messageId": "1", "publishTime": "2026-03-01T12:00:00Z"}
    event: Any = type("Event", (dict,), {"data": {"message": message}})({"id": "1", "time": ""})
    earlier = sys.getprofile()
    sys.setprofile(tracer)
    try:
        entry.commit(world.app, event)
    finally:
        sys.setprofile(earlier)
    assert world.buildbucket.calls == ["ScheduleBuild"]
    return tracer


def test_the_engine_calls_of_a_commit_are_few_and_named() -> None:
    """A reader follows a commit through eight functions of the engine, in three modules."""
    calls = _traced_commit().at_request or []
    assert [call.removeprefix("engine/") for call in calls if call.startswith("engine/")] == ENGINE_CALLS


def test_the_engine_modules_of_a_commit_are_few() -> None:
    """A commit of an idle job needs the modules of triggers, triage and launch, and no others."""
    modules = _traced_commit().modules
    assert {module.removeprefix("engine/") for module in modules if module.startswith("engine/")} == ENGINE_MODULES


def test_the_path_of_a_commit_stays_short() -> None:
    """The limits hold for the whole delivery, entry point and task manager included."""
    tracer = _traced_commit()
    assert tracer.at_request is not None
    assert len(tracer.at_request) <= MAX_DEPTH
    assert len(tracer.modules) <= MAX_MODULES
