"""What may stand between the parts of a local cloud: nothing, unless somebody wants to listen in or to interfere."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NoWires", "Wires"]


class Wires(Protocol):
    """Asked once for each server when a local cloud starts: under which address shall the others reach it?

    Names are those of the functions (HTTP), ``buildbucket`` (HTTP), ``firestore`` and ``cloud_tasks`` (gRPC). People's way to the
    pages is never asked for.
    """

    def http(self, name: str, url: str) -> str:
        """Return the base URL to hand out for the server at the base URL ``url``, which need not listen yet."""

    def grpc(self, name: str, address: str) -> str:
        """Return the ``host:port`` to hand out for the server at ``address``, which need not listen yet."""


class NoWires:
    """Everybody is reached directly."""

    def http(self, name: str, url: str) -> str:  # noqa: ARG002 - as the protocol has it
        """Return ``url``."""
        return url

    def grpc(self, name: str, address: str) -> str:  # noqa: ARG002 - as the protocol has it
        """Return ``address``."""
        return address
