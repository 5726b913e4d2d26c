"""What a task must be like, kind by kind; the messages are the original's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from luci_scheduler.config.places import Place
from luci_scheduler.config.problems import Report
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.kv_lists import check_kv_list, unpack_kv_list
from luci_scheduler.core.path_filter import compose
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.ref_validation import ANCHORS, REGEXP, is_anchored, ref_problems
from luci_scheduler.core.regexps import BadRegexpError, Pattern, compile_regexp
from luci_scheduler.core.sizes import MAX_TASK_BYTES, json_bytes
from luci_scheduler.managers.buildbucket.builder_id import builder_id, canonical_bucket

__all__ = ["MAX_ENTRIES", "MAX_ENTRY", "MAX_INSTRUCTIONS", "TASKS", "Programs", "TaskRules", "task_fields"]

TASKS = ("noop", "url_fetch", "gitiles", "buildbucket")
"""Fields of a definition that hold a task."""
MAX_ENTRIES = 1000
"""Of a list within one task (refs, path patterns, properties, tags)."""
MAX_ENTRY = 2000
"""Characters of an entry of such a list, but for properties and tags, which Buildbucket limits."""

MAX_INSTRUCTIONS = 2_000_000
"""Of the programs that all patterns of a file compile to: about a second. The largest real config has 300."""

_REFUSED_INSTRUCTIONS = 40_000  # about as many fit into the memory that RE2 may use
_TIMEOUT_SECONDS = (1, 480)
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_RESERVED_TAGS = {
    Era.V1: ("scheduler_invocation_id", "scheduler_job_id", "user_agent", "builder"),
    Era.V2: ("scheduler_invocation_id", "scheduler_job_id", "user_agent"),
}


def task_fields(task: Any) -> dict[str, Any]:
    """Return the fields of a task as a job keeps them: those that are set, lists as lists."""
    values = {
        field.name: list(getattr(task, field.name)) if field.is_repeated else getattr(task, field.name)
        for field in task.DESCRIPTOR.fields
    }
    return {name: value for name, value in values.items() if value}


class Programs:
    """Counts the instructions that the patterns of a file compile to. Above the limit there is one error, and no more patterns are compiled."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seen: set[tuple[str, ...]] = set()
        self._instructions = 0

    @property
    def are_too_large(self) -> bool:
        """Whether the limit is passed."""
        return self._instructions > MAX_INSTRUCTIONS

    def add(self, place: Place, patterns: tuple[str, ...], instructions: int) -> None:
        """Count the program of some patterns that are used together; the same ones count once."""
        if patterns in self._seen or self.are_too_large:
            return
        self._seen.add(patterns)
        self._instructions += instructions
        if self.are_too_large:
            message = f"the patterns of the file compile to more than {MAX_INSTRUCTIONS} instructions: simplify them"
            self._report.error(place, message)

    def refusals(self, place: Place, pattern: str, problems_of: Callable[[str], list[str]]) -> list[str]:
        """Return the problems of one pattern. A pattern that RE2 refuses as too large took as long as the largest that it accepts."""
        if self.are_too_large:
            return []
        problems = problems_of(pattern)
        if any("too large" in problem for problem in problems):
            self.add(place, (pattern,), _REFUSED_INSTRUCTIONS)
        return problems


class TaskRules:
    """Checks the task of one definition; problems go into the report under its present path."""

    def __init__(self, report: Report, era: Era, realm_id: str, programs: Programs, *, strict: bool) -> None:
        """Make the rules.

        Args:
            report: gathers what is found.
            era: whose rules hold.
            realm_id: ``<project>:<realm>`` of the definition.
            programs: counts the compiled patterns of the whole file.
            strict: whether today's refusal of old bucket names holds too; else they are read and warned about.
        """
        self._report = report
        self._era = era
        self._realm_id = realm_id
        self._programs = programs
        self._strict = strict

    def check(self, item: Any, place: Place) -> None:
        """Check that a definition has exactly one task, and that task."""
        kinds = [kind for kind in TASKS if kind in item.DESCRIPTOR.fields_by_name and item.HasField(kind)]
        if not kinds:
            self._report.error(place, f"can't find a recognized task definition inside {item.DESCRIPTOR.name}")
        elif len(kinds) > 1:
            given = ", ".join(kinds)
            self._report.error(
                place.at(kinds[1]), f"only one field with task definition must be set, at least two are given ({given})"
            )
        else:
            checks: dict[str, Callable[[Any, Place], None]] = {
                "url_fetch": self._url_fetch,
                "gitiles": self._gitiles,
                "buildbucket": self._buildbucket,
            }
            task, at = getattr(item, kinds[0]), place.at(kinds[0])
            with self._report.at("task"):
                if kinds[0] in checks:
                    checks[kinds[0]](task, at)
                self._size(task, at)

    def _size(self, task: Any, place: Place) -> None:
        size = json_bytes(task_fields(task))
        if size > MAX_TASK_BYTES:
            self._report.error(place, f"the task has {size} bytes, at most {MAX_TASK_BYTES} are allowed")

    def _url_fetch(self, task: Any, place: Place) -> None:
        least, most = _TIMEOUT_SECONDS
        if task.method not in ("", "GET"):
            self._report.error(place.at("method"), f"unsupported HTTP method: {quote(task.method)}")
        self._url(task.url, "url", place.at("url"))
        if task.timeout_sec and task.timeout_sec < least:
            message = f"minimum allowed 'timeout_sec' is {least} sec, got {task.timeout_sec}"
            self._report.error(place.at("timeout_sec"), message)
        if task.timeout_sec > most:
            message = f"maximum allowed 'timeout_sec' is {most} sec, got {task.timeout_sec}"
            self._report.error(place.at("timeout_sec"), message)

    def _url(self, url: str, name: str, place: Place) -> None:
        if not url:
            self._report.error(place, f"field '{name}' is required")
            return
        fault = _url_fault(url)
        if fault:
            self._report.error(place, f"invalid URL {quote(url)}: {fault}")
        elif not _SCHEME.match(url):
            self._report.error(place, f"not an absolute url: {quote(url)}")

    def _buildbucket(self, task: Any, place: Place) -> None:
        self._server(task.server, place.at("server"))
        self._bucket(task, place.at("bucket"))
        if not task.builder:
            self._report.error(place.at("builder"), "'builder' field is required")
        self._key_values("property", "properties", task.properties, place)
        if self._key_values("tag", "tags", task.tags, place):
            for index, (key, _) in enumerate(unpack_kv_list(task.tags)):
                if key in _RESERVED_TAGS[self._era]:
                    self._report.error(place.at("tags", index=index), f"tag {quote(key)} is reserved")

    def _server(self, server: str, place: Place) -> None:
        if not server:
            self._report.error(place, "field 'server' is required")
        elif "//" in server:
            self._report.error(place, f"field 'server' should be just a host, not a URL: {quote(server)}")
        elif not _HOST.fullmatch(server):
            self._report.error(place, f"field 'server' is not a valid hostname {quote(server)}")

    def _bucket(self, task: Any, place: Place) -> None:
        if self._era is Era.V1:
            if not task.bucket:
                self._report.error(place, "'bucket' field is required")
            return
        bucket = task.bucket if self._strict else canonical_bucket(task.bucket)
        try:
            builder_id(self._realm_id, bucket, task.builder)
        except PermanentError as error:
            self._report.error(place, str(error))
        if bucket != task.bucket:
            message = (
                f"the bucket name {quote(task.bucket)} has the form of Buildbucket v1; it is read as {quote(bucket)}"
            )
            self._report.warning(place, message)

    def _key_values(self, kind: str, name: str, items: Sequence[str], place: Place) -> bool:
        with self._report.at(name):
            try:
                check_kv_list(kind, items)
            except PermanentError as error:
                first = next(index for index, item in enumerate(items) if ":" not in item)
                self._report.error(place.at(name, index=first), str(error))
                return False
        return self._few(name, items, place)

    def _gitiles(self, task: Any, place: Place) -> None:
        with self._report.at("repo"):
            if task.repo:
                self._url(task.repo, "repository", place.at("repo"))
            else:
                self._report.error(place.at("repo"), "field 'repository' is required")
        if self._few("refs", task.refs, place):
            self._refs(task.refs, place)
        if not task.refs:
            self._report.warning(place, "no 'refs' are given: nothing is watched")
        for name in ("path_regexps", "path_regexps_exclude"):
            if self._few(name, getattr(task, name), place):
                self._path_regexps(name, getattr(task, name), place)
        if task.path_regexps_exclude and not task.path_regexps:
            self._report.error(
                place.at("path_regexps_exclude"),
                "Specifying path_regexps_exclude not allowed without at least one path_regexps",
            )

    def _refs(self, refs: Sequence[str], place: Place) -> None:
        sound = True
        with self._report.at("refs"):
            for index, ref in enumerate(refs):
                problems = self._programs.refusals(place.at("refs", index=index), ref, _ref_problems)
                sound = sound and not problems
                with self._report.at(*([ref] if ref.startswith(REGEXP) else [])):
                    self._report.errors(place.at("refs", index=index), problems)
            if sound:
                self._together(place.at("refs"), ("refs", *refs), lambda: ref_set(tuple(refs)))

    def _path_regexps(self, name: str, patterns: Sequence[str], place: Place) -> None:
        sound = True
        for index, pattern in enumerate(patterns):
            problems = self._programs.refusals(place.at(name, index=index), pattern, _path_regexp_problems)
            sound = sound and not problems
            with self._report.at(f"{name} {quote(pattern)}"):
                self._report.errors(place.at(name, index=index), problems)
        if sound and patterns:
            with self._report.at(name):
                self._together(place.at(name), tuple(patterns), lambda: compile_regexp(compose(patterns)))

    def _together(self, place: Place, patterns: tuple[str, ...], make: Callable[[], RefSet | Pattern]) -> None:
        """Check that patterns which are sound one by one are so as one, which is how they are used."""
        if self._programs.are_too_large:
            return
        try:
            self._programs.add(place, patterns, make().size)
        except BadRegexpError as error:
            self._programs.add(place, patterns, _REFUSED_INSTRUCTIONS)
            self._report.error(place, f"the patterns together are no valid regexp: {error}")

    def _few(self, name: str, items: Sequence[str], place: Place) -> bool:
        if len(items) <= MAX_ENTRIES:
            return True
        self._report.error(
            place.at(name, index=MAX_ENTRIES), f"{len(items)} '{name}' are given, at most {MAX_ENTRIES} are allowed"
        )
        return False


def _ref_problems(ref: str) -> list[str]:
    return _too_long(ref) or ref_problems(ref)


def _path_regexp_problems(pattern: str) -> list[str]:
    if too_long := _too_long(pattern):
        return too_long
    if not pattern:
        return ["must not be empty"]
    if is_anchored(pattern):
        return [ANCHORS]
    try:
        compile_regexp(pattern)
    except BadRegexpError as error:
        return [f"invalid regexp: {error}"]
    return []


def _too_long(entry: str) -> list[str]:
    return [f"has {len(entry)} characters, at most {MAX_ENTRY} are allowed"] if len(entry) > MAX_ENTRY else []


def _url_fault(url: str) -> str:
    """Return why Go's URL parser would refuse a text, near enough; empty if it would not."""
    if not url.isprintable():
        return "invalid control character in URL"
    path = url.partition("?")[0].partition("#")[0]
    if _BAD_ESCAPE.search(path):
        return "invalid URL escape"
    if path.startswith(":"):
        return "missing protocol scheme"
    if not _SCHEME.match(path) and ":" in path.partition("/")[0]:
        return "first path segment in URL cannot contain colon"
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        return str(error)
    return "invalid character in host name" if any(character in parts.netloc for character in ' <>"') else ""
