"""Clients made with their first use, so that a function loads the libraries only of the calls that it makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

__all__ = ["late"]

T = TypeVar("T")


def late(make: Callable[[], T]) -> T:
    """Return a stand-in for the object that ``make`` returns; its first use makes the object.

    Threads share one object. If ``make`` raises, the next use tries again. The stand-in passes on attributes, calls
    and iteration, but no operators.
    """
    return cast("T", _Late(make))


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object(), name)

    def __call__(self, *arguments: Any) -> Any:
        return self._object()(*arguments)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._object())

    def _object(self) -> Any:
        # Two first requests share one client, with one set of keys and one pool of connections.
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
