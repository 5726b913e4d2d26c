"""Where the programs of a build run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Workplace"]


@dataclass(frozen=True, slots=True)
class Workplace:
    """The commit at which a build runs, and how its folder gets its files.

    Attributes:
        commit: ``host``, ``project``, ``ref`` and ``id``; any may be missing.
        prepare: a program that runs in the empty folder before the build's program; none if empty.
        prepare_env: its whole environment.
        notes: lines for the build's output, before that.
    """

    commit: Mapping[str, Any]
    prepare: tuple[str, ...] = ()
    prepare_env: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
