"""The rules that an installation sets for the configs of its projects."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConfigRules"]


@dataclass(frozen=True, slots=True)
class ConfigRules:
    """Rules for every project's config; the defaults are those of the settings."""

    lenient_triggers: bool = False
    """Whether an unknown job in ``triggers`` is a warning and left out, as in the original; otherwise it is an error."""
    max_active_invocations: int = 20_000
    """Invocations that one project's jobs may have at a time: the sum of ``max_concurrent_invocations``."""
    max_pending_triggers: int = 5_000_000
    """Pending triggers that one project's jobs keep: each job gets an equal share, at most the original's 1,000."""
