"""The front ends that may stand before the console, distinguished by the answer to a call without a token. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit

__all__ = ["FrontEnd", "front_end", "obstacle"]

_IAP_MARK = "X-Goog-IAP-Generated-Response"
"""The header by which Identity-Aware Proxy marks its own answers (its documentation, "Error codes")."""

_SIGN_IN_HOST = "accounts.google.com"


class FrontEnd(StrEnum):
    """The part that answers a call without a token."""

    CONSOLE = "the console itself"
    """The console itself: a local cloud, or an installation without a check of the platform."""
    IAP = "Identity-Aware Proxy"
    CLOUD_RUN = "Cloud Run's IAM check"
    OTHER = "another server"


def front_end(status: int, headers: Mapping[str, str]) -> FrontEnd:
    """Return the front end that gave an answer; the case of the headers' names does not matter.

    Identity-Aware Proxy redirects to Google's sign-in page, or answers 401 to a client that is no browser. Cloud Run
    answers 401 or 403. Only the console sends pRPC codes.
    """
    if "X-Prpc-Grpc-Code" in headers:
        return FrontEnd.CONSOLE
    if _IAP_MARK in headers or urlsplit(headers.get("Location", "")).hostname == _SIGN_IN_HOST:
        return FrontEnd.IAP
    return FrontEnd.CLOUD_RUN if status in (401, 403) else FrontEnd.OTHER


def obstacle(status: int, headers: Mapping[str, str]) -> str:
    """Return why a front end refused a call with a token, and the remedy; empty if the console itself answered."""
    front = front_end(status, headers)
    return "" if front is FrontEnd.CONSOLE else _REASONS.get((front, status), _OTHER.format(status=status))


_REASONS = {
    (FrontEnd.IAP, 401): "Identity-Aware Proxy does not accept the token: add the ID of the OAuth client to "
    "console.programmatic_clients, and apply",
    (FrontEnd.IAP, 302): "Identity-Aware Proxy does not accept the token: sign in with `luci-scheduler login --client "
    "FILE`, with an OAuth client of console.programmatic_clients",
    (FrontEnd.IAP, 403): "Identity-Aware Proxy knows you and refuses you: add your account to console.members, "
    "and apply",
    (FrontEnd.CLOUD_RUN, 401): "Cloud Run does not accept the token: run `gcloud auth login`, then "
    "`luci-scheduler login` again",
    (FrontEnd.CLOUD_RUN, 403): "Cloud Run refuses you: add your account to console.members, and apply",
}
_OTHER = "HTTP {status} without a pRPC code: check that --url is the console's address (`terraform output console_url`)"
