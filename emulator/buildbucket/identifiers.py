"""Names and identifiers of Buildbucket: builders, buckets, build IDs."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from luci_scheduler.core.instants import MILLISECOND

__all__ = ["ANONYMOUS", "BuilderId", "Era", "build_id_at", "created_at", "parse_v1_bucket"]

Era = Literal["v1", "v2"]
ANONYMOUS = "anonymous:anonymous"
"""The identity of a caller without credentials."""

EPOCH_2010_MS = 1_262_304_000_000
_TIME_MASK = (1 << 43) - 1
# The service numbered v1 IDs with version 0, and numbers v2 IDs with version 1.
_VERSION_BITS: dict[Era, int] = {"v1": 0, "v2": 1}

_V1_BUCKET = re.compile(r"^luci\.(?P<project>[a-z0-9\-_]+)\.(?P<bucket>[a-z0-9\-_.]{1,100})$")
_SHORT_BUCKET = re.compile(r"^(?P<project>[a-z0-9\-_]+)/(?P<bucket>[a-z0-9\-_.]{1,100})$")


@dataclass(frozen=True, slots=True, order=True)
class BuilderId:
    """A builder's full name; ``str`` gives ``project/bucket/builder``."""

    project: str
    bucket: str
    builder: str

    def __str__(self) -> str:
        return f"{self.project}/{self.bucket}/{self.builder}"

    @property
    def bucket_name(self) -> str:
        """The bucket's name in the v2 API: ``project/bucket``."""
        return f"{self.project}/{self.bucket}"

    @property
    def v1_bucket(self) -> str:
        """The bucket's name in the v1 API: ``luci.project.bucket``."""
        return f"luci.{self.project}.{self.bucket}"

    def to_json(self) -> dict[str, str]:
        """Return the ``BuilderID`` message."""
        return {"project": self.project, "bucket": self.bucket, "builder": self.builder}


def build_id_at(instant: int, entropy: random.Random, era: Era) -> int:
    """Return a new build ID: 43 bits of inverted milliseconds since 2010, 16 random bits, 4 bits of version.

    IDs decrease over time, so the newest build has the smallest ID.
    """
    milliseconds = instant // MILLISECOND - EPOCH_2010_MS
    return ((~milliseconds & _TIME_MASK) << 20) | (entropy.getrandbits(16) << 4) | _VERSION_BITS[era]


def created_at(build_id: int) -> int:
    """Return the creation time that a build ID contains, in nanoseconds, exact to the millisecond."""
    return ((~(build_id >> 20) & _TIME_MASK) + EPOCH_2010_MS) * MILLISECOND


def parse_v1_bucket(bucket: str) -> tuple[str, str] | None:
    """Split ``luci.project.bucket`` or ``project/bucket``; None if the name has neither form.

    Project names contain no dot, so the project ends at the first dot after ``luci.``.
    """
    match = _V1_BUCKET.match(bucket) or _SHORT_BUCKET.match(bucket)
    return (match["project"], match["bucket"]) if match else None
