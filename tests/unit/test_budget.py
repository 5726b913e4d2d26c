"""The budget of a delivery: outside calls end within it, and the handler answers 500 with one line."""

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
import pytest
from structlog.testing import capture_logs

from luci_scheduler import budget, entry
from luci_scheduler.adapters.cloud_tasks import _DISPATCH_DEADLINE
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.identifiers import InvocationId
from luci_scheduler.core.notification_token import make_token
from luci_scheduler.respond import responding
from luci_scheduler.tracing import delivery_context
from tests.outside_calls import OUTSIDE_CALLS, SERVERS, OutsideCall
from tests.unit.engine.world import JOB, REPO, World

ROOT = Path(__file__).parents[2]
SLACK = 10.0  # seconds that a busy machine may add


def test_without_a_budget_a_call_has_its_own_limit() -> None:
    """The command line and the local cloud have no budget."""
    assert budget.time_left(20) == 20


def test_a_call_may_take_its_limit_or_the_remaining_budget() -> None:
    """A call takes its own limit or the remaining budget. The budget ends with the delivery."""
    with delivery_context("", seconds=1000):
        longer, shorter = budget.time_left(20), budget.time_left(2000)
    assert longer == 20
    assert 900 < shorter <= 1000
    assert budget.time_left(2000) == 2000


@pytest.mark.parametrize("call", OUTSIDE_CALLS, ids=lambda call: call.name)
def test_a_call_ends_with_the_delivery(call: OutsideCall) -> None:
    """The call ends even if its own limit is longer. The next call is not made."""
    with SERVERS["silent"](call) as address:
        ready = call.make(address, 600.0)
        begun = time.monotonic()

        with delivery_context("", seconds=0.5):
            for expected in ((*call.errors, TransientError), (TransientError,)):
                with pytest.raises(expected):
                    ready()
        assert time.monotonic() - begun < 0.5 + SLACK


@pytest.mark.parametrize("name", ["Firestore: commit", "Cloud Tasks: enqueue"])
def test_a_handler_that_has_no_time_left_is_answered_500_with_one_line(name: str) -> None:
    """The handler answers before the platform ends the process."""
    (call,) = (call for call in OUTSIDE_CALLS if call.name == name)
    with SERVERS["silent"](call) as address, capture_logs() as lines:
        ready: Callable[[], Any] = call.make(address, 600.0)
        with responding(seconds=0.3) as response:
            ready()
        assert response.code == 500
        assert response.body.startswith("Transient error: ")
    assert [line["event"] for line in lines] == ["transient_error"]


@pytest.mark.parametrize("function", ["commit", "notification", "task", "page"])
def test_each_entry_point_has_its_budget(function: str) -> None:
    """The first outside call raises the error."""
    seen: list[float] = []

    def look(*_: Any) -> Any:
        seen.append(budget.time_left(10_000))
        raise TransientError("seen")

    world = World()
    app = replace(world.app, verify_caller=look, identify=look, runtime=replace(world.runtime, store=_Looking(look)))
    message = {"messageId": "1", "publishTime": "2026-03-01T12:00:00Z", "attributes": {}}
    data: dict[str, Any] = {"repo": REPO, "ref": "refs/heads/main", "revision": "a" * 40}
    if function == "notification":
        message["attributes"] = {"auth_token": make_token("secret", JOB, InvocationId(1), world.clock.now())}  # type: ignore[assignment]
    message["data"] = base64.b64encode(json.dumps(data).encode()).decode()
    event = type("Event", (dict,), {"data": {"message": message}})({"id": "1", "time": ""})
    with flask.Flask("f").test_request_context("/"):
        given = flask.request if function in ("task", "page") else event
        getattr(entry, function)(app, given)
    names = {"commit": "on_gitiles_commit", "notification": "on_build_completion", "task": "on_task", "page": "console"}
    assert [0 <= entry.BUDGETS[names[function]] - left < SLACK for left in seen] == [True]


class _Looking:
    """A store in which every method checks the budget."""

    def __init__(self, look: Any) -> None:
        self._look = look

    def __getattr__(self, _: str) -> Any:
        return self._look


def test_budgets_end_before_the_platform_does() -> None:
    """A budget ends ten seconds before the function's timeout, or before the dispatch deadline of tasks."""
    text = (ROOT / "infra" / "terraform" / "functions.tf").read_text(encoding="utf-8")
    topics = (ROOT / "infra" / "terraform" / "topics.tf").read_text(encoding="utf-8")
    webhook = (ROOT / "infra" / "terraform" / "modules" / "github_webhook" / "main.tf").read_text(encoding="utf-8")
    timeouts: dict[str, float] = {"on_task": _DISPATCH_DEADLINE}
    for name in ("on_gitiles_commit", "on_build_completion", "on_cloud_build"):
        index = "[function]" if name == "on_cloud_build" else f".{name}"
        assert f"timeout_seconds = local.ack_deadline_seconds{index}" in text
        timeouts[name] = int(re.findall(rf"^ +{name} += (\d+)", topics, re.MULTILINE)[0])
    timeouts["console"] = int(
        re.findall(r"^    console = \{.*?timeout_seconds = (\d+)", text, re.MULTILINE | re.DOTALL)[0]
    )
    # Its sender waits for ten seconds, the timeout.
    assert re.findall(r"timeout_seconds = (\d+)", webhook) == ["10"]
    assert {name: timeout - 10 for name, timeout in timeouts.items()} | {"on_github_push": 8} == entry.BUDGETS
