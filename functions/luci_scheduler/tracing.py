"""Traces: log lines that belong together, from the commit to the end of the build that it started.

A delivery has the trace of its request, which Cloud Run's front end adds. A delivery without a trace gets one derived
from its ID, so that redeliveries share it. Tasks carry the trace to the next delivery. An invocation stores the trace
of the delivery that created it, and all later work on the invocation is logged under that trace.

The trace and the other members of log lines are `structlog.contextvars`. They end with the delivery. A thread has them
only if its work runs in a copy of the delivery's context.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from luci_scheduler import budget

if TYPE_CHECKING:
    from luci_scheduler.ports import Headers

__all__ = [
    "bind_invocation",
    "current_trace",
    "delivery_context",
    "delivery_trace",
    "trace_from_headers",
    "trace_headers",
]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_CLOUD = re.compile(r"([0-9a-fA-F]{32})(?:/\d+)?(?:;.*)?")
_NONE = "0" * 32
_KEY = "trace_id"
_SPAN_DIGITS = 16


def trace_from_headers(headers: Headers) -> str:
    """Return the trace of a request, 32 hexadecimal digits; empty if its headers name none."""
    for name, pattern in (("traceparent", _TRACEPARENT), ("X-Cloud-Trace-Context", _CLOUD)):
        match = pattern.fullmatch(headers.get(name, ""))
        if match and match[1] != _NONE:
            return match[1].lower()
    return ""


def delivery_trace(headers: Headers, delivery: str) -> str:
    """Return a delivery's trace: that of its request, else one derived from the delivery's ID."""
    return trace_from_headers(headers) or hashlib.sha256(delivery.encode()).hexdigest()[:32]


@contextmanager
def delivery_context(trace: str, *, seconds: float | None = None, **members: str) -> Iterator[None]:
    """Run a delivery or a request inside ``with``: under its own trace, log members and budget.

    The bindings of the surrounding code do not show inside, and the bindings made inside end with the block.

    Args:
        trace: the trace; empty: log lines have none.
        seconds: the budget of outside calls (see `budget`); None: the surrounding one, if any.
        members: members of every line that is logged inside.
    """
    outer = structlog.contextvars.get_contextvars()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**({_KEY: trace} if trace else {}), **members)
    try:
        with budget.limited(seconds):
            yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**outer)


def current_trace() -> str:
    """Return the trace of the current delivery; empty outside deliveries."""
    return str(structlog.contextvars.get_contextvars().get(_KEY, ""))


def bind_invocation(job_id: str, invocation_id: int, attempt: int, trace: str) -> None:
    """Log everything that follows in this delivery as work on the invocation, under the invocation's trace."""
    about = {"job_id": job_id, "invocation_id": str(invocation_id), "attempt": attempt}
    structlog.contextvars.bind_contextvars(**about, **({_KEY: trace} if trace else {}))


def trace_headers() -> dict[str, str]:
    """Return the headers that make a task part of the current trace; none outside deliveries."""
    trace = current_trace()
    if not trace:
        return {}
    span = hashlib.sha256(trace.encode()).hexdigest()[:_SPAN_DIGITS]
    return {"traceparent": f"00-{trace}-{span}-01"}
