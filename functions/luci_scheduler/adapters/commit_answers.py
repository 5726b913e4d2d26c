"""Answers of commit hosts: the parts of reading them that the clients of Gitiles and GitHub share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import structlog
from google.auth.exceptions import GoogleAuthError

from luci_scheduler.adapters.http import Deadline, TooLargeError
from luci_scheduler.core.foreign_text import sanitized
from luci_scheduler.ports import GitilesError

__all__ = [
    "MAX_AUTHOR",
    "MAX_BODY_BYTES",
    "MAX_SUBJECT",
    "AnswerTooLargeError",
    "broken",
    "line_of",
    "note_unreadable",
    "port_errors",
]

MAX_BODY_BYTES = 16 << 20
"""The limit of an unpacked answer. 30,000 refs, which only the largest repositories have, take about 3 MiB."""

MAX_AUTHOR = 100  # characters
MAX_SUBJECT = 200  # characters; most projects limit it to 72
_MAX_READ = 2000  # characters of a text that are searched for its first line
_logger = structlog.stdlib.get_logger("luci_scheduler")


class AnswerTooLargeError(GitilesError):
    """An answer does not fit into the memory of a function. The same request would have it again."""

    def __init__(self, message: str) -> None:
        super().__init__("INTERNAL", message, transient=False)


def broken(reason: str) -> GitilesError:
    """Return the error of an answer with another shape than the host describes."""
    return GitilesError("INTERNAL", reason, transient=True)


@contextmanager
def port_errors(deadline: Deadline) -> Iterator[None]:
    """Turn each failure of a request, and of the reading of its answer, into an error of the port.

    Raises:
        GitilesError: no answer by the deadline, or an unreadable answer; AnswerTooLargeError if it is too large.
    """
    try:
        yield
    except (requests.RequestException, GoogleAuthError) as error:  # some are ValueErrors, whose texts quote headers
        raise _no_answer(error, late=deadline.passed) from error
    except ValueError as error:
        raise broken(str(error)) from error
    except TooLargeError as error:
        raise AnswerTooLargeError(str(error)) from error


def _no_answer(error: Exception, *, late: bool) -> GitilesError:
    # The library's text may hold the URL, but never the headers. The error's name suffices.
    name = type(error).__name__
    if late or isinstance(error, requests.Timeout):
        return GitilesError("DEADLINE_EXCEEDED", "no complete answer in time", transient=True)
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return broken(f"the answer broke off: {name}")
    return GitilesError("UNKNOWN", f"no answer: {name}", transient=True)


def line_of(text: Any, most: int) -> str:
    """Return the first line of a text that a committer wrote, for people: without secrets, at most ``most`` long."""
    lines = text[:_MAX_READ].strip().splitlines() if isinstance(text, str) else []
    line = sanitized(lines[0]) if lines else ""
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def note_unreadable(identifier: str, part: str) -> None:
    """Log that a part of a commit could not be read: its ``time`` or its ``paths``."""
    _logger.warning("commit_unreadable", revision=identifier, part=part)
