"""The rules for task blocks that hold for every task kind. A kind's own rules are in its `TaskKind.check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from google.protobuf.message import Message

from luci_scheduler.config.places import Place
from luci_scheduler.config.problems import Report
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.core.sizes import MAX_TASK_BYTES, json_bytes
from luci_scheduler.managers import registry
from luci_scheduler.managers.task_kind import Sized, TaskKind

__all__ = ["MAX_ENTRIES", "MAX_INSTRUCTIONS", "Programs", "TaskRules", "task_blocks", "task_fields"]

MAX_ENTRIES = 1000
"""The maximum number of entries of one list in a task: refs, path patterns, properties, tags."""

MAX_INSTRUCTIONS = 2_000_000
"""The limit of instructions that all patterns of a file compile to: about a second. The largest real config has 300."""

_REFUSED_INSTRUCTIONS = 40_000  # about as many fit into the memory that RE2 may use


def task_blocks(item: Any) -> list[tuple[TaskKind, Any]]:
    """Return the task blocks of a ``Job`` or ``Trigger`` message, each with its kind; a valid definition has one."""
    known = item.DESCRIPTOR.fields_by_name
    return [
        (kind, getattr(item, kind.name)) for kind in registry.KINDS if kind.name in known and item.HasField(kind.name)
    ]


def task_fields(task: Any) -> dict[str, Any]:
    """Return the fields of a task as a job keeps them: only fields that are set, with lists as lists.

    A nested message becomes an object of its fields.
    """
    values = {
        field.name: [_stored(item) for item in getattr(task, field.name)]
        if field.is_repeated
        else _stored(getattr(task, field.name))
        for field in task.DESCRIPTOR.fields
    }
    return {name: value for name, value in values.items() if value}


def _stored(value: Any) -> Any:
    return task_fields(value) if isinstance(value, Message) else value


class Programs:
    """Counts the instructions that the patterns of a file compile to.

    Past the limit it reports one error and compiles no more patterns.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seen: set[tuple[str, ...]] = set()
        self._instructions = 0

    @property
    def are_too_large(self) -> bool:
        """Whether the file is past the limit."""
        return self._instructions > MAX_INSTRUCTIONS

    def add(self, place: Place, patterns: tuple[str, ...], instructions: int) -> None:
        """Count the program of patterns that are used together. The same patterns count once."""
        if patterns in self._seen or self.are_too_large:
            return
        self._seen.add(patterns)
        self._instructions += instructions
        if self.are_too_large:
            message = f"the patterns of the file compile to more than {MAX_INSTRUCTIONS} instructions: simplify them"
            self._report.error(place, message)

    def refusals(self, place: Place, pattern: str, problems_of: Callable[[str], list[str]]) -> list[str]:
        """Return the problems of one pattern.

        A pattern that RE2 refuses as too large costs as much as the largest accepted pattern.
        """
        if self.are_too_large:
            return []
        problems = problems_of(pattern)
        if any("too large" in problem for problem in problems):
            self.add(place, (pattern,), _REFUSED_INSTRUCTIONS)
        return problems


class _BlockCheck:
    """The check of one task block; implements `luci_scheduler.managers.task_kind.TaskCheck`."""

    def __init__(
        self,
        report: Report,
        place: Place,
        programs: Programs,
        era: Era,
        realm_id: str,
        hosts: CommitHosts,
        *,
        strict: bool,
    ) -> None:
        self._report = report
        self._place = place
        self._programs = programs
        self.era = era
        self.realm_id = realm_id
        self.strict = strict
        self.hosts = hosts

    def error(self, message: str, field: str = "", index: int = 0) -> None:
        self._report.error(self._at(field, index), message)

    def warning(self, message: str, field: str = "", index: int = 0) -> None:
        self._report.warning(self._at(field, index), message)

    def within(self, *elements: str) -> AbstractContextManager[None]:
        return self._report.at(*elements)

    @contextmanager
    def message(self, field: str, index: int | None = None) -> Iterator[_BlockCheck]:
        name = field if index is None else f"{field} #{index + 1}"
        place = self._at(field, index or 0)
        with self._report.at(name):
            rules = (self._programs, self.era, self.realm_id, self.hosts)
            yield _BlockCheck(self._report, place, *rules, strict=self.strict)

    def few(self, field: str, items: Sequence[object], most: int = MAX_ENTRIES) -> bool:
        if len(items) <= most:
            return True
        self.error(f"{len(items)} '{field}' are given, at most {most} are allowed", field, most)
        return False

    def pattern_problems(
        self, field: str, index: int, pattern: str, problems_of: Callable[[str], list[str]]
    ) -> list[str]:
        return self._programs.refusals(self._at(field, index), pattern, problems_of)

    def compile_together(self, field: str, patterns: tuple[str, ...], make: Callable[[], Sized]) -> None:
        if self._programs.are_too_large:
            return
        place = self._at(field)
        try:
            self._programs.add(place, patterns, make().size)
        except BadRegexpError as error:
            self._programs.add(place, patterns, _REFUSED_INSTRUCTIONS)
            self._report.error(place, f"the patterns are not valid as one regexp: {error}")

    def _at(self, field: str, index: int = 0) -> Place:
        return self._place.at(field, index=index) if field else self._place


class TaskRules:
    """Checks the task of one definition. Problems go into the report under its current path."""

    def __init__(
        self, report: Report, era: Era, realm_id: str, programs: Programs, hosts: CommitHosts, *, strict: bool
    ) -> None:
        """Make the rules.

        Args:
            report: collects the problems.
            era: the era whose rules apply.
            realm_id: ``<project>:<realm>`` of the definition.
            programs: counts the compiled patterns of the whole file.
            hosts: the commit hosts of the installation.
            strict: whether to refuse old bucket names, as today's LUCI does; otherwise they get a warning.
        """
        self._report = report
        self._era = era
        self._realm_id = realm_id
        self._programs = programs
        self._strict = strict
        self._hosts = hosts

    def check(self, item: Any, place: Place) -> None:
        """Check that a definition has exactly one task, then check that task."""
        blocks = task_blocks(item)
        if not blocks:
            self._report.error(place, f"can't find a recognized task definition inside {item.DESCRIPTOR.name}")
            return
        if len(blocks) > 1:
            names = [kind.name for kind, _ in blocks]
            message = "only one field with task definition must be set, at least two are given"
            self._report.error(place.at(names[1]), f"{message} ({', '.join(names)})")
            return
        kind, task = blocks[0]
        at = place.at(kind.name)
        with self._report.at("task"):
            rules = (self._programs, self._era, self._realm_id, self._hosts)
            kind.check(task, _BlockCheck(self._report, at, *rules, strict=self._strict))
            self._check_size(task, at)

    def _check_size(self, task: Any, place: Place) -> None:
        size = json_bytes(task_fields(task))
        if size > MAX_TASK_BYTES:
            self._report.error(place, f"the task has {size} bytes, at most {MAX_TASK_BYTES} are allowed")
