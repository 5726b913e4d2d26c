"""Traces: what belongs together in the log, from the commit that came to the end of the build that it led to.

A delivery brings a trace (Cloud Run's front end sees to it) or gets one that is made of its ID, the same one for each
redelivery. Tasks carry it on; an invocation keeps the one that it was created under, and whatever is done about it later is
logged under that. The bindings are `structlog.contextvars`, so they end with the delivery and cross no thread unasked.
"""

from __future__ import annotations

import contextvars
import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from luci_scheduler import budget

__all__ = ["bind_invocation", "current_trace", "delivery_trace", "isolated", "trace_from_headers", "trace_headers"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_CLOUD = re.compile(r"([0-9a-fA-F]{32})(?:/\d+)?(?:;.*)?")
_NONE = "0" * 32
_KEY = "trace_id"
_SPAN_DIGITS = 16

_T = TypeVar("_T")


def trace_from_headers(headers: Any) -> str:
    """Return the trace that a request's headers (a mapping) bring, 32 hexadecimal digits; empty if they bring none."""
    for name, pattern in (("traceparent", _TRACEPARENT), ("X-Cloud-Trace-Context", _CLOUD)):
        match = pattern.fullmatch(headers.get(name) or "")
        if match and match[1] != _NONE:
            return match[1].lower()
    return ""


def delivery_trace(headers: Any, delivery: str) -> str:
    """Return a delivery's trace: that of its headers, or one made of its ID."""
    return trace_from_headers(headers) or hashlib.sha256(delivery.encode()).hexdigest()[:32]


def isolated(handle: Callable[[], _T], trace: str, *, seconds: float | None = None, **about: Any) -> _T:
    """Run the handler of a delivery or a request with its trace bound (if any); all that it binds is gone when it returns.

    Its outside calls are over ``seconds`` after the beginning (see `budget`); None: each has its own limit only.
    """

    def run() -> _T:
        if seconds is not None:
            budget.begin(seconds)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**({_KEY: trace} if trace else {}), **about)
        return handle()

    return contextvars.copy_context().run(run)


def current_trace() -> str:
    """Return the trace of what is being done; empty outside deliveries."""
    return str(structlog.contextvars.get_contextvars().get(_KEY, ""))


def bind_invocation(job_id: str, invocation_id: int, attempt: int, trace: str) -> None:
    """Have all that is logged from here on say which invocation it is about, under the invocation's own trace."""
    about = {"job_id": job_id, "invocation_id": str(invocation_id), "attempt": attempt}
    structlog.contextvars.bind_contextvars(**about, **({_KEY: trace} if trace else {}))


def trace_headers() -> dict[str, str]:
    """Return the headers that make a task part of the present trace; none outside deliveries."""
    trace = current_trace()
    if not trace:
        return {}
    span = hashlib.sha256(trace.encode()).hexdigest()[:_SPAN_DIGITS]
    return {"traceparent": f"00-{trace}-{span}-01"}
