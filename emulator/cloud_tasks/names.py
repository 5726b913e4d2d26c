"""Resource names of Cloud Tasks: locations, queues and tasks."""

from __future__ import annotations

import re

from emulator.cloud_tasks.errors import InvalidArgumentError

__all__ = ["check_location", "check_queue", "check_task", "queue_of", "short"]

_PROJECT = r"[A-Za-z0-9.:\-]+"
_LOCATION = r"[A-Za-z0-9\-]+"
_QUEUE_ID = r"[A-Za-z0-9\-]{1,100}"
_TASK_ID = r"[A-Za-z0-9_\-]{1,500}"
_LOCATION_NAME = re.compile(rf"projects/{_PROJECT}/locations/{_LOCATION}")
_QUEUE_NAME = re.compile(rf"{_LOCATION_NAME.pattern}/queues/{_QUEUE_ID}")
_TASK_NAME = re.compile(rf"{_QUEUE_NAME.pattern}/tasks/{_TASK_ID}")
_LOCATION_FORM = "projects/PROJECT_ID/locations/LOCATION_ID"
_QUEUE_FORM = f"{_LOCATION_FORM}/queues/QUEUE_ID"
_TASK_FORM = f"{_QUEUE_FORM}/tasks/TASK_ID"


def check_location(field: str, name: str) -> str:
    """Return ``name`` if it names a location; ``field`` is the field's name in the error.

    Raises:
        InvalidArgumentError: the name has another form.
    """
    return _check(_LOCATION_NAME, _LOCATION_FORM, field, name)


def check_queue(field: str, name: str) -> str:
    """Return ``name`` if it names a queue (its ID has 1-100 letters, digits and hyphens).

    Raises:
        InvalidArgumentError: the name has another form.
    """
    return _check(_QUEUE_NAME, _QUEUE_FORM, field, name)


def check_task(field: str, name: str) -> str:
    """Return ``name`` if it names a task (its ID has 1-500 letters, digits, hyphens and underscores).

    Raises:
        InvalidArgumentError: the name has another form.
    """
    return _check(_TASK_NAME, _TASK_FORM, field, name)


def queue_of(task_name: str) -> str:
    """Return the queue's name in a valid task name."""
    return task_name.rpartition("/tasks/")[0]


def short(name: str) -> str:
    """Return the ID, the last part of a resource name."""
    return name.rpartition("/")[2]


def _check(pattern: re.Pattern[str], form: str, field: str, name: str) -> str:
    if not pattern.fullmatch(name):
        raise InvalidArgumentError(f"{field}: {name!r} is not of the form {form}")
    return name
