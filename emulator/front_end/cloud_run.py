"""Cloud Run's front end: ingress, the caller's token, the invoker role, and the headers that it adds."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from emulator.front_end.authority import GCLOUD_CLIENT, Authority, TokenError
from emulator.front_end.exchange import Answer, Handler, Message, page, with_headers, without
from emulator.front_end.modes import Stripping
from emulator.front_end.services import Network, Service
from emulator.front_end.tokens import bearer, checked_claims, email_of, must_strip, stripped

__all__ = ["SERVERLESS", "CloudRun", "authorize", "platform_headers"]

SERVERLESS = "X-Serverless-Authorization"
"""Cloud Run checks the token in this header, and in ``Authorization`` only without it."""

_BY = "cloud run"
_INVALID = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
# Hop-by-hop headers, and other headers that the platform removes from requests.
_REMOVED = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"}
)
_GOOGLE_ONLY = ("x-google-",)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/.*)?")


def authorize(
    service: Service, headers: Headers, authority: Authority, now: int, stripping: Stripping
) -> Headers | Answer:
    """Return the headers for the container, or the refusal.

    A public service passes everything unchanged, whether a token is good, bad or forged.
    """
    if service.is_public:
        return headers
    name = SERVERLESS if SERVERLESS in headers else "Authorization"
    if name not in headers:
        return _forbidden("the request carries no token")
    try:
        token = bearer(headers[name])
        audiences = {service.uri, *service.custom_audiences, GCLOUD_CLIENT}
        claims = checked_claims(authority, token, audiences, now)
    except TokenError as error:
        return page(401, "Unauthorized", f"The request is not accepted: {error}.", _BY, WWW_Authenticate=_INVALID)
    if not service.invites(email_of(claims)):
        return _forbidden("the account may not call the service")
    if must_strip(stripping, claims, serverless=name == SERVERLESS):
        headers = headers.copy()
        headers.set(name, f"Bearer {stripped(token)}")
    return headers


def _forbidden(reason: str) -> Answer:
    text = f"Your client does not have permission to get this URL from this server: {reason}."
    return page(403, "Forbidden", text, _BY)


def platform_headers(message: Message, span: Callable[[], str] = lambda: secrets.token_hex(8)) -> Headers:
    """Return a request's headers after the platform has added and removed its own.

    The client's address is appended to ``X-Forwarded-For``, so only the last entry is true. A trace of the client
    continues with a new span.
    """
    headers = without(message.headers, _REMOVED, _GOOGLE_ONLY)
    before = headers.get("X-Forwarded-For")
    headers.set("X-Forwarded-For", f"{before},{message.client}" if before else message.client)
    headers.set("X-Forwarded-Proto", "https")
    headers.set("Forwarded", f'for="{message.client}";proto=https')
    trace, new_span = _trace(headers) or secrets.token_hex(16), span()
    headers.set("traceparent", f"00-{trace}-{new_span}-01")
    headers.set("X-Cloud-Trace-Context", f"{trace}/{int(new_span, 16)};o=1")
    return headers


def _trace(headers: Headers) -> str:
    for name, pattern in (("traceparent", _TRACEPARENT), ("X-Cloud-Trace-Context", _CLOUD_TRACE)):
        if match := pattern.fullmatch(headers.get(name, "")):
            return match[1]
    return ""


@dataclass(frozen=True, slots=True)
class CloudRun:
    """Cloud Run's front end before one service, for requests from one network."""

    find: Callable[[], Service]
    """Returns the service as it is now."""
    network: Network
    authority: Authority
    now: Callable[[], int]
    stripping: Stripping
    container: Handler

    def __call__(self, message: Message) -> Answer:
        """Answer a request."""
        service = self.find()
        if not service.admits(self.network):
            return page(404, "Page not found", "The requested URL was not found on this server.", _BY)
        headers = authorize(service, message.headers, self.authority, self.now(), self.stripping)
        if isinstance(headers, Answer):
            return headers
        return self.container(with_headers(message, platform_headers(with_headers(message, headers))))
