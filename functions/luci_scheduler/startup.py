"""The start of a process: until its first answer, the interpreter hardly looks for garbage."""

from __future__ import annotations

import gc
import threading

import flask

__all__ = ["POSTPONED", "postpone_collections"]

POSTPONED = 200_000
"""New objects until the interpreter looks for garbage during a start. The imports make 120,000, and nearly all stay.

A first request that makes much garbage still has a limit: 200,000 objects are about 20 MB.
"""

_USUAL = gc.get_threshold()
_answered = threading.Event()


def postpone_collections(server: flask.Flask) -> None:
    """Look for garbage as usual from the first answer on, and never among the objects made until then.

    To look for garbage among modules, classes and functions takes a tenth of the processor time of a cold start.
    A process starts once: further calls have no effect after its first answer.
    """
    if _answered.is_set():
        return
    gc.set_threshold(POSTPONED, *_USUAL[1:])

    @server.teardown_request
    def _begin(_: BaseException | None) -> None:
        if not _answered.is_set():
            _answered.set()
            gc.freeze()
            gc.set_threshold(*_USUAL)
