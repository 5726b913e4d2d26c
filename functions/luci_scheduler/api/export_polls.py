"""The answers of a Gitiles host to a poll, from the poll's log lines and its emitted triggers. Pure.

The log names the refs that changed and counts the others. `names` finds names for those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luci_scheduler.api.export_builds import tail
from luci_scheduler.api.export_log import Cursor, NotReplayableError
from luci_scheduler.api.export_step import Step
from luci_scheduler.api.export_texts import sample_path, sample_refs
from luci_scheduler.core import log_lines
from luci_scheduler.core.debug_log import LogEntry
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import MINUTE, Instant, format_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.log_lines import Template
from luci_scheduler.core.path_filter import path_filter
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.managers.environment import Polling

__all__ = ["Poll"]

_TO = "gitiles"
_NO_COMMIT = "0" * 40
_MOST = 10_000
_NOT_FOUND = {"error": "NOT_FOUND", "message": "HTTP 404"}
_REF = re.compile(r'"((?:[^"\\]|\\.)*)":"([0-9a-f]+)"')
_UNNAMED = (
    "The log does not name {count} of the refs: they did not change. The scenario uses refs that the job "
    "knows now, or names that its patterns cover."
)


@dataclass(slots=True)
class _Ref:
    """A ref that a poll examined."""

    name: str
    head: str
    old: str = ""
    """Its revision before the poll; empty for a new ref."""
    lines: list[LogEntry] = field(default_factory=list)


@frozen
class _World:
    """The listing that a poll saw in its last successful attempt to list refs."""

    first: LogEntry
    examined: Sequence[_Ref]
    gone: Sequence[str]
    known: int
    current: int
    left: int
    entries: Sequence[LogEntry]


class Poll:
    """Builds the launches of a gitiles job: the attempt that ends the poll, and failed attempts before it.

    Args:
        invocation: the record.
        entries: the whole log.
        refs: the refs that the job knows now, each with its revision.
        is_v1: whether the poll follows the rules of 2021.

    Raises:
        NotReplayableError: the log lacks something that a replay needs.
    """

    def __init__(
        self, invocation: Invocation, entries: Sequence[LogEntry], refs: Mapping[str, str], *, is_v1: bool
    ) -> None:
        self._invocation = invocation
        self._now_known = refs
        self._is_v1 = is_v1
        fields = invocation.task.fields
        watched, include, exclude = (
            tuple(fields.get(name, ())) for name in ("refs", "path_regexps", "path_regexps_exclude")
        )
        self._include = include
        try:
            self._refs, self._paths = ref_set(watched), path_filter(include, exclude)
        except BadRegexpError as error:
            raise NotReplayableError(f"a pattern of its job is not valid: {error}") from error
        self._committed = {trigger.payload.get("revision"): trigger for trigger in invocation.outgoing_triggers}
        self._per_ref = 0
        self._per_poll = 0
        self._asked: set[tuple[str, ...]] = set()
        """The logs that the current attempt has requested: none is requested twice."""
        self._known: dict[str, str] = {}
        self.assumptions: list[str] = []
        self._last = _last_world(entries)
        self._shown = self._all_refs(self._last) if self._last else {}

    def settings(self) -> dict[str, Any]:
        """Return the settings of polls that lead to this log."""
        limits = {"commits_per_ref": self._per_ref, "commits_per_poll": self._per_poll}
        return {"protocol": "v1" if self._is_v1 else "v2", **{name: value for name, value in limits.items() if value}}

    def poller(self) -> dict[str, Any]:
        """Return the refs that the job knew before; empty if it knew none."""
        if not self._known:
            return {}
        entries = [str(entry) for entry in self._invocation.task.fields.get("refs", ())]
        tags = [fields["ref"] for fields in _all(log_lines.TAG_EXISTED, self._last.entries if self._last else ())]
        # A tag that existed when its pattern was added gets no trigger.
        before = [entry for entry in entries if not any(tag in ref_set((entry,)) for tag in tags)]
        return {"known": self._known, **({"watched": before} if before != entries else {})}

    def launch(self, step: Step, cursor: Cursor) -> None:
        """Add a poll, from the line after the first of its attempt."""
        if cursor.peek(log_lines.POLLING):
            step.line(cursor.take())
        if cursor.match(log_lines.REFS_FETCHED):
            self._listed(step, cursor)
        elif failed := cursor.match(log_lines.REFS_NOT_FETCHED):
            if _has(log_lines.RETRIED, cursor.rest):
                raise NotReplayableError("the store failed and caused no progress of its poll")
            step.call(_error(failed["error"], is_transient=False), cursor.next_at, to=_TO)
        tail(step, cursor, self._invocation.finished)

    def _listed(self, step: Step, cursor: Cursor) -> None:
        world = _world(cursor.rest)
        is_last = self._last is not None and world.first is self._last.first
        self._list(step, self._shown if is_last else self._earlier_refs(world), cursor.next_at)
        step.line(cursor.take())
        self._limits(cursor.rest, world.examined, step)
        self._logs(step, cursor, world.examined)

    def _list(self, step: Step, refs: Mapping[str, str], until: Instant | None) -> None:
        """Add the listings, one for each folder of refs."""
        prefixes = self._refs.prefixes
        for place, prefix in enumerate(prefixes):
            below = {ref: revision for ref, revision in refs.items() if ref.startswith(f"{prefix}/")}
            step.call({"refs": below}, until if place == len(prefixes) - 1 else None, to=_TO)

    def _all_refs(self, world: _World) -> dict[str, str]:
        """Return the refs that the host showed to the last attempt, and note the refs that the job knew before."""
        hinted = _hinted(world)
        if hinted is not None:
            names = [*hinted, *self._names(set(hinted), max(0, world.known - len(hinted)), 0, "")]
            self._known = {name: hinted.get(name, _NO_COMMIT) for name in names[: world.known]}
            return hinted
        changed = {item.name: item.head for item in world.examined}
        named = {item.name: item.old for item in world.examined if item.old} | dict.fromkeys(world.gone, _NO_COMMIT)
        quiet_known, quiet = world.known - len(named), world.current - len(changed)
        if not 0 <= quiet_known <= quiet:
            raise NotReplayableError("its log does not name all refs that changed")
        names = self._names({*changed, *named}, quiet, world.left, max(changed, default=""))
        revisions = {name: self._now_known.get(name, _NO_COMMIT) for name in names}
        if quiet:
            self.assumptions.append(_UNNAMED.format(count=quiet))
        # The refs that the poll did not reach come last, and only they may be new.
        self._known = {**named, **{name: revisions[name] for name in names[:quiet_known]}}
        return {**changed, **revisions}

    def _earlier_refs(self, world: _World) -> dict[str, str]:
        """Return the refs that the host showed to a failed attempt: the known refs, and the ref that failed."""
        changed = {item.name: item.head for item in world.examined}
        shown = {**{name: revision for name, revision in self._known.items() if name not in world.gone}, **changed}
        missing = world.current - len(shown)
        if missing < 0:
            raise NotReplayableError("the refs of its repository changed between two attempts of its poll")
        names = self._names({*shown, *world.gone}, missing, missing, max(changed, default=""))
        return {**shown, **dict.fromkeys(names, _NO_COMMIT)}

    def _names(self, taken: set[str], count: int, left: int, last: str) -> list[str]:
        """Return names of refs, of which the last ``left`` sort after the ref that the poll examined last."""
        later = min(left, count) if last else 0
        candidates = sample_refs([*self._now_known, *sorted(taken)], self._invocation.task.fields.get("refs", ()))
        free = [name for name in candidates(count) if name not in taken and name in self._refs]
        before = [name for name in free if not (later and name > last)][: count - later]
        after = [name for name in free if name > last and name not in before][:later]
        if len(before) + len(after) < count:
            raise NotReplayableError("its log does not name the refs that did not change, and its patterns allow few")
        return [*before, *sorted(after)]

    def _limits(self, rest: Sequence[LogEntry], examined: Sequence[_Ref], step: Step) -> None:
        """Find the limits of a poll that explain where it stopped."""
        usual = Polling().commits_per_ref
        per_ref = _per_ref(rest, examined)
        if per_ref != usual:
            self._per_ref = max(self._per_ref, per_ref)
        for fields in _all(log_lines.TRIGGERS_POSTPONED, rest):
            has_time = rest[-1].at - step.pace.now <= MINUTE
            per_poll = int(fields["emitted"]) + (self._per_ref or usual) - 1
            self._per_poll = max(self._per_poll, per_poll if has_time else _MOST)

    def _logs(self, step: Step, cursor: Cursor, examined: Sequence[_Ref]) -> None:
        """Add the requests for the logs of the refs, each before the lines that follow from it."""
        by_first = {id(item.lines[0]): item for item in examined}
        self._asked.clear()
        while not cursor.is_over:
            if cursor.peek(log_lines.FINISHED):
                step.spend("end", self._invocation.finished)
            entry = cursor.take()
            step.line(entry)
            item = by_first.get(id(entry))
            if item is not None:
                self._log(step, cursor, item)

    def _log(self, step: Step, cursor: Cursor, item: _Ref) -> None:
        if _has(log_lines.COMMITS_LEFT, item.lines):
            raise NotReplayableError("its poll took a part of a range of commits, and a scenario has no such ranges")
        if self._is_old_tag(item):
            return
        if _has(log_lines.RANGE_NOT_FOUND, item.lines):
            self._lost_range(step, cursor, item)
            return
        failed = next((entry for entry in item.lines if _is_any(entry, _FAILED)), None)
        if failed is not None:
            code = _NOT_FOUND if log_lines.NO_FIRST_LOG.match(failed.text) else _error(_reason(cursor.rest))
            step.call(code, cursor.next_at, to=_TO)
            return
        if not self._was_asked("range", item.old, item.head):
            self._range(step, cursor, item)

    def _was_asked(self, *log: str) -> bool:
        """Note a request for a log; return whether the attempt has its answer already."""
        was_asked = log in self._asked
        self._asked.add(log)
        return was_asked

    def _is_old_tag(self, item: _Ref) -> bool:
        return _has(log_lines.TAG_EXISTED, item.lines)

    def _range(self, step: Step, cursor: Cursor, item: _Ref) -> None:
        """Add a log with the commits of a ref, and the count of skipped commits."""
        commits = [self._commit(revision, is_emitted=is_emitted) for revision, is_emitted in _commits(item)]
        page: dict[str, Any] = {"log": commits[::-1]}
        skipped = next((fields for fields in _all(log_lines.COMMITS_SKIPPED, item.lines)), None)
        if skipped is None:
            step.call(page, cursor.next_at, to=_TO)
            return
        is_exact = skipped["count"].isdecimal()
        count = int(skipped["count"].rpartition(" ")[2])
        step.call({**page, "next": _NO_COMMIT}, to=_TO)
        older = {"log": [self._commit(f"{number:040x}", is_emitted=False) for number in range(1, count + 1)]}
        if is_exact or count >= _MOST:
            step.call(older, cursor.next_at, to=_TO)
        else:
            step.call({**older, "next": _NO_COMMIT}, to=_TO)
            step.call(_error("UNAVAILABLE: HTTP 503", is_transient=True), cursor.next_at, to=_TO)

    def _commit(self, revision: str, *, is_emitted: bool) -> dict[str, Any]:
        trigger = self._committed.get(revision)
        committed = format_rfc3339(trigger.created if trigger else self._invocation.started)
        paths: list[str] = []
        if is_emitted and self._paths.is_active and (path := sample_path(self._include, self._paths)):
            paths = [path]
        return {"revision": revision, "committed": committed, **({"paths": paths} if paths else {})}

    def _lost_range(self, step: Step, cursor: Cursor, item: _Ref) -> None:
        """Add the requests that find out why a range has no log."""
        step.call(_NOT_FOUND, cursor.next_at, to=_TO)
        step.line(cursor.take())
        lines, head = item.lines, [self._commit(item.head, is_emitted=True)]
        if new := next((fields for fields in _all(log_lines.NO_NEW_LOG, lines)), None):
            step.call(_error(new["error"], is_transient=False), cursor.next_at, to=_TO)
            return
        if not self._was_asked("head", item.head):
            step.call({"log": head}, to=_TO)
        if old := next((fields for fields in _all(log_lines.NO_OLD_LOG, lines)), None):
            step.call(_error(old["error"], is_transient=True), cursor.next_at, to=_TO)
        elif _has(log_lines.FORCE_PUSH, lines):
            step.call(_NOT_FOUND, cursor.next_at, to=_TO)
        else:
            step.call({"log": [self._commit(item.old, is_emitted=True)]}, cursor.next_at, to=_TO)


_GONE = (log_lines.REF_UNWATCHED, log_lines.REF_DELETED)
_FAILED = (log_lines.NO_FIRST_LOG, log_lines.NO_RANGE)
_ENDS = (
    log_lines.NOTHING_CHANGED,
    log_lines.SOME_REFS_PROCESSED,
    log_lines.ALL_REFS_PROCESSED,
    log_lines.TRIGGERS_POSTPONED,
    log_lines.ERROR_IGNORED,
    log_lines.NO_PROGRESS,
    log_lines.RETRIED,
    log_lines.FINISHED,
)


def _last_world(entries: Sequence[LogEntry]) -> _World | None:
    places = [place for place, entry in enumerate(entries) if log_lines.REFS_FETCHED.match(entry.text)]
    return _world(entries[places[-1] :]) if places else None


def _world(entries: Sequence[LogEntry]) -> _World:
    """Return the repository as an attempt saw it; its first entry is the line about the listing."""
    fetched = log_lines.REFS_FETCHED.match(entries[0].text) or {}
    gone = [fields["ref"] for template in _GONE for fields in _all(template, entries)]
    counts = int(fetched["known"]), int(fetched["current"])
    return _World(entries[0], _examined(entries), gone, *counts, _left(entries), entries)


def _hinted(world: _World) -> dict[str, str] | None:
    """Return all refs that the host showed, if the log lists them because others are missing."""
    # The entries of a log have no line feeds at their ends, and this template has one.
    hints = [fields for entry in world.entries if (fields := log_lines.REFS_HINT.match(f"{entry.text}\n"))]
    for fields in hints:
        return {json.loads(f'"{ref}"'): revision for ref, revision in _REF.findall(fields["found"])}
    return None


def _examined(entries: Sequence[LogEntry]) -> list[_Ref]:
    """Return the refs that a poll examined, each with its lines."""
    found: list[_Ref] = []
    is_open = False
    for entry in entries:
        new, updated = log_lines.REF_NEW.match(entry.text), log_lines.REF_UPDATED.match(entry.text)
        if fields := new or updated:
            found.append(_Ref(fields["ref"], fields["head"], fields.get("old", "")))
            is_open = True
        elif _is_any(entry, _ENDS):
            is_open = False
        if is_open:
            found[-1].lines.append(entry)
    return found


def _commits(item: _Ref) -> list[tuple[str, bool]]:
    """Return the commits of a ref, oldest first, and whether each one was emitted."""
    found: list[tuple[str, bool]] = []
    for entry in item.lines:
        if fields := log_lines.EMITTING.match(entry.text):
            found.append((fields["trigger_id"].rpartition("@")[2], True))
        elif fields := log_lines.COMMIT_SKIPPED.match(entry.text):
            if fields["reason"] != "didn't match path filters":
                raise NotReplayableError("the path filters of its job cost too much for a commit")
            found.append((fields["commit"].strip('"'), False))
    return found


def _per_ref(entries: Sequence[LogEntry], examined: Sequence[_Ref]) -> int:
    """Return the limit of commits of a ref that explains a poll; 0 if the usual limit does."""
    if taken := [int(fields["taken"]) for fields in _all(log_lines.COMMITS_SKIPPED, entries)]:
        return max(taken)
    most = max((len(_commits(item)) for item in examined), default=0)
    reasons = [fields["reason"] for fields in _all(log_lines.TIP_EMITTED, entries)]
    is_full = any(reason.startswith("not all") for reason in reasons)
    return most if is_full or most > Polling().commits_per_ref else 0


def _left(entries: Sequence[LogEntry]) -> int:
    return sum(int(fields["left"]) for fields in _all(log_lines.SOME_REFS_PROCESSED, entries))


def _reason(entries: Sequence[LogEntry]) -> str:
    """Return the error of a log that the poll could not fetch: a later line names it."""
    for template in (log_lines.NO_PROGRESS, log_lines.ERROR_IGNORED):
        for fields in _all(template, entries):
            return fields["error"]
    raise NotReplayableError("its log does not say why a log of its repository could not be fetched")


def _error(text: str, *, is_transient: bool = True) -> dict[str, Any]:
    code, _, message = text.partition(": ")
    return {"error": code, "message": message, **({"transient": True} if is_transient else {})}


def _all(template: Template, entries: Iterable[LogEntry]) -> list[dict[str, str]]:
    return [fields for entry in entries if (fields := template.match(entry.text)) is not None]


def _has(template: Template, entries: Iterable[LogEntry]) -> bool:
    return any(template.match(entry.text) is not None for entry in entries)


def _is_any(entry: LogEntry, templates: Iterable[Template]) -> bool:
    return any(template.match(entry.text) is not None for template in templates)
