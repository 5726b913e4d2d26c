"""Answers to deliveries: every outcome of a handler becomes a status code here, and only here.

====================  ====  ==========================================================================
outcome               code  why
====================  ====  ==========================================================================
success               200
PermanentError        200   A repetition cannot help. The error is recorded, logged and acknowledged.
UnauthenticatedError  401   The caller is unknown. The line reveals a real sender with a wrong setting.
ComeAgainError        409   Expected: the sender repeats the delivery.
MalformedError        400   Pub/Sub repeats it until it is a dead letter; a task is dropped with 200.
TransientError        500   The sender repeats the delivery with backoff.
any other exception   500   A defect of the scheduler; the log has its stack.
====================  ====  ==========================================================================

LUCI answers 202 where this module answers 200. Cloud Tasks accepts any 2xx, but the Pub/Sub emulator repeats after a
202. No answer is 429 or 503: Cloud Tasks slows the whole queue down after one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from luci_scheduler.core.errors import ComeAgainError, MalformedError, PermanentError, TransientError
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.tracing import delivery_context

__all__ = ["DeliveryResponse", "responding"]

_logger = structlog.stdlib.get_logger("luci_scheduler")


@dataclass(slots=True)
class DeliveryResponse:
    """The answer to a delivery; final once its ``with`` block has ended."""

    body: str = "OK\n"
    code: int = 200

    def set(self, body: str, code: int) -> None:
        """Answer this instead of 200."""
        self.body, self.code = body, code


@contextmanager
def responding(
    *, trace: str = "", give_up: bool = False, seconds: float | None = None, **members: str
) -> Iterator[DeliveryResponse]:
    """Run the handler of a delivery inside ``with``; no exception leaves the block, each one sets the response.

    Args:
        trace: the delivery's trace.
        give_up: acknowledge even a malformed delivery. A queue has no dead letters, so a task would come back forever.
        seconds: the delivery's budget. Outside calls end within it, so that the handler answers before the platform
            ends it.
        members: members of every line that the delivery logs.
    """
    response = DeliveryResponse()
    with delivery_context(trace, seconds=seconds, **members):
        try:
            yield response
        except UnauthenticatedError as error:
            _logger.warning("unauthenticated", reason=str(error))
            response.set("Unauthenticated\n", 401)
        except ComeAgainError as error:
            _logger.info("come_again", reason=str(error))
            response.set(f"The handler asked for retry: {error}\n", 409)
        except MalformedError as error:
            _logger.warning("malformed", reason=str(error), given_up=give_up)
            response.set(f"Malformed: {error}\n", 200 if give_up else 400)
        except TransientError as error:
            _logger.warning("transient_error", reason=str(error))
            response.set(f"Transient error: {error}\n", 500)
        except PermanentError as error:
            _logger.warning("permanent_error", reason=str(error))
            response.set(f"Fatal error: {error}\n", 200)
        except Exception:
            _logger.exception("unexpected_error")
            response.set("Internal error\n", 500)
