"""The two eras of LUCI Scheduler that this scheduler reproduces."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Era"]


class Era(StrEnum):
    """An era decides the wording of logs, the tags of builds and the times of status checks.

    Each era has one Buildbucket protocol and is named after it. A build belongs to the era of its server's protocol;
    a poll belongs to the era that the installation sets.
    """

    V1 = "v1"
    """February 2021: Buildbucket v1, a status check every minute."""

    V2 = "v2"
    """Today: Buildbucket v2 over pRPC, status checks at random intervals of one to ten minutes."""
