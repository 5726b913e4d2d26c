"""The Cloud Run services of a local cloud: where they are, and who may call them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

__all__ = ["INVOKER", "Ingress", "Network", "Service", "Services", "is_member"]

INVOKER = "roles/run.invoker"
_EVERYONE = "allUsers"


class Ingress(Enum):
    """From which networks requests reach a service; the values are those of the Run Admin API."""

    ALL = "INGRESS_TRAFFIC_ALL"
    INTERNAL = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    LOAD_BALANCER = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"


class Network(Enum):
    """Where a request comes from."""

    INTERNET = "internet"
    INTERNAL = "internal"
    """Cloud Tasks, Cloud Scheduler and Pub/Sub of the same project."""
    LOAD_BALANCER = "load balancer"


_ADMITTED = {
    Ingress.ALL: frozenset(Network),
    Ingress.INTERNAL: frozenset({Network.INTERNAL}),
    Ingress.LOAD_BALANCER: frozenset({Network.INTERNAL, Network.LOAD_BALANCER}),
}


@dataclass(frozen=True, slots=True)
class Service:
    """One service. Changes replace it: see `Services.change`."""

    name: str
    uri: str
    """Its address, which is also the audience of tokens for it."""
    ingress: Ingress
    invokers: frozenset[str]
    """The members of `INVOKER`, as in an IAM policy."""
    custom_audiences: tuple[str, ...] = ()
    invoker_iam_disabled: bool = False
    """Whether the check of callers is off; then the members do not matter."""
    iap_enabled: bool = False

    @property
    def is_public(self) -> bool:
        """Whether requests pass without a check."""
        return self.invoker_iam_disabled or _EVERYONE in self.invokers

    def admits(self, network: Network) -> bool:
        """Return whether requests from a network reach it."""
        return network in _ADMITTED[self.ingress]

    def invites(self, email: str) -> bool:
        """Return whether an account may call it."""
        return is_member(email, self.invokers)


def is_member(email: str, members: Collection[str]) -> bool:
    """Return whether an account is one of the members of a role."""
    domain = f"domain:{email.partition('@')[2]}"
    names = (f"user:{email}", f"serviceAccount:{email}", domain, "allAuthenticatedUsers", _EVERYONE)
    return any(name in members for name in names)


@dataclass(slots=True)
class Services:
    """The services of a project by name. The front end and the Run Admin API read the same state. Thread-safe."""

    project: str
    location: str
    _services: dict[str, Service] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, services: Iterable[Service]) -> None:
        """Add services."""
        with self._lock:
            self._services.update({service.name: service for service in services})

    def get(self, name: str) -> Service:
        """Return a service.

        Raises:
            KeyError: there is none of that name.
        """
        with self._lock:
            return self._services[name]

    def change(self, name: str, **changes: Any) -> None:
        """Change members of a service, such as ``invokers`` or ``invoker_iam_disabled``."""
        with self._lock:
            self._services[name] = replace(self._services[name], **changes)

    def open(self, name: str) -> None:
        """Give the invoker role to ``allUsers``, as a mistake in IAM does."""
        self.change(name, invokers=self.get(name).invokers | {_EVERYONE})
