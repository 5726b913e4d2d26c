"""The errors of a replay.

::

    ReplayError          the functions did not accept a delivery: the answer, and the reason from their log
    └── ScenarioError    the scenario is not of the schema, or does not fit what the scheduler does
"""

from __future__ import annotations

__all__ = ["ReplayError", "ScenarioError"]


class ReplayError(Exception):
    """A replay did not reach its end; the message is one line and names the delivery."""


class ScenarioError(ReplayError):
    """The scenario is invalid, or does not fit the scheduler's behavior; the message names the place."""
