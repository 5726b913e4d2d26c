"""The log: one JSON line per event, as Cloud Logging reads them and docs/reference/observability.md lists them."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from luci_scheduler.core.foreign_text import redacted

__all__ = ["configure_logging", "ensure_logging"]

_SEVERITIES = {"exception": "ERROR", "warn": "WARNING"}
"""Levels whose severity has another name; the others are the level in upper case."""

_configuring = threading.Lock()


def ensure_logging() -> None:
    """Configure the log unless it is configured already.

    The framework may refuse and log a request before the first application is made.
    """
    if not structlog.is_configured():
        configure_logging()


def configure_logging(project: str = "", file: TextIO | None = None) -> None:
    """Write each event as one JSON line.

    Args:
        project: the cloud project whose traces the lines name; empty: they name none.
        file: where the lines go; standard output, which Cloud Logging collects, if None.
    """
    with _configuring:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.TimeStamper(fmt="iso", key="time"),
                partial(_use_cloud_names, project),
                structlog.processors.format_exc_info,
                _redact,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=file or sys.stdout),
            cache_logger_on_first_use=False,
        )


def _use_cloud_names(project: str, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
    trace = event.pop("trace_id", "")
    if trace and project:
        event["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    event["severity"] = _SEVERITIES.get(level, level.upper())
    event["message"] = event.pop("event")
    return event


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Remove the secrets that a text of the event holds by mistake; tracebacks are texts as well."""
    return {name: redacted(value) if isinstance(value, str) else value for name, value in event.items()}
