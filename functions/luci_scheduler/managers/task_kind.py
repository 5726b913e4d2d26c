# ruff: noqa: ARG002 - the default of a method ignores its arguments
"""A task kind: one object that declares everything the scheduler needs to know about one kind of task.

To add a kind, write a subclass of `TaskKind` in a module or package of this folder and add an instance to
``registry.KINDS``. No other module names a kind.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.task_manager import TaskManager

__all__ = ["Fact", "PolledRepo", "Sized", "TaskCheck", "TaskKind"]


class Sized(Protocol):
    """A compiled pattern or set of patterns."""

    @property
    def size(self) -> int:
        """The number of instructions that the patterns compile to."""


class TaskCheck(Protocol):
    """The validation of one task block in a config. It records problems together with their lines.

    ``field`` names the field that has the problem; empty: the whole block. ``index`` is the entry of a repeated field.
    """

    era: Era
    """The era whose rules apply."""
    realm_id: str
    """``<project>:<realm>`` of the job."""
    strict: bool
    """Whether to refuse old forms that the scheduler can still read."""
    hosts: CommitHosts
    """The commit hosts of the installation."""

    def error(self, message: str, field: str = "", index: int = 0) -> None:
        """Record an error. A config with an error never becomes active."""

    def warning(self, message: str, field: str = "", index: int = 0) -> None:
        """Record a problem that the owner should fix but that the scheduler can work with."""

    def within(self, *elements: str) -> AbstractContextManager[None]:
        """Append elements to the path of every problem that is recorded inside the ``with`` block."""

    def message(self, field: str, index: int | None = None) -> AbstractContextManager[TaskCheck]:
        """Return the check of a nested message, whose name the path of every problem in the ``with`` block has.

        ``index`` is the place of the message in a repeated field. The path counts from 1: ``steps #2``.
        """

    def few(self, field: str, items: Sequence[object], most: int = ...) -> bool:
        """Whether a list has at most ``most`` entries; otherwise an error is recorded, and no entry needs a check.

        Without ``most``, the limit of all lists counts.
        """

    def pattern_problems(
        self, field: str, index: int, pattern: str, problems_of: Callable[[str], list[str]]
    ) -> list[str]:
        """Return the problems of one pattern, within the file's budget for compiling patterns."""

    def compile_together(self, field: str, patterns: tuple[str, ...], make: Callable[[], Sized]) -> None:
        """Check that valid patterns also compile as one, and count the result against the file's budget."""


@frozen
class PolledRepo:
    """A repository that a task polls. Its commits trigger other jobs, whether a poll or an event announces them."""

    url: str
    """The URL as the config spells it."""
    refs: tuple[str, ...]
    path_regexps: tuple[str, ...] = ()
    path_regexps_exclude: tuple[str, ...] = ()


@frozen
class Fact:
    """A row in the summary of the invocation page."""

    label: str
    text: str = ""
    url: str = ""
    """The target of the text's link; if there is a URL but no text, the page shows a text such as "Open the build"."""


class TaskKind(ABC):
    """One kind of task. Every method is pure, except that a manager talks to the outside world.

    Only `name`, `schema` and `manager` are required, and a field number so that a config can use the kind.
    """

    name: ClassVar[str]
    """The field in ``job {}`` or ``trigger {}`` blocks, and the kind in stored documents. Never change it."""
    schema: ClassVar[str]
    """The fields of the kind's message, each as ``number name type``; ``*`` after the type marks a repeated field."""
    messages: ClassVar[Mapping[str, str]] = {}
    """The messages inside the kind's message, each by its name, with fields as in `schema`. A job stores a nested
    message as a JSON object, without the fields that are not set."""
    job_field: ClassVar[int] = 0
    """The number of the kind's field in ``Job``; 0: a job cannot have such a task."""
    trigger_field: ClassVar[int] = 0
    """The number of the kind's field in ``Trigger``; 0: a trigger cannot have such a task."""
    is_multistage: ClassVar[bool] = False
    """Whether a launch leaves the invocation RUNNING. A task of a single stage ends with its launch."""
    retry_pause: ClassVar[int] = 0
    """The least pause between the end of a launch attempt and the next attempt, in nanoseconds. A kind needs one if its
    service may list a new task late. The claim of a launch is longer by it, because a process may die unnoticed."""
    noun: ClassVar[str] = "task"
    """The word for the external task, in sentences and labels on pages."""
    verbs: ClassVar[tuple[str, str]] = ("ran", "runs")
    """How the page about a commit describes a finished and an active invocation: "It ran in invocation …"."""

    @abstractmethod
    def manager(self, environment: Environment) -> TaskManager:
        """Return the manager that launches, watches and aborts invocations of this kind.

        The manager's module is imported here, because all functions load all kinds, and most need one manager.
        """

    def check(self, task: Any, check: TaskCheck) -> None:  # noqa: B027 - most kinds have rules, none is required
        """Validate a task block of a config; ``task`` is a message with the fields of `schema`."""

    def patterns(self, task: Any) -> Iterable[str]:
        """Return the regular expressions in a task block; a file may have a limited number of different ones."""
        return ()

    def launch_time(self, task: TaskDefinition) -> int:
        """Return how long a launch may block on the task itself, in nanoseconds; 0 if a launch is a few requests.

        A launch that blocks gets a separate queue task and a longer claim.
        """
        return 0

    def era(self, task: TaskDefinition, environment: Environment) -> Era:
        """Return the era whose wording and tags the task gets."""
        return Era.V2

    def polled_repo(self, task: TaskDefinition) -> PolledRepo | None:
        """Return the repository that the task polls; None if it polls nothing."""
        return None

    def definition_text(self, task: TaskDefinition) -> str:
        """Return a task as Go prints a text proto: ``field: <`` ... ``>``."""
        return "\n".join(_text_proto(task.kind, task.fields))

    def identity(self, task_data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of an invocation's task data that identifies the external task."""
        return dict(task_data)

    def facts(self, invocation: Invocation) -> Sequence[Fact]:
        """Return the rows that only this kind adds to the summary of the invocation page."""
        return (Fact(self.noun.capitalize(), url=invocation.view_url),)

    @property
    def message_name(self) -> str:
        """The name of the kind's message in the config schema, such as ``UrlFetchTask``."""
        return "".join(word.capitalize() for word in self.name.split("_")) + "Task"


def _text_proto(name: str, value: Any) -> list[str]:
    """Return the lines of a field: of a message, or of each item of a list."""
    match value:
        case Mapping():
            inside = [f"  {line}" for field, item in value.items() for line in _text_proto(field, item)]
            return [f"{name}: <", *inside, ">"]
        case list() | tuple():
            return [line for item in value for line in _text_proto(name, item)]
        case _:
            return [f"{name}: {quote(value) if isinstance(value, str) else json.dumps(value)}"]
