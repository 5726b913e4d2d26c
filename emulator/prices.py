"""List prices of everything that an installation pays for, and the free tiers.

A usage maps the name of a price to a number of its units. The prices are those of 2026-11 in us-central1, in dollars,
from the services' pricing pages. Check them there before you rely on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = [
    "FIRST_PRICE_OF_A_CONDITION",
    "FREE_IN_ACCOUNT",
    "FREE_IN_PROJECT",
    "PRICES",
    "Prices",
    "Usage",
    "cost",
    "times",
    "total",
    "without_free",
]

_MILLION = 1e6
_DAYS = 30

Usage = Mapping[str, float]
"""Name of a field of `Prices` → number of units."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Price in dollars of one unit of each resource."""

    firestore_read: float = 0.03 / 100_000
    firestore_write: float = 0.09 / 100_000
    firestore_delete: float = 0.01 / 100_000
    """Expired documents are billed as deletes."""
    firestore_gib_month: float = 0.15
    backup_gib_month: float = 0.03
    recovery_gib_month: float = 0.15
    """Old versions for point-in-time recovery."""
    task_operation: float = 0.40 / _MILLION
    request: float = 0.40 / _MILLION
    cpu_second: float = 0.000024
    gib_second: float = 0.0000025
    scheduler_job_month: float = 0.10
    secret_version_month: float = 0.06
    secret_access: float = 0.03 / 10_000
    message_gib: float = 40 / 1024
    """Pub/Sub's throughput: a message is counted when it is published and when it is delivered."""
    log_gib: float = 0.50
    """One charge, which includes thirty days of storage."""
    alert_condition_month: float = 0.10
    """The announced price. The first published price was `FIRST_PRICE_OF_A_CONDITION`."""
    alert_point: float = 0.35 / _MILLION
    """One time series that one evaluation of a condition returns."""
    metric_mib: float = 0.258
    """Metrics that are computed from logs."""
    build_minute: float = 0.006
    """Cloud Build, machine type e2-standard-2."""
    image_gb_month: float = 0.10
    bucket_gib_month: float = 0.02
    sent_gib: float = 0.12
    """Data that leaves Google Cloud. Traffic to Gitiles and Buildbucket is counted so, which is an upper bound."""
    forwarding_rule_hour: float = 0.025
    connector_machine_hour: float = 0.00838
    """An e2-micro machine of a VPC connector."""
    key_version_month: float = 0.06
    key_operation: float = 0.03 / 10_000


PRICES = Prices()

FIRST_PRICE_OF_A_CONDITION = 1.50
"""Dollars a month for a condition of an alert in the first published price list."""

FREE_IN_PROJECT: Usage = {
    "firestore_read": 50_000 * _DAYS,
    "firestore_write": 20_000 * _DAYS,
    "firestore_gib_month": 1,
    "log_gib": 50,
}
"""Units a month that each project has for free. Firestore grants them to one database of the project, the first one.
Deletes of expired documents, backups and old versions are never free."""

FREE_IN_ACCOUNT: Usage = {
    "task_operation": 1e6,
    "request": 2e6,
    "cpu_second": 180_000,
    "gib_second": 360_000,
    "scheduler_job_month": 3,
    "secret_version_month": 6,
    "secret_access": 10_000,
    "message_gib": 10,
    "metric_mib": 150,
    "build_minute": 2_500,
    "image_gb_month": 0.5,
    "bucket_gib_month": 5,
    "sent_gib": 1,
}
"""Units a month that all projects of a billing account share."""


def cost(usage: Usage, prices: Prices = PRICES) -> float:
    """Return the list price of a usage, in dollars."""
    return float(sum(units * getattr(prices, name) for name, units in usage.items()))


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of usages."""
    summed: Counter[str] = Counter()
    for usage in usages:
        summed.update(usage)
    return summed


def times(factor: float, usage: Usage) -> Usage:
    """Return a usage that happens several times."""
    return {name: factor * units for name, units in usage.items()}


def without_free(usage: Usage, *tiers: Usage) -> Usage:
    """Return the part of a month's usage that exceeds free tiers. Each tier grants different resources."""
    free = total(tiers)
    return {name: max(0.0, units - free.get(name, 0)) for name, units in usage.items()}
