"""One poll: from what is known of a repository's refs and what they are now to triggers, and to what is known then."""

from __future__ import annotations

from dataclasses import replace

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.identifiers import project_of
from luci_scheduler.core.instants import MINUTE
from luci_scheduler.core.pattern_budget import PATH_UNITS, PatternBudget, PatternCostError
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.core.ref_sets import RefSet, ref_set
from luci_scheduler.core.regexps import BadRegexpError
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Polling
from luci_scheduler.managers.gitiles.history import History, NewCommits
from luci_scheduler.managers.gitiles.repository import Watched
from luci_scheduler.ports import GitCommit, Gitiles

__all__ = ["Poll"]

_TIME_LIMIT = MINUTE
"""When a poll has taken longer, what it found is kept and the rest waits for the next one: a slow server must not keep a
repository with many refs from any progress. Below the lease of a launch, as a rule."""

_TAGS = "refs/tags/"
_logger = structlog.stdlib.get_logger("luci_scheduler")


class Poll:
    """A poll under way; everything goes into the controller's log and triggers, and into ``record``."""

    def __init__(
        self,
        controller: Controller,
        gitiles: Gitiles,
        polling: Polling,
        what: Watched,
        before: PollerRecord,
        current: dict[str, str],
    ) -> None:
        self._controller = controller
        self._polling = polling
        self._what = what
        self._before = before
        self._seen = _stored_set(before)
        self._current = current
        self._known = dict(before.known)
        self._backlog = dict(before.backlog)
        self._history = History(controller, gitiles, what, polling.commits_per_ref)
        self._until = controller.clock.now() + _TIME_LIMIT
        self._emitted = 0
        self.changed = 0
        """How many refs are known otherwise than before."""

    @property
    def record(self) -> PollerRecord:
        """What is known now."""
        return replace(
            self._before,
            known=dict(sorted(self._known.items())),
            refs=self._what.entries,
            backlog=self._backlog,
            commits=self._before.commits + 1,
        )

    def run(self) -> int:
        """Go through the refs, in order; return how many were left to the next poll.

        Raises:
            TransientError: there was trouble before anything had changed.
        """
        self._prune()
        refs = sorted(self._current)
        for place, ref in enumerate(refs):
            try:
                goes_on = self._examine(ref)
            except TransientError as error:
                if not self.changed:
                    self._controller.log(log_lines.NO_PROGRESS.format(error=error))
                    raise
                self._controller.log(log_lines.ERROR_IGNORED.format(error=error))
                return len(refs) - place
            if not goes_on:
                self._controller.log(log_lines.TRIGGERS_POSTPONED.format(emitted=self._emitted))
                return len(refs) - place - 1
        return 0

    def _prune(self) -> None:
        for ref in sorted(self._known):
            if ref not in self._what.refs:
                self._controller.log(log_lines.REF_UNWATCHED.format(ref=ref))
            elif ref not in self._current:
                self._controller.log(log_lines.REF_DELETED.format(ref=ref))
            else:
                continue
            del self._known[ref]
            self._backlog.pop(ref, None)
            self.changed += 1

    def _examine(self, ref: str) -> bool:
        """Take up what is new on a ref; return whether there is room for another one.

        Raises:
            TransientError: its log could not be had; nothing is known anew.
        """
        head, old = self._current[ref], self._known.get(ref)
        existed = self._polling.era is Era.V2 and ref.startswith(_TAGS) and ref not in self._seen
        if old != head or ref in self._backlog:
            new = self._new_commits(ref, old, head, existed=existed)
            self._take_note(ref, head, new)
            if not existed:
                self._emit_all(ref, new)
        if existed:
            self._controller.log(log_lines.TAG_EXISTED.format(ref=ref))
            return True
        # More than the original's limits would allow can be set for one ref: it must not keep all others waiting.
        limit = max(self._polling.commits_per_poll, self._polling.commits_per_ref)
        has_time = self._controller.clock.now() <= self._until
        return has_time and self._emitted + self._polling.commits_per_ref <= limit

    def _new_commits(self, ref: str, old: str | None, head: str, *, existed: bool) -> NewCommits:
        if old is None:
            self._controller.log(log_lines.REF_NEW.format(ref=ref, head=head))
        elif old != head:
            self._controller.log(log_lines.REF_UPDATED.format(ref=ref, old=old, head=head))
        if existed:
            # It gets no trigger: its log is not asked for, as a first poll may find thousands of such tags.
            return NewCommits(())
        if old is None:
            return self._history.of_new_ref(ref, head)
        if self._polling.backfill or ref in self._backlog:
            return self._history.oldest(ref, old, head, self._backlog.get(ref))
        return self._history.newest(ref, old, head)

    def _take_note(self, ref: str, head: str, new: NewCommits) -> None:
        self.changed += 1
        self._backlog.pop(ref, None)
        if new.backlog:
            self._backlog[ref] = new.backlog
            self._controller.log(log_lines.COMMITS_LEFT.format(ref=ref, left=new.left))
        else:
            self._known[ref] = new.reached or head
        if new.skipped:
            number = f"{new.skipped}" if new.skipped_all_counted else f"at least {new.skipped}"
            self._controller.log(log_lines.COMMITS_SKIPPED.format(ref=ref, count=number, taken=len(new.commits)))
            _logger.warning(
                "commits_skipped",
                job_id=self._controller.invocation.job_id,
                invocation_id=str(self._controller.invocation.id),
                repo=self._what.repo,
                ref=ref,
                old=self._before.known.get(ref, ""),
                oldest_taken=new.commits[-1].id if new.commits else "",
                skipped=new.skipped,
                is_exact=new.skipped_all_counted,
            )

    def _emit_all(self, ref: str, new: NewCommits) -> None:
        """Emit triggers for what passes the path filter, oldest first."""
        before = self._emitted
        for place, commit in enumerate(reversed(new.commits)):
            is_tip = place == len(new.commits) - 1
            reason = self._unfiltered_because(new) if is_tip and self._emitted == before else ""
            if reason:
                self._controller.log(
                    log_lines.TIP_EMITTED.format(commit=quote(commit.id), ref=quote(ref), reason=reason)
                )
            elif refusal := self._path_refusal(ref, commit):
                self._controller.log(
                    log_lines.COMMIT_SKIPPED.format(commit=quote(commit.id), ref=quote(ref), reason=refusal)
                )
                continue
            self._emit(ref, commit)

    def _path_refusal(self, ref: str, commit: GitCommit) -> str:
        """Return why a commit does not pass the path filter; empty if it does."""
        try:
            is_interesting = self._what.paths.interesting(commit.diff, PatternBudget(PATH_UNITS))
        except PatternCostError:
            _logger.warning(
                "patterns_too_costly",
                project=project_of(self._controller.invocation.job_id),
                repo=self._what.repo,
                ref=ref,
                revision=commit.id,
                jobs=1,
            )
            return "the path filters cost too much for it: simplify them"
        return "" if is_interesting else "didn't match path filters"

    def _unfiltered_because(self, new: NewCommits) -> str:
        """Return why a ref's tip that nothing was emitted before is not held against the path filter: the rule of 2021."""
        if self._polling.era is not Era.V1 or not self._what.paths.is_active:
            return ""
        if new.is_fresh:
            return "new ref"
        return "not all commits were examined" if len(new.commits) >= self._polling.commits_per_ref else ""

    def _emit(self, ref: str, commit: GitCommit) -> None:
        trigger = gitiles_trigger(self._what.repo, ref, commit.id, commit.committed)
        self._controller.emit_trigger(replace(trigger, order_in_batch=self._emitted))
        self._emitted += 1


def _stored_set(record: PollerRecord) -> RefSet:
    try:
        return ref_set(record.refs)
    except BadRegexpError:  # an older version may have let it in; then it covered nothing
        return ref_set(())
