"""The two eras of LUCI Scheduler that can be reproduced, each with the Buildbucket protocol of its time."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Era"]


class Era(StrEnum):
    """What decides wording, tags and check intervals; it follows from the protocol of the job's Buildbucket server."""

    V1 = "v1"
    """February 2021: Buildbucket v1, checks every minute."""

    V2 = "v2"
    """Today: Buildbucket v2 over pRPC, checks at random within one to ten minutes."""
