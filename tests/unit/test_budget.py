"""The budget of a delivery: outside calls end with it, and the handler answers 500 with one line."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from luci_scheduler import budget, entry
from luci_scheduler.adapters.cloud_tasks import _DISPATCH_DEADLINE
from luci_scheduler.core.errors import TransientError
from luci_scheduler.settle import settle
from luci_scheduler.tracing import isolated
from tests.outside_calls import OUTSIDE_CALLS, SERVERS, OutsideCall

ROOT = Path(__file__).parents[2]
SLACK = 2.0  # seconds that a busy machine may add


def test_without_a_budget_a_call_has_its_own_limit() -> None:
    """The command and the local cloud have none."""
    assert budget.time_left(20) == 20


def test_a_call_has_its_limit_or_what_is_left() -> None:
    """And the budget ends with the delivery."""
    longer, shorter = isolated(lambda: (budget.time_left(20), budget.time_left(2000)), "", seconds=1000)
    assert longer == 20
    assert 900 < shorter <= 1000
    assert budget.time_left(2000) == 2000


@pytest.mark.parametrize("call", OUTSIDE_CALLS, ids=lambda call: call.name)
def test_a_call_ends_with_the_delivery(call: OutsideCall) -> None:
    """However long its own limit is; the next one is not made at all."""
    with SERVERS["silent"](call) as address:
        ready = call.make(address, 600.0)
        begun = time.monotonic()

        def handle() -> None:
            for expected in ((*call.errors, TransientError), (TransientError,)):
                with pytest.raises(expected):
                    ready()

        isolated(handle, "", seconds=0.5)
        assert time.monotonic() - begun < 0.5 + SLACK


@pytest.mark.parametrize("name", ["Firestore: commit", "Cloud Tasks: enqueue"])
def test_a_handler_that_has_no_time_left_is_answered_500_with_one_line(name: str) -> None:
    """Before the platform ends the process."""
    (call,) = (call for call in OUTSIDE_CALLS if call.name == name)
    with SERVERS["silent"](call) as address, capture_logs() as lines:
        ready: Callable[[], Any] = call.make(address, 600.0)
        body, code = settle(ready, seconds=0.3)
        assert code == 500
        assert body.startswith("Transient error: ")
    assert [line["event"] for line in lines] == ["transient_error"]


def test_budgets_end_before_the_platform_does() -> None:
    """Ten seconds before: the functions' timeouts, and the dispatch deadline of tasks, which ends first there."""
    text = (ROOT / "infra" / "terraform" / "functions.tf").read_text(encoding="utf-8")
    topics = (ROOT / "infra" / "terraform" / "topics.tf").read_text(encoding="utf-8")
    timeouts: dict[str, float] = {"on_task": _DISPATCH_DEADLINE}
    for name in ("on_gitiles_commit", "on_build_completion"):
        assert f"timeout_seconds = local.ack_deadline_seconds.{name}" in text
        timeouts[name] = int(re.findall(rf"^ +{name} += (\d+)", topics, re.MULTILINE)[0])
    timeouts["console"] = int(
        re.findall(r"^    console = \{.*?timeout_seconds = (\d+)", text, re.MULTILINE | re.DOTALL)[0]
    )
    assert {name: timeout - 10 for name, timeout in timeouts.items()} == entry.BUDGETS
