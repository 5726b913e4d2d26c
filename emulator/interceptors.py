"""Interceptors: relays that a test or `chaos` puts between the parts of a local cloud, to observe or disturb them."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Interceptors", "NoInterceptors"]


class Interceptors(Protocol):
    """Chooses the addresses under which the parts of a local cloud reach each other; called once for each server.

    The names are the functions (HTTP), ``buildbucket`` (HTTP), ``firestore`` and ``cloud_tasks`` (gRPC). Browsers
    reach the console directly.
    """

    def http(self, name: str, url: str) -> str:
        """Return the base URL to hand out for the server at the base URL ``url``, which need not listen yet."""

    def grpc(self, name: str, address: str) -> str:
        """Return the ``host:port`` to hand out for the server at ``address``, which need not listen yet."""


class NoInterceptors:
    """Connects all parts directly."""

    def http(self, name: str, url: str) -> str:  # noqa: ARG002 - as the protocol has it
        """Return ``url``."""
        return url

    def grpc(self, name: str, address: str) -> str:  # noqa: ARG002 - as the protocol has it
        """Return ``address``."""
        return address
