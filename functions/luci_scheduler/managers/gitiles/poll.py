"""One poll: compares the known refs of a repository with its current refs, and emits triggers for new commits."""

from __future__ import annotations

from dataclasses import replace

import structlog

from luci_scheduler.core import log_lines
from luci_scheduler.core.commit_event import gitiles_trigger
from luci_scheduler.core.commit_hosts import CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.git_names import TAGS
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
from luci_scheduler.managers.gitiles.repository import WatchedRepo
from luci_scheduler.ports import GitCommit, Gitiles

__all__ = ["Poll"]

_TIME_LIMIT = MINUTE
"""A poll that has taken longer keeps its results and leaves the remaining refs to the next poll.

Otherwise a repository with many refs on a slow server would never make progress. The lease of a launch is usually
longer.
"""

_NO_MATCH = "didn't match path filters"
_logger = structlog.stdlib.get_logger("luci_scheduler")


class Poll:
    """A poll in progress. It writes to the controller's log and triggers, and to ``record``."""

    def __init__(
        self,
        controller: Controller,
        gitiles: Gitiles,
        polling: Polling,
        hosts: CommitHosts,
        watched: WatchedRepo,
        before: PollerRecord,
        current: dict[str, str],
    ) -> None:
        self._controller = controller
        self._polling = polling
        self._hosts = hosts
        self._watched = watched
        self._before = before
        self._seen = _stored_set(before)
        self._current = current
        self._known = dict(before.known)
        self._backlog = dict(before.backlog)
        self._history = History(controller, gitiles, watched, polling.commits_per_ref)
        self._until = controller.clock.now() + _TIME_LIMIT
        self._emitted = 0
        self.changed = 0
        """The number of refs whose known state has changed."""

    @property
    def record(self) -> PollerRecord:
        """The new record of the known refs."""
        return replace(
            self._before,
            known=dict(sorted(self._known.items())),
            refs=self._watched.entries,
            backlog=self._backlog,
            commits=self._before.commits + 1,
        )

    def run(self) -> int:
        """Examine the refs in order, and return how many are left to the next poll.

        Raises:
            TransientError: a request failed before anything had changed.
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
            if ref not in self._watched.refs:
                self._controller.log(log_lines.REF_UNWATCHED.format(ref=ref))
            elif ref not in self._current:
                self._controller.log(log_lines.REF_DELETED.format(ref=ref))
            else:
                continue
            del self._known[ref]
            self._backlog.pop(ref, None)
            self.changed += 1

    def _examine(self, ref: str) -> bool:
        """Emit triggers for the new commits of a ref, and return whether the poll may examine another ref.

        Raises:
            TransientError: the request for its log failed; nothing has changed.
        """
        head, old = self._current[ref], self._known.get(ref)
        existed = self._polling.era is Era.V2 and ref.startswith(TAGS) and ref not in self._seen
        if old != head or ref in self._backlog:
            new = self._new_commits(ref, old, head, existed=existed)
            self._take_note(ref, head, new)
            if not existed:
                self._emit_all(ref, new)
        if existed:
            self._controller.log(log_lines.TAG_EXISTED.format(ref=ref))
            return True
        # Settings may allow more commits per ref than per poll. One such ref must not stop the poll for all others.
        limit = max(self._polling.commits_per_poll, self._polling.commits_per_ref)
        has_time = self._controller.clock.now() <= self._until
        return has_time and self._emitted + self._polling.commits_per_ref <= limit

    def _new_commits(self, ref: str, old: str | None, head: str, *, existed: bool) -> NewCommits:
        if old is None:
            self._controller.log(log_lines.REF_NEW.format(ref=ref, head=head))
        elif old != head:
            self._controller.log(log_lines.REF_UPDATED.format(ref=ref, old=old, head=head))
        if existed:
            # It gets no trigger, so its log is not needed. A first poll may find thousands of such tags.
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
                repo=self._watched.repo,
                ref=ref,
                old=self._before.known.get(ref, ""),
                oldest_taken=new.commits[-1].id if new.commits else "",
                skipped=new.skipped,
                is_exact=new.skipped_all_counted,
            )

    def _emit_all(self, ref: str, new: NewCommits) -> None:
        """Emit triggers for the commits that pass the path filter, oldest first."""
        before = self._emitted
        for place, commit in enumerate(reversed(new.commits)):
            is_tip = place == len(new.commits) - 1
            reason = self._unfiltered_because(new) if is_tip and self._emitted == before else ""
            if reason:
                self._controller.log(
                    log_lines.TIP_EMITTED.format(commit=quote(commit.id), ref=quote(ref), reason=reason)
                )
            elif commit.diff_cut and self._path_refusal(ref, commit) == _NO_MATCH:
                self._controller.log(log_lines.CUT_EMITTED.format(commit=quote(commit.id), known=len(commit.diff)))
            elif refusal := self._path_refusal(ref, commit):
                self._controller.log(
                    log_lines.COMMIT_SKIPPED.format(commit=quote(commit.id), ref=quote(ref), reason=refusal)
                )
                continue
            self._emit(ref, commit)

    def _path_refusal(self, ref: str, commit: GitCommit) -> str:
        """Return why a commit fails the path filter; empty if it passes."""
        try:
            is_interesting = self._watched.paths.interesting(commit.diff, PatternBudget(PATH_UNITS))
        except PatternCostError:
            _logger.warning(
                "patterns_too_costly",
                project=project_of(self._controller.invocation.job_id),
                repo=self._watched.repo,
                ref=ref,
                revision=commit.id,
                jobs=1,
            )
            return "the path filters cost too much for it: simplify them"
        return "" if is_interesting else _NO_MATCH

    def _unfiltered_because(self, new: NewCommits) -> str:
        """Return why the tip of a ref skips the path filter (a rule of 2021); empty if it does not skip."""
        if self._polling.era is not Era.V1 or not self._watched.paths.is_active:
            return ""
        if new.is_fresh:
            return "new ref"
        return "not all commits were examined" if len(new.commits) >= self._polling.commits_per_ref else ""

    def _emit(self, ref: str, commit: GitCommit) -> None:
        trigger = gitiles_trigger(self._watched.repo, ref, commit.id, commit.committed, self._hosts)
        self._controller.emit_trigger(replace(trigger, order_in_batch=self._emitted))
        self._emitted += 1


def _stored_set(record: PollerRecord) -> RefSet:
    try:
        return ref_set(record.refs)
    except BadRegexpError:  # an older version may have stored it; it covered nothing
        return ref_set(())
