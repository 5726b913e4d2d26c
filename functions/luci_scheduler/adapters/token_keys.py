"""Verification of signatures with the keys that Google publishes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from google.auth import jwt

from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.foreign_json import read_object
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.core.id_tokens import Requirements, check_claims, check_length
from luci_scheduler.core.identity import UnauthenticatedError
from luci_scheduler.core.instants import MINUTE, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.ports import Clock

__all__ = ["TokenVerifier"]

_REFRESH_PAUSE = MINUTE  # bounds the key downloads that made-up key IDs cause
_NO_CLOCK = 10**10  # seconds of skew: disables the library's own check, which reads the machine's clock instead of ours
_KEY_ERRORS: tuple[type[Exception], ...] = (OSError, TransientError, *PARSER_ERRORS)


class TokenVerifier:
    """Verifies signed tokens of one algorithm; thread-safe."""

    def __init__(
        self, fetch_keys: Callable[[], bytes], clock: Clock, *, algorithm: str, required: Requirements
    ) -> None:
        """Make a verifier.

        Args:
            fetch_keys: returns a JSON object, key ID → certificate or public key in PEM; raises OSError on failure.
            clock: the clock for the times in tokens.
            algorithm: the accepted algorithm, ``RS256`` or ``ES256``.
            required: the accepted issuers and audiences.
        """
        self._fetch_keys = fetch_keys
        self._clock = clock
        self._algorithm = algorithm
        self._required = required
        self._keys: Mapping[str, str] = {}
        self._fetched: Instant | None = None
        self._tries = 0
        self._failure = ""
        self._lock = threading.Lock()

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token.

        Raises:
            UnauthenticatedError: signature, issuer, audience or time is wrong.
            TransientError: the keys could not be fetched.
        """
        claims = self._decode(token)
        check_claims(claims, self._required, self._clock.now())
        return claims

    def _decode(self, token: str) -> Mapping[str, Any]:
        try:
            check_length(token)
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]
            if header.get("alg") != self._algorithm:
                raise UnauthenticatedError("the token's algorithm is not accepted")
            if header.get("kid") not in self._keys:
                self._refresh()
            return dict(jwt.decode(token, certs=self._keys, clock_skew_in_seconds=_NO_CLOCK))  # type: ignore[no-untyped-call]
        except PARSER_ERRORS as error:
            raise UnauthenticatedError("the token's signature is not accepted") from error

    def _refresh(self) -> None:
        """Fetch the keys; concurrent requests wait for one download and share its result and its time limit."""
        tries = self._tries
        with self._lock:
            if self._tries == tries:
                self._try()
            if self._failure:
                raise TransientError(f"the keys that sign tokens could not be fetched: {self._failure}")

    def _try(self) -> None:
        now = self._clock.now()
        if self._fetched is not None and now - self._fetched < _REFRESH_PAUSE:
            return
        self._failure = ""
        try:
            self._keys = read_object(self._fetch_keys())
            self._fetched = now
        except _KEY_ERRORS as error:
            self._failure = sanitized(str(error)) or type(error).__name__
        finally:
            self._tries += 1
