"""Checks, their results, and the order in which they run. Pure, except for the clock that limits them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from luci_scheduler.adapters.sockets import bounded
from luci_scheduler.cli.errors import CommandError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.untrusted import PARSER_ERRORS

__all__ = ["Check", "FailedError", "NotCheckedError", "Outcome", "Result", "run_checks"]


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """The command lacks the credentials or the rights for the check."""
    NOT_RUN = "not run"
    """The check needs another check, which did not succeed, or no time was left."""


@frozen
class Result:
    """The result of one check."""

    name: str
    outcome: Outcome
    text: str
    remedy: str = ""
    """The action that mends the fault; usually a command."""


class FailedError(Exception):
    """A check has found a fault."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


class NotCheckedError(FailedError):
    """A check cannot be made with the credentials of this machine."""


@frozen
class Check:
    """A check of one part of an installation."""

    name: str
    run: Callable[[], str]
    """Returns the text for a good part; raises `FailedError`, `NotCheckedError` or ``CommandError``."""
    needs: tuple[str, ...] = ()
    """Names of earlier checks. If one of them has failed or was not run, this check is not run."""
    seconds: float = 30.0
    """The limit of the check."""


def run_checks(checks: Sequence[Check], seconds: float, now: Callable[[], float] = time.monotonic) -> Iterator[Result]:
    """Run checks in order, and yield each result when it is known.

    Args:
        checks: each names only earlier checks in ``needs``.
        seconds: the limit of all checks together.
        now: the seconds of a clock that only runs forward.
    """
    end = now() + seconds
    done: dict[str, Outcome] = {}
    for check in checks:
        result = _run(check, done, end - now(), seconds)
        done[check.name] = result.outcome
        yield result


def _run(check: Check, done: dict[str, Outcome], left: float, total: float) -> Result:
    broken = [name for name in check.needs if done[name] in (Outcome.FAILED, Outcome.NOT_RUN)]
    if broken:
        return Result(check.name, Outcome.NOT_RUN, f"not run, because {_joined(broken)} did not succeed")
    if left <= 0:
        text = f"not run, because the time limit of {total:g} s is used up"
        return Result(check.name, Outcome.NOT_RUN, text, "raise --timeout")
    limit = min(check.seconds, left)
    try:
        return Result(check.name, Outcome.OK, bounded(check.run, limit))
    except NotCheckedError as error:
        return Result(check.name, Outcome.NOT_CHECKED, str(error), error.remedy)
    except FailedError as error:
        return Result(check.name, Outcome.FAILED, str(error), error.remedy)
    except CommandError as error:
        return Result(check.name, Outcome.FAILED, str(error))
    except TimeoutError:
        return Result(check.name, Outcome.FAILED, f"no result within {limit:.0f} s", "run the command again")
    except PARSER_ERRORS as error:  # the console or Google has sent another document than this command knows
        text = f"an answer cannot be understood ({type(error).__name__})"
        return Result(check.name, Outcome.FAILED, text, "use the command of the installation's own version")


def _joined(names: Sequence[str]) -> str:
    return " and ".join(names)
