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
_QUEUE_NAME = re.compile(rf"projects/{_PROJECT}/locations/{_LOCATION}/queues/{_QUEUE_ID}")
_TASK_NAME = re.compile(rf"projects/{_PROJECT}/locations/{_LOCATION}/queues/{_QUEUE_ID}/tasks/{_TASK_ID}")


def check_location(field: str, name: str) -> str:
    """Return ``name`` if it names a location; ``field`` is the field's name in the error.

    Raises:
        InvalidArgumentError: the name has another form.
    """
    if not _LOCATION_NAME.fullmatch(name):
        raise InvalidArgumentError(f"{field}: {name!r} is not of the form projects/PROJECT_ID/locations/LOCATION_ID")
    return name


def check_queue(field: str, name: str) -> str:
    """Return ``name`` if it names a queue (its ID has 1-100 letters, digits and hyphens).

    Raises:
        InvalidArgumentError: the name has another form.
    """
    if not _QUEUE_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{field}: {name!r} is not of the form projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID"
        )
    return name


def check_task(field: str, name: str) -> str:
    """Return ``name`` if it names a task (its ID has 1-500 letters, digits, hyphens and underscores).

    Raises:
        InvalidArgumentError: the name has another form.
    """
    if not _TASK_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{field}: {name!r} is not of the form projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID/tasks/TASK_ID"
        )
    return name


def queue_of(task_name: str) -> str:
    """Return the queue's name in a valid task name."""
    return task_name.rpartition("/tasks/")[0]


def short(name: str) -> str:
    """Return the ID, the last part of a resource name."""
    return name.rpartition("/")[2]
