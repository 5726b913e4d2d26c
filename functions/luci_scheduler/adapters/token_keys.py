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
from luci_scheduler.core.instants import HOUR, MINUTE, Instant
from luci_scheduler.core.untrusted import PARSER_ERRORS
from luci_scheduler.ports import Clock

__all__ = ["TokenVerifier"]

_REFRESH_PAUSE = MINUTE  # bounds the key downloads that made-up key IDs, and old keys, cause
_MAX_AGE = HOUR
"""The age from which keys are fetched again, so that a key that Google withdraws stops counting: the life of an ID
token. Google changes its keys rarely: https://developers.google.com/identity/openid-connect/openid-connect"""
_NO_CLOCK = 10**10  # seconds of skew: disables the library's own check, which reads the machine's clock instead of ours
_KEY_ERRORS: tuple[type[Exception], ...] = (OSError, TransientError, *PARSER_ERRORS)


class TokenVerifier:
    """Verifies signed tokens of one algorithm; thread-safe.

    A token with an unknown key, or keys that are an hour old, cause a download of the keys. If the download fails, the
    old keys count further.
    """

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
        self._tried: Instant | None = None
        self._tries = 0
        self._failure = ""
        self._lock = threading.Lock()

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token.

        Raises:
            UnauthenticatedError: signature, issuer, audience or time is wrong.
            TransientError: the token names an unknown key, and the keys could not be fetched.
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
                self._require_refresh()
            elif self._is_past(self._fetched, _MAX_AGE) and self._is_past(self._tried, _REFRESH_PAUSE):
                self._refresh()
            return dict(jwt.decode(token, certs=self._keys, clock_skew_in_seconds=_NO_CLOCK))  # type: ignore[no-untyped-call]
        except PARSER_ERRORS as error:
            raise UnauthenticatedError("the token's signature is not accepted") from error

    def _is_past(self, instant: Instant | None, age: int) -> bool:
        return instant is None or self._clock.now() - instant >= age

    def _require_refresh(self) -> None:
        if failure := self._refresh():
            raise TransientError(f"the keys that sign tokens could not be fetched: {failure}")

    def _refresh(self) -> str:
        """Fetch the keys; concurrent requests wait for one download and share its result and its time limit.

        Returns:
            why the download failed; empty if it did not.
        """
        tries = self._tries
        with self._lock:
            if self._tries == tries and self._is_past(self._fetched, _REFRESH_PAUSE):
                self._try()
            return self._failure

    def _try(self) -> None:
        self._tried = now = self._clock.now()
        self._failure = ""
        try:
            self._keys = read_object(self._fetch_keys())
            self._fetched = now
        except _KEY_ERRORS as error:
            self._failure = sanitized(str(error)) or type(error).__name__
        finally:
            self._tries += 1
