"""The task manager of gitiles jobs. A launch is one poll, which ends when the launch returns."""

from __future__ import annotations

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.gitiles.poll import Poll
from luci_scheduler.managers.gitiles.repository import (
    Known,
    WatchedRepo,
    current_refs,
    known_refs,
    missing_refs,
    read_watched,
)
from luci_scheduler.ports import GitilesError, PutPoller

__all__ = ["GitilesManager"]


class GitilesManager:
    """``TaskManager`` for ``gitiles``. It has a single stage: a launch ends the invocation, or the engine retries it.

    The commit that ends a poll stores the new refs and the triggers together, so the record never runs ahead.
    """

    def __init__(self, environment: Environment) -> None:
        self._gitiles = environment.gitiles
        self._pollers = environment.pollers
        self._polling = environment.polling
        self._hosts = environment.hosts

    def idle(self, controller: Controller) -> bool:
        """Whether no watched ref has changed: one read, and one listing for each folder of refs.

        Raises:
            PermanentError: the task is invalid; its launch reports why.
            TransientError: the store or a listing failed; the launch tries again and reports.
        """
        watched = read_watched(controller.invocation.task, self._hosts)
        before = known_refs(controller, self._pollers, watched).record
        try:
            current = current_refs(controller, self._gitiles, watched)
        except GitilesError as error:
            raise TransientError(f"the refs of {watched.repo} could not be listed: {error}") from error
        return not before.backlog and current == before.known and not missing_refs(watched, current)

    def launch(self, controller: Controller) -> None:
        """Poll: emit a trigger for each new commit, and record the heads of the refs."""
        task = controller.invocation.task
        entries = " ".join(task.fields.get("refs", ()))
        controller.log(log_lines.POLLING.format(repo=task.fields.get("repo", ""), refs=entries))
        watched = read_watched(task, self._hosts)
        known, current = self._state_of_the_world(controller, watched)
        poll = Poll(controller, self._gitiles, self._polling, self._hosts, watched, known.record, current)
        left = poll.run()
        if not poll.changed:
            controller.log(log_lines.NOTHING_CHANGED.format())
        else:
            self._save(controller, poll, known, left)
        controller.set_status(Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        """Do nothing: no service sends notifications about a poll."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Do nothing: a poll sets no timers."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: there is no external task."""

    def _state_of_the_world(self, controller: Controller, watched: WatchedRepo) -> tuple[Known, dict[str, str]]:
        try:
            known = known_refs(controller, self._pollers, watched)
            current = dict(current_refs(controller, self._gitiles, watched))
        except (GitilesError, TransientError) as error:
            controller.log(log_lines.REFS_NOT_FETCHED.format(error=error))
            if isinstance(error, GitilesError):
                # As in the original; the next poll tries again.
                raise PermanentError(f"the refs of {watched.repo} could not be listed: {error}") from error
            raise
        controller.log(log_lines.REFS_FETCHED.format(known=len(known.record.known), current=len(current)))
        if missing := missing_refs(watched, current):
            controller.log(_hint(watched, missing, current))
            controller.log(log_lines.REFS_UNRESOLVED.format(count=len(missing)))
            raise PermanentError(f"{len(missing)} unresolved refs of {watched.repo}")
        return known, current

    @staticmethod
    def _save(controller: Controller, poll: Poll, known: Known, left: int) -> None:
        if left:
            controller.log(log_lines.SOME_REFS_PROCESSED.format(changed=poll.changed, left=left))
        else:
            controller.log(log_lines.ALL_REFS_PROCESSED.format(changed=poll.changed))
        controller.count_save()
        controller.poller = PutPoller(poll.record, known.version)
        controller.log(log_lines.REFS_SAVED.format(count=len(poll.record.known)))


def _hint(watched: WatchedRepo, missing: tuple[str, ...], current: dict[str, str]) -> str:
    found = " ".join(f"{quote(ref)}:{quote(revision)}" for ref, revision in sorted(current.items()))
    return log_lines.REFS_HINT.format(missing=" ".join(missing), repo=quote(watched.repo), found=found)
