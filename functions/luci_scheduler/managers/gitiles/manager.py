"""The task manager of gitiles jobs: a launch is one poll, over when it returns."""

from __future__ import annotations

from luci_scheduler.core import log_lines
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.invocation import Status, Timer
from luci_scheduler.managers.controller import Controller
from luci_scheduler.managers.environment import Environment
from luci_scheduler.managers.gitiles.poll import Poll
from luci_scheduler.managers.gitiles.repository import Known, Watched, current_refs, known_refs, missing_refs, watched
from luci_scheduler.ports import GitilesError, PutPoller

__all__ = ["GitilesManager"]


class GitilesManager:
    """``TaskManager`` for ``gitiles``; single stage: a launch leaves the invocation final, unless it is to be retried.

    What a poll learns is written in the same commit as its end, and with it its triggers: it never knows more than it told.
    """

    def __init__(self, environment: Environment) -> None:
        self._gitiles = environment.gitiles
        self._pollers = environment.pollers
        self._polling = environment.polling

    def idle(self, controller: Controller) -> bool:
        """Whether every watched ref is as it was: one read, and one listing for each folder of refs.

        Raises:
            PermanentError: the task cannot be carried out; its launch will tell.
            TransientError: the store or a listing failed; the launch asks again, and tells.
        """
        what = watched(controller.invocation.task)
        before = known_refs(controller, self._pollers, what).record
        try:
            current = current_refs(controller, self._gitiles, what)
        except GitilesError as error:
            raise TransientError(f"the refs of {what.repo} could not be listed: {error}") from error
        return not before.backlog and current == before.known and not missing_refs(what, current)

    def launch(self, controller: Controller) -> None:
        """Poll: emit a trigger for each new commit, and remember the heads of the refs."""
        task = controller.invocation.task
        entries = " ".join(task.fields.get("refs", ()))
        controller.log(log_lines.POLLING.format(repo=task.fields.get("repo", ""), refs=entries))
        what = watched(task)
        known, current = self._state_of_the_world(controller, what)
        poll = Poll(controller, self._gitiles, self._polling, what, known.record, current)
        left = poll.run()
        if not poll.changed:
            controller.log(log_lines.NOTHING_CHANGED.format())
        else:
            self._save(controller, poll, known, left)
        controller.set_status(Status.SUCCEEDED)

    def handle_notification(self, controller: Controller) -> None:
        """Ignore it: a poll is over before anybody could notify."""

    def handle_timer(self, controller: Controller, timer: Timer) -> None:
        """Ignore it: a poll sets none."""

    def abort(self, controller: Controller) -> None:
        """Do nothing: there is no task outside."""

    def _state_of_the_world(self, controller: Controller, what: Watched) -> tuple[Known, dict[str, str]]:
        try:
            known = known_refs(controller, self._pollers, what)
            current = dict(current_refs(controller, self._gitiles, what))
        except (GitilesError, TransientError) as error:
            controller.log(log_lines.REFS_NOT_FETCHED.format(error=error))
            if isinstance(error, GitilesError):
                # As in the original; the next poll tries again.
                raise PermanentError(f"the refs of {what.repo} could not be listed: {error}") from error
            raise
        controller.log(log_lines.REFS_FETCHED.format(known=len(known.record.known), current=len(current)))
        if missing := missing_refs(what, current):
            controller.log(_hint(what, missing, current))
            controller.log(log_lines.REFS_UNRESOLVED.format(count=len(missing)))
            raise PermanentError(f"{len(missing)} unresolved refs of {what.repo}")
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


def _hint(what: Watched, missing: tuple[str, ...], current: dict[str, str]) -> str:
    found = " ".join(f"{quote(ref)}:{quote(revision)}" for ref, revision in sorted(current.items()))
    return log_lines.REFS_HINT.format(missing=" ".join(missing), repo=quote(what.repo), found=found)
