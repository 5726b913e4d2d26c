"""The log's setup: one JSON line per event, with Cloud Logging's names and without secrets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from luci_scheduler.logs import configure_logging, ensure_logging
from luci_scheduler.tracing import delivery_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "Bearer ya29.canary-of-the-log-5d2f"


@pytest.fixture(name="file")
def _file() -> Iterator[io.StringIO]:
    """A file that gets the lines of the project ``cloud``."""
    file = io.StringIO()
    configure_logging("cloud", file)
    yield file
    structlog.reset_defaults()


def _line(file: io.StringIO) -> dict[str, Any]:
    (text,) = file.getvalue().splitlines()
    line: dict[str, Any] = json.loads(text)
    return line


@pytest.mark.parametrize(
    ("level", "severity"),
    [("info", "INFO"), ("warning", "WARNING"), ("warn", "WARNING"), ("error", "ERROR"), ("exception", "ERROR")],
)
def test_levels_are_severities(file: io.StringIO, level: str, severity: str) -> None:
    """Levels are in upper case; an exception is an error."""
    getattr(structlog.get_logger(), level)("happened", what=1)
    line = _line(file)
    assert (line["message"], line["severity"], line["what"]) == ("happened", severity, 1)
    assert "event" not in line
    assert "level" not in line


def test_a_trace_has_the_name_that_cloud_logging_links(file: io.StringIO) -> None:
    """The trace has the project's name. Outside deliveries there is no trace."""
    with delivery_context(TRACE, function="on_task"):
        structlog.get_logger().info("inside")
    line = _line(file)
    assert line["logging.googleapis.com/trace"] == f"projects/cloud/traces/{TRACE}"
    assert line["function"] == "on_task"
    assert "trace_id" not in line


def test_without_a_project_lines_have_no_trace() -> None:
    """Before the settings are read, the project is unknown."""
    file = io.StringIO()
    configure_logging(file=file)
    try:
        with delivery_context(TRACE):
            structlog.get_logger().info("inside")
    finally:
        structlog.reset_defaults()
    assert _line(file).keys() == {"message", "severity", "time"}


def test_secrets_are_redacted(file: io.StringIO) -> None:
    """Secrets are redacted in texts and in tracebacks."""
    try:
        int(SECRET)
    except ValueError:
        structlog.get_logger().exception("failed", reason=f"Authorization: {SECRET}")
    assert "canary-of-the-log" not in file.getvalue()
    line = _line(file)
    assert "[redacted]" in line["reason"]
    assert "ValueError" in line["exception"]


def test_an_existing_setup_is_left_alone(file: io.StringIO) -> None:
    """A local cloud or a test has set the log up before the functions load."""
    ensure_logging()
    structlog.get_logger().info("happened")
    assert _line(file)["message"] == "happened"


def test_a_process_without_a_setup_gets_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines go to standard output, which Cloud Logging collects."""
    structlog.reset_defaults()
    ensure_logging()
    try:
        structlog.get_logger().info("happened")
    finally:
        structlog.reset_defaults()
    assert json.loads(capsys.readouterr().out)["message"] == "happened"
