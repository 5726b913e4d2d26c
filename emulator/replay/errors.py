"""The errors of a replay.

::

    ReplayError          the functions did not accept a delivery: the answer, and the reason from their log
    └── ScenarioError    the scenario is not of the schema, or does not fit what the scheduler does
"""

from __future__ import annotations

__all__ = ["FunctionDied", "ReplayError", "ScenarioError"]


class ReplayError(Exception):
    """A replay did not reach its end; the message is one line and names the delivery.

    ``located`` says that the message begins with its place in the scenario.
    """

    def __init__(self, text: str, *, located: bool = False) -> None:
        super().__init__(text)
        self.located = located


class ScenarioError(ReplayError):
    """The scenario is invalid, or does not fit the scheduler's behavior; the message names the place."""


class FunctionDied(BaseException):
    """The process of a function dies here, because the scenario says so."""
