"""The answers to deliveries: each outcome has its status code, its text and its log line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from luci_scheduler import budget, respond
from luci_scheduler.core.errors import ComeAgainError, MalformedError, PermanentError, TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.respond import responding
from luci_scheduler.tracing import current_trace, delivery_context, trace_headers

OUTCOMES: list[tuple[Exception, int, str, str]] = [
    (PermanentError("why"), 200, "Fatal error: why\n", "permanent_error"),
    (UnauthenticatedError("why"), 401, "Unauthenticated\n", "unauthenticated"),
    (ComeAgainError("why"), 409, "The handler asked for retry: why\n", "come_again"),
    (MalformedError("why"), 400, "Malformed: why\n", "malformed"),
    (TransientError("why"), 500, "Transient error: why\n", "transient_error"),
    (KeyError("why"), 500, "Internal error\n", "unexpected_error"),
]
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(("error", "code", "body", "event"), OUTCOMES, ids=lambda value: type(value).__name__)
def test_each_outcome_has_its_answer(error: Exception, code: int, body: str, event: str) -> None:
    """Each outcome has one status and one log line."""
    with capture_logs() as lines, responding() as response:
        raise error
    assert (response.code, response.body) == (code, body)
    assert [line["event"] for line in lines] == [event]


def test_the_table_of_the_module_is_the_code() -> None:
    """The docstring names every outcome with its code."""
    table = dict(re.findall(r"^(\w+Error) +(\d+) ", respond.__doc__ or "", re.MULTILINE))
    assert table == {
        type(error).__name__: str(code) for error, code, *_ in OUTCOMES if code and not isinstance(error, KeyError)
    }


def test_a_success_is_200_unless_the_handler_says_otherwise() -> None:
    """A handler that refuses its caller sets its own answer."""
    with capture_logs() as lines, responding() as response:
        pass
    assert (response.code, response.body, lines) == (200, "OK\n", [])
    with responding() as response:
        response.set("Unauthenticated\n", 401)
    assert (response.code, response.body) == (401, "Unauthenticated\n")


def test_a_malformed_delivery_can_be_dropped() -> None:
    """It is then acknowledged, and the log records this."""
    with capture_logs() as lines, responding(give_up=True) as response:
        raise MalformedError("why")
    assert response.code == 200
    assert lines[0]["given_up"] is True


def test_the_end_of_a_process_is_not_an_answer() -> None:
    """An interruption leaves the block."""
    with pytest.raises(KeyboardInterrupt), responding():
        raise KeyboardInterrupt


def test_an_error_is_logged_with_the_members_of_its_delivery() -> None:
    """The bindings outside the block are restored after it, even after an error."""
    seen: dict[str, Any] = {}

    def note(_: Any, __: str, event: Any) -> Any:
        seen.update(event)
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, note])
    structlog.contextvars.bind_contextvars(outer="here")
    try:
        with responding(trace=TRACE, function="on_task", kind="timer"):
            raise TransientError("why")
        assert seen["trace_id"] == TRACE
        assert (seen["function"], seen["kind"]) == ("on_task", "timer")
        assert "outer" not in seen
        assert structlog.contextvars.get_contextvars() == {"outer": "here"}
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.reset_defaults()


def test_a_context_inside_a_delivery_keeps_its_budget() -> None:
    """The sweep runs the tasks of others within its own delivery."""
    with delivery_context(TRACE, seconds=100):
        with delivery_context("", kind="launch"):
            assert current_trace() == ""
            assert trace_headers() == {}
            assert 90 < budget.time_left(1000) <= 100
        assert current_trace() == TRACE
    assert budget.time_left(1000) == 1000


def test_a_task_carries_the_trace_in_the_header_of_the_standard() -> None:
    """Version 00, the trace, a span that is the same for each task of the delivery, and the sampled flag."""
    with delivery_context(TRACE):
        first, second = trace_headers(), trace_headers()
    assert first == second
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", first["traceparent"])


def test_nothing_else_chooses_a_status_code_of_a_delivery() -> None:
    """The engine and the managers know no HTTP."""
    folders = [Path("functions/luci_scheduler", name) for name in ("engine", "managers", "core")]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(paths) > 80
    assert [path for path in paths if "flask" in path.read_text(encoding="utf-8")] == []
