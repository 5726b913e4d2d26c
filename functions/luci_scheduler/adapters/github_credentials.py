"""Credentials for GitHub: a personal access token, or the tokens of a GitHub App's installation.

No token or key is part of a log line, an error or a ``repr``. Tokens have no fixed length or form.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.auth import jwt
from google.auth.crypt import RSASigner

from luci_scheduler.adapters.github_api import Exchange, GitHubError
from luci_scheduler.core.instants import MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.ports import Clock, GitilesError

__all__ = ["AppCredentials", "TokenCredentials"]

_JWT_AGE = MINUTE
"""How far back a JWT is dated, in case the machine's clock is ahead (GitHub's recommendation)."""
_JWT_LIFE = 9 * MINUTE
"""GitHub accepts at most ten minutes."""
_RENEWAL = 5 * MINUTE
"""How long before its end an installation's token is replaced. It lives for an hour."""


class TokenCredentials:
    """``github_api.TokenSource`` with one token, which a person or an operator renews."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self, _: Exchange) -> str:
        """Return the token."""
        return self._token

    def renew(self, _: str) -> bool:
        """Return False: there is no other token."""
        return False


class AppCredentials:
    """``github_api.TokenSource`` of a GitHub App's installation.

    A JWT, signed with the App's private key, is exchanged for a token of an hour, which the process keeps.
    """

    def __init__(
        self, app_id: str, installation_id: str, private_key: str, clock: Clock, permissions: Mapping[str, str]
    ) -> None:
        """Make credentials; nothing is read or sent yet.

        Args:
            app_id: the App's client ID or number.
            installation_id: the number of the installation.
            private_key: the App's private key, in PEM.
            clock: the current time, for the JWT and the token's end.
            permissions: of the tokens, ``{"contents": "read"}``; the App must have them.
        """
        self._app_id = app_id
        self._installation_id = installation_id
        self._private_key = private_key
        self._clock = clock
        self._permissions = permissions
        self._token = ""
        self._ends = Instant(0)

    def token(self, exchange: Exchange) -> str:
        """Return the installation's token, a new one if it ends within five minutes."""
        if not self._token or self._clock.now() >= self._ends - _RENEWAL:
            self._token, self._ends = self._fetched(exchange)
        return self._token

    def renew(self, refused: str) -> bool:
        """Forget a refused token, and return True: there can be another one."""
        if refused == self._token:
            self._token = ""
        return True

    def _fetched(self, exchange: Exchange) -> tuple[str, Instant]:
        path = f"/app/installations/{self._installation_id}/access_tokens"
        try:
            document = exchange(path, self._jwt(), {"permissions": dict(self._permissions)})
        except GitHubError as error:
            if error.transient:
                raise
            # GitHub answers 404 about a removed installation. No caller may read this as a missing repository.
            raise _no_token(
                f"GitHub makes no token for the App's installation {self._installation_id} ({error})"
            ) from None
        token, ends = (document.get(name) if isinstance(document, dict) else None for name in ("token", "expires_at"))
        if not isinstance(token, str) or not token or not isinstance(ends, str):
            raise _no_token("GitHub's answer holds no token")
        try:
            return token, parse_rfc3339(ends)
        except ValueError:
            raise _no_token("GitHub's answer holds no time for the token's end") from None

    def _jwt(self) -> str:
        now = self._clock.now()
        claims = {"iat": (now - _JWT_AGE) // SECOND, "exp": (now + _JWT_LIFE) // SECOND, "iss": self._app_id}
        try:
            signer = RSASigner.from_string(self._private_key)  # type: ignore[no-untyped-call]
            return str(jwt.encode(signer, claims), "ascii")  # type: ignore[no-untyped-call]
        except (ValueError, TypeError):  # the library's text may quote the key
            raise _no_token(
                "the App's private key is not an RSA key in PEM: set SCHEDULER_GITHUB_PRIVATE_KEY"
            ) from None


def _no_token(reason: str) -> GitilesError:
    return GitilesError("UNAUTHENTICATED", reason, transient=False)
