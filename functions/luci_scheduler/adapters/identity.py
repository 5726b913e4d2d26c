"""The callers of the functions: whose token a request carries, and behind which front end.

docs/reference/access.md describes the front ends, what each one passes on, and the conditions of trust.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

from luci_scheduler.adapters.front_end import FrontEnd
from luci_scheduler.adapters.token_keys import TokenVerifier
from luci_scheduler.core.id_tokens import Presented, Requirements, check_claims, presented_token, stripped_claims
from luci_scheduler.core.identity import ANONYMOUS, Identity, UnauthenticatedError, email_of, user
from luci_scheduler.ports import Clock

__all__ = ["CallerIdentity", "IdTokens", "OidcVerifier"]

_GOOGLE = ("https://accounts.google.com", "accounts.google.com")
_ALGORITHM = "RS256"
_IAP = ("https://cloud.google.com/iap",)
_IAP_HEADER = "x-goog-iap-jwt-assertion"
_IAP_AGENT = "@gcp-sa-iap.iam.gserviceaccount.com"
"""Identity-Aware Proxy opens the service with a token of this agent, and names the caller in its assertion:
https://cloud.google.com/iap/docs/enabling-cloud-run"""


class IdTokens:
    """Verifies ID tokens that Google signs, whole or stripped by the platform. Thread-safe."""

    def __init__(
        self,
        fetch_keys: Callable[[], bytes],
        clock: Clock,
        audiences: Collection[str],
        *,
        accounts: Collection[str] | None = None,
        front_end: FrontEnd | None = None,
    ) -> None:
        """Make a verifier.

        Args:
            fetch_keys: see `TokenVerifier`.
            clock: the clock for the times in tokens.
            audiences: the accepted audiences; if empty, no token is accepted.
            accounts: the e-mail addresses of the accepted accounts; None accepts all accounts.
            front_end: the platform that checks callers and strips tokens; None accepts no stripped token.
        """
        self._clock = clock
        self._required = Requirements(_GOOGLE, frozenset(filter(None, audiences)))
        self._whole = TokenVerifier(fetch_keys, clock, algorithm=_ALGORITHM, required=self._required)
        self._accounts = None if accounts is None else frozenset(accounts)
        self._front_end = front_end

    def email(self, presented: Presented) -> str:
        """Return the verified e-mail address of the account that a token proves.

        Raises:
            UnauthenticatedError: signature, issuer, audience, time or account is wrong, or the platform's word about a
                stripped token does not count.
            TransientError: the keys or the service's policy could not be read.
        """
        if not presented.is_stripped:
            return self._account(self._whole.verify(presented.token))
        front_end = self._trusted_front_end(presented)
        claims = stripped_claims(presented.token, _ALGORITHM)
        check_claims(claims, self._required, self._clock.now())
        email = self._account(claims)
        front_end.require_check()  # last, because it may call the platform
        return email

    def _trusted_front_end(self, presented: Presented) -> FrontEnd:
        if self._front_end is None:
            raise UnauthenticatedError(
                "the token has no signature, and this function does not run behind a front end that verifies tokens "
                "(SCHEDULER_TRUST_FRONT_END and K_SERVICE)"
            )
        if not presented.is_checked or presented.scheme != "bearer":
            raise UnauthenticatedError(
                f"the token in {presented.header} has no signature, and the platform has not checked that header"
            )
        return self._front_end

    def _account(self, claims: Mapping[str, Any]) -> str:
        email = email_of(claims)
        if claims.get("email_verified") is not True:
            raise UnauthenticatedError("the token's account is not accepted: its address is not verified")
        if self._accounts is not None and email not in self._accounts:
            raise UnauthenticatedError("the token's account is not accepted: it is not the account that calls here")
        return email


class OidcVerifier:
    """Accepts the callers of one function: the named service accounts. Thread-safe."""

    def __init__(
        self,
        fetch_certs: Callable[[], bytes],
        audience: str,
        callers: Collection[str],
        clock: Clock,
        front_end: FrontEnd | None = None,
    ) -> None:
        self._tokens = IdTokens(fetch_certs, clock, (audience,), accounts=callers, front_end=front_end)

    def verify(self, headers: Any) -> str:
        """Return the e-mail address of the account that a request's headers prove.

        Raises:
            UnauthenticatedError: see `IdTokens.email`; also if there is no bearer token.
            TransientError: the keys or the service's policy could not be read.
        """
        presented = presented_token(headers)
        if presented is None or presented.scheme != "bearer":
            raise UnauthenticatedError("the request has no bearer token")
        return self._tokens.email(presented)


class CallerIdentity:
    """Identifies callers of the console: by the proxy's assertion, else by a bearer token, else as anonymous.

    The first of them that a request carries decides. A token that is not accepted is an error, never an anonymous call.
    Thread-safe.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        local_user: str = "",
        iap_audience: str = "",
        fetch_iap_keys: Callable[[], bytes],
        bearer_audiences: Collection[str] = (),
        fetch_oidc_keys: Callable[[], bytes],
        access_token_email: Callable[[str, str], str],
        front_end: FrontEnd | None = None,
    ) -> None:
        """Make an identifier of callers for the console's settings.

        Args:
            clock: the clock for the times in tokens.
            local_user: the identity of every caller in the local cloud; the settings allow it nowhere else.
            iap_audience: the audience of the proxy's assertions; if empty, the header is ignored.
            fetch_iap_keys: see `TokenVerifier`.
            bearer_audiences: the audiences of ID tokens; if empty, no ID token is accepted.
            fetch_oidc_keys: see `TokenVerifier`.
            access_token_email: returns the owner of an OAuth access token, given the sender's network; raises as
                `identify` does.
            front_end: see `IdTokens`.
        """
        self._access_token_email = access_token_email
        self._local_user = local_user
        iap = Requirements(_IAP, (iap_audience,))
        self._iap = TokenVerifier(fetch_iap_keys, clock, algorithm="ES256", required=iap) if iap_audience else None
        self._bearer = IdTokens(fetch_oidc_keys, clock, bearer_audiences, front_end=front_end)
        self._has_audiences, self._has_front_end = bool(bearer_audiences), front_end is not None

    def identify(self, headers: Any) -> Identity:
        """Return the sender of a request with these headers; the case of names does not matter.

        Raises:
            UnauthenticatedError: there is a token, and it is not accepted; the message names the remedy.
            TransientError: the keys or the service's policy could not be read, or Google did not answer about the
                token.
        """
        if self._local_user:
            return user(self._local_user)
        if self._iap is not None and (assertion := headers.get(_IAP_HEADER, "")):
            # The proxy verified the address before it signed; its assertions have no ``email_verified``.
            with self._naming_the_remedy():
                return user(email_of(self._iap.verify(assertion)))
        presented = presented_token(headers)
        return ANONYMOUS if presented is None else user(self._email(presented, headers))

    def _email(self, presented: Presented, headers: Any) -> str:
        if presented.scheme not in ("bearer", "oauth"):  # LUCI accepts both
            raise UnauthenticatedError(f"the header {presented.header} holds no bearer token")
        if not presented.is_jwt:
            return self._access_token_email(presented.token, _sender(headers))
        with self._naming_the_remedy():
            return self._email_of_id_token(presented)

    def _email_of_id_token(self, presented: Presented) -> str:
        if not self._has_audiences:
            raise UnauthenticatedError("ID tokens are not accepted: SCHEDULER_CONSOLE_AUDIENCES is not set")
        email = self._bearer.email(presented)
        if email.lower().endswith(_IAP_AGENT):
            raise UnauthenticatedError(
                "the token is that of Identity-Aware Proxy, and the assertion that names its caller is not accepted: "
                "SCHEDULER_IAP_AUDIENCE is not set"
            )
        return email

    @contextmanager
    def _naming_the_remedy(self) -> Iterator[None]:
        try:
            yield
        except UnauthenticatedError as error:
            raise UnauthenticatedError(f"{error}. {self._remedy}") from error

    @property
    def _remedy(self) -> str:
        """What a person does about a refused token."""
        if self._iap is not None:
            return "Open the console in a browser, or run `luci-scheduler login` for the command"
        if self._has_front_end:
            return "Run `luci-scheduler login`, or open the console with `gcloud run services proxy`"
        return "Run `luci-scheduler login`, or send an ID token for an accepted audience"


def _sender(headers: Any) -> str:
    """Return the network that a request came from; empty if it is not known.

    The platform's front end appends the client's address to ``X-Forwarded-For``; earlier entries may be forged. A
    client can have any number of IPv6 addresses, but only one /64 network.
    """
    last = str(headers.get("X-Forwarded-For", "")).rpartition(",")[2].strip()
    try:
        address = ip_address(last)
    except ValueError:
        return ""
    return str(ip_network((int(address) >> 64 << 64, 64))) if address.version == 6 else last  # noqa: PLR2004 - IPv6
