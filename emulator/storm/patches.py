"""The parts of the functions that look at the machine itself, replaced for the time of a run."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NoReturn, Self

import structlog

from emulator.storm.code import Code
from emulator.storm.outside import Outside
from luci_scheduler.core.instants import MILLISECOND, SECOND, Instant

__all__ = ["replaced", "without_threads"]

_TIMED = ("budget", "adapters.http", "adapters.firestore", "adapters.firestore_wire")
"""The modules that measure limits on the machine's monotonic clock."""
_LOCKED = ("adapters.github_api",)
"""The modules whose locks are held during a call."""
_LOOK = 10 * MILLISECOND
"""How often a delivery looks whether a lock is free."""
_POOLED = (
    "engine.triggers",
    "engine.deferral",
    "engine.probes",
    "config.job_lists",
    "api.overviews",
    "api.commit_titles",
)
"""The modules that handle several jobs in parallel."""


class _Time:
    """The part of the module ``time`` that they use, in virtual time."""

    def __init__(self, outside: Outside, start: Instant) -> None:
        self._outside = outside
        self._start = start

    def monotonic(self) -> float:
        return (self._outside.kernel.now() - self._start) / SECOND

    def sleep(self, seconds: float) -> None:
        self._outside.sleep(round(seconds * SECOND))


class _Lock:
    """A lock for which deliveries wait in virtual time."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._is_held = False

    def acquire(self, timeout: float) -> bool:
        end = self._outside.kernel.now() + round(timeout * SECOND)
        while self._is_held:
            if self._outside.kernel.now() >= end:
                return False
            self._outside.sleep(_LOOK)
        self._is_held = True
        return True

    def release(self) -> None:
        self._is_held = False


class _Threads:
    """The part of the module ``threading`` that they use, in virtual time."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def Lock(self) -> _Lock:  # noqa: N802 - as in the module
        return _Lock(self._outside)


class _Pool:
    """A pool of threads that runs each call at once, so that only the kernel decides what runs."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **named))
        except Exception as error:  # noqa: BLE001 - the caller of the future gets it
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *items: Any) -> list[Any]:
        return [call(*each) for each in zip(*items, strict=False)]


@contextmanager
def replaced(
    outside: Outside, start: Instant, log: Callable[[dict[str, Any]], None], codes: Sequence[Code]
) -> Iterator[None]:
    """Run the functions in virtual time, without further threads, and give each log line to ``log``."""
    logging_before = structlog.get_config()
    replacements = {"time": _Time(outside, start), "threading": _Threads(outside), "ThreadPoolExecutor": _Pool}
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[structlog.contextvars.merge_contextvars, _writer(log)],
        cache_logger_on_first_use=False,
    )
    try:
        with _set(replacements, codes):
            yield
    finally:
        structlog.configure(**logging_before)


@contextmanager
def without_threads() -> Iterator[None]:
    """Run the functions without pools of threads: a thread of them could not sleep in virtual time."""
    with _set({"ThreadPoolExecutor": _Pool}, [Code()]):
        yield


@contextmanager
def _set(replacements: Mapping[str, object], codes: Sequence[Code]) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name in _places(replacements, codes)]
    for module, name, _ in before:
        setattr(module, name, replacements[name])
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _places(names: Collection[str], codes: Sequence[Code]) -> Iterator[tuple[Any, str]]:
    """Yield modules and the names to replace in them, as far as a release has them."""
    modules = {"time": _TIMED, "threading": _LOCKED, "ThreadPoolExecutor": _POOLED}
    wanted = [(module, name) for name in names for module in modules[name]]
    for code in codes:
        for module, name in wanted:
            try:
                found = code.module(module)
            except ModuleNotFoundError:
                continue
            if hasattr(found, name):
                yield found, name


def _writer(log: Callable[[dict[str, Any]], None]) -> Callable[..., NoReturn]:
    def write(_: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        severity = "ERROR" if level == "exception" else level.upper()
        if event.pop("exc_info", None):
            event["exception"] = traceback.format_exc()
        log({"severity": severity, "message": event.pop("event"), **event})
        raise structlog.DropEvent

    return write
