"""From the outcome of a delivery to a status code: nothing else chooses one.

=====================  ====  =======================================================================
outcome                code  why
=====================  ====  =======================================================================
done                   200
PermanentError         200   hopeless: recorded where people look, counted, acknowledged
ComeAgainError         409   expected; delivered again
MalformedError         400   delivered again until the dead-letter topic has it; 200 once a task is given up
TransientError         500   delivered again with backoff
anything else          500   a fault of ours: its stack is in the log
=====================  ====  =======================================================================

The original answers 202 where this answers 200: Cloud Tasks takes any 2xx, the Pub/Sub emulator redelivers a 202.
Never 429 or 503: they slow a whole queue down.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from luci_scheduler.core.errors import ComeAgainError, MalformedError, PermanentError, TransientError
from luci_scheduler.tracing import isolated

__all__ = ["respond"]

_logger = structlog.stdlib.get_logger("luci_scheduler")


def respond(
    handle: Callable[[], None],
    *,
    trace: str = "",
    give_up: bool = False,
    seconds: float | None = None,
    **about: str,
) -> tuple[str, int]:
    """Run a delivery's handler and return body and status code of the answer.

    ``give_up`` acknowledges even what is malformed: nothing keeps a task from coming again for ever. ``trace`` and ``about``
    go into every line that the delivery logs. ``seconds`` is the delivery's budget: outside calls are over by then, so that the
    handler answers 500 before the platform ends the process.
    """
    return isolated(lambda: _respond(handle, give_up=give_up), trace, seconds=seconds, **about)


def _respond(handle: Callable[[], None], *, give_up: bool) -> tuple[str, int]:
    try:
        handle()
    except ComeAgainError as error:
        _logger.info("come_again", reason=str(error))
        return f"The handler asked for retry: {error}\n", 409
    except MalformedError as error:
        _logger.warning("malformed", reason=str(error), given_up=give_up)
        return f"Malformed: {error}\n", 200 if give_up else 400
    except TransientError as error:
        _logger.warning("transient_error", reason=str(error))
        return f"Transient error: {error}\n", 500
    except PermanentError as error:
        _logger.warning("permanent_error", reason=str(error))
        return f"Fatal error: {error}\n", 200
    except Exception:
        _logger.exception("unexpected_error")
        return "Internal error\n", 500
    return "OK\n", 200
