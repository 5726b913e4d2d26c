"""Reads the functions' log, and posts the lines that a developer wants to see to the feed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from emulator.feed import Feed
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.web.addresses import address, invocation_address, job_address

__all__ = ["FunctionLog"]

Event = Mapping[str, Any]

_LATE_MS = 10_000
"""A tick or status check that comes later than this on the local cloud's clock shows that the machine is too slow."""
_QUIET_SECONDS = 60.0  # of real time, between two complaints about the same thing
_DEFECTS = ("unexpected_error", "api_fault", "page_fault", "config_sync_defect")


class FunctionLog:
    """Posts the functions' events to a feed: configs in force, their problems, failures, and defects.

    Args:
        feed: gets the entries.
        console_url: the base of their links.
        speed: returns the speed of the local cloud's clock.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        feed: Feed,
        console_url: str,
        speed: Callable[[], float] = lambda: 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._console_url = console_url
        self._speed = speed
        self._now = now
        self._lock = threading.Lock()
        self._problems: dict[str, object] = {}
        """Project → the problems that were posted last; each sync logs them again."""
        self._failing: set[str] = set()
        """Pollers whose last poll failed. Only the first failure is posted."""
        self._said: dict[str, float] = {}
        self._handlers: Mapping[str, Callable[[Event], None]] = {
            "config_synced": self._config_synced,
            "config_invalid": self._config_refused,
            "config_unreadable": self._config_refused,
            "config_gone": self._config_gone,
            "config_not_synced": self._config_not_synced,
            "invocation_finished": self._invocation_finished,
            "launch_failed": self._launch_failed,
            "launch_refused": self._launch_failed,
            "commit_unwatched": self._commit_unwatched,
            "commit_filtered": self._commit_filtered,
            "commit_discarded": self._commit_discarded,
            "tick_came": self._timer_came,
            "timer_came": self._timer_came,
            **dict.fromkeys(_DEFECTS, self._defect),
        }

    def read(self, line: str) -> None:
        """Handle a line of a function's output; a line that is no event is ignored."""
        if not line.startswith("{"):
            return
        try:
            event = json.loads(line)
        except ValueError:
            return
        if handle := self._handlers.get(event.get("message", "")):
            # In memory, functions log from their own threads: an event that lacks a member must not fail a delivery.
            with self._lock, suppress(LookupError, TypeError, ValueError):
                handle(event)

    # Configs --------------------------------------------------------------------------------------------------------

    def _config_synced(self, event: Event) -> None:
        project, jobs, warnings = event["project"], event["jobs"], event["warnings"]
        self._problems.pop(project, None)
        if not event["revision"]:
            return  # a removed config, which `config_gone` has announced
        text = f"the config of {project} is in force: {_count(jobs, 'job')}, {_count(warnings, 'warning')}"
        if first := event.get("first_warning"):
            text += f", of which the first is {project}/{first}" if warnings > 1 else f": {project}/{first}"
        facts = {"revision": event["revision"], "jobs": jobs, "warnings": warnings}
        self._feed.post("config", text, self._link(address("jobs", project)), project=project, **facts)

    def _config_refused(self, event: Event) -> None:
        project, problems = event["project"], list(event["problems"])
        if self._problems.get(project) == problems:
            return
        self._problems[project] = problems
        more = f" (and {_count(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
        text = f"{project}/{problems[0]}{more}; the last valid config of {project} stays in force"
        link = self._link(address("jobs", project))
        self._feed.post("config_problem", text, link, project=project, problems=problems)

    def _config_gone(self, event: Event) -> None:
        project = event["project"]
        text = f"the config of {project} is gone, so {_count(event['jobs'], 'job')} of it will not run any more"
        self._feed.post("config", text, project=project, jobs=0)

    def _config_not_synced(self, event: Event) -> None:
        project = event["project"]
        text = f"the config of {project} could not be activated and is tried again: {event['reason']}"
        self._feed.post("problem", text, project=project)

    # Invocations ----------------------------------------------------------------------------------------------------

    def _invocation_finished(self, event: Event) -> None:
        job, status, is_poll = event["job_id"], event["status"], event["kind"] == "gitiles"
        if status == "SUCCEEDED":
            self._failing.discard(job)
            return
        if (is_poll and job in self._failing) or self._has_failed_build(event):
            return
        if is_poll:
            self._failing.add(job)
        subject = f"the poll {job}" if is_poll else job
        seconds = round(event["seconds"])
        text = f"{subject} {status} after {seconds} s"
        self._feed.post("failure", text, self._invocation(event), job=job, status=status, seconds=seconds)

    def _has_failed_build(self, event: Event) -> bool:
        """Return whether the feed already has the failure of the invocation's build, which links to the output."""
        invocation = event.get("invocation_id")
        return any(
            entry.kind == "failure" and entry.fields.get("invocation") == invocation and "build" in entry.fields
            for entry in self._feed.after(0)
        )

    def _launch_failed(self, event: Event) -> None:
        job, again = event.get("job_id", "a job"), event["message"] == "launch_failed"
        text = f"the launch of {job} failed{' and is tried again' if again else ''}: {event['error']}"
        self._feed.post("problem", text, self._invocation(event), job=job)

    def _invocation(self, event: Event) -> str:
        job, number = event.get("job_id", ""), event.get("invocation_id", "")
        if not job:
            return ""
        path = invocation_address(JobId(job), InvocationId(int(number))) if number else job_address(job)
        return self._link(path)

    # Commits --------------------------------------------------------------------------------------------------------

    def _commit_unwatched(self, event: Event) -> None:
        self._commit(event, f"no job watches {event['ref']} of {event['repo']}")

    def _commit_filtered(self, event: Event) -> None:
        self._commit(event, f"no path filter accepts the files of {event['revision'][:12]} in {event['repo']}")

    def _commit_discarded(self, event: Event) -> None:
        self._commit(event, f"the commit {event['revision'][:12]} of {event['repo']} was dropped: {event['reason']}")

    def _commit(self, event: Event, text: str) -> None:
        repo, ref, revision = event["repo"], event["ref"], event["revision"]
        link = self._link(address("commits", repo=repo, revision=revision, ref=ref))
        self._feed.post("note", text, link, repo=repo, ref=ref, revision=revision)

    # Defects, and a machine that is too slow ------------------------------------------------------------------------

    def _timer_came(self, event: Event) -> None:
        late, speed = event["lateness_ms"], self._speed()
        if speed <= 1 or late < _LATE_MS or not self._is_new("late"):
            return
        text = (
            f"this machine does not keep up: a timer of {event.get('job_id', 'a job')} came {late // 1000} s late"
            f" at {speed:g} times the real speed; choose a lower speed for exact times"
        )
        self._feed.post("problem", text, late_seconds=late // 1000)

    def _defect(self, event: Event) -> None:
        if self._is_new(event["message"]):
            where = event.get("function") or "a function"
            self._feed.post("problem", f"{where} has a defect ({event['message']}); its log has the stack")

    def _is_new(self, what: str) -> bool:
        """Return whether the last entry about something is long ago."""
        now = self._now()
        if now - self._said.get(what, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._said[what] = now
        return True

    def _link(self, path: str) -> str:
        return f"{self._console_url}{path}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
