"""Callers on the platform's side: each sends its requests with the token that Google attaches for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.front_end.exchange import Answer, Handler, Message, with_headers, without

__all__ = ["WithToken"]


@dataclass(frozen=True, slots=True)
class WithToken:
    """Passes requests on with a token in one header, which replaces that of the client.

    Before a push endpoint it acts as Pub/Sub, whose official emulator attaches no token. Before the console it acts as
    ``gcloud run services proxy``.
    """

    header: str
    token: Callable[[], str]
    """Returns the token for the next request."""
    next: Handler

    def __call__(self, message: Message) -> Answer:
        """Pass a request on."""
        headers = without(message.headers, (self.header.lower(),))
        headers.set(self.header, f"Bearer {self.token()}")
        return self.next(with_headers(message, headers))
