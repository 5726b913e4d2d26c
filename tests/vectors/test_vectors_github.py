"""The vectors of polls on GitHub: the answers of the REST API become requests, triggers, a record and a debug log."""

from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.memory.queue import MemoryQueue
from emulator.memory.system import SeededEntropy
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.errors import PermanentError, TransientError
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.core.instants import format_rfc3339, parse_rfc3339
from luci_scheduler.core.invocation import Invocation
from luci_scheduler.core.job import TaskDefinition
from luci_scheduler.core.poller_record import PollerRecord
from luci_scheduler.managers.controller import CallCache, Controller
from luci_scheduler.managers.environment import Environment, Polling
from luci_scheduler.managers.gitiles.manager import GitilesManager
from luci_scheduler.ports import Versioned
from tests.scripted_github import Exchange, ScriptedGitHub
from tests.vectors.support import Case, cases

JOB = JobId("proj/poller")


class _Poll:
    """One poll of a vector's repository, in the state that the vector gives."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.github = ScriptedGitHub(
            *(
                Exchange(item["request"], item["status"], item.get("body"), item.get("headers", {}))
                for item in case["answers"]
            )
        )
        clock = SteppedClock(parse_rfc3339("2026-03-18T12:00:00Z"))
        limits = case["limits"]
        environment = Environment(
            buildbucket=None,  # type: ignore[arg-type]  # no build is made
            fetch=None,  # type: ignore[arg-type]  # no URL is fetched
            gitiles=GitHubClient(self.github.api(clock)),
            pollers=self,
            app_id="app",
            hostname="app.example.com",
            token_secrets=("secret",),
            polling=Polling(
                commits_per_ref=limits["commits_per_ref"],
                commits_per_poll=limits["commits_per_poll"],
                backfill=limits["backfill"],
            ),
        )
        fields = {name: case[name] for name in ("repo", "refs", "path_regexps", "path_regexps_exclude") if name in case}
        task = TaskDefinition("gitiles", fields)
        invocation = Invocation(InvocationId(7), JOB, clock.now(), task)
        self.controller = Controller(invocation, clock, SeededEntropy(), MemoryQueue(), CallCache())
        self.outcome = self._run(GitilesManager(environment))

    def _run(self, manager: GitilesManager) -> str:
        try:
            manager.launch(self.controller)
        except PermanentError:
            return "FAILED"
        except TransientError:
            return "TRANSIENT"
        return str(self.controller.invocation.status)

    def poller(self, job_id: JobId) -> Versioned[PollerRecord] | None:
        """Return the stored record; implements the port ``Pollers``."""
        case = self._case
        repo = str(DEFAULT_HOSTS.parse(case["repo"]))
        entries = tuple(case.get("refs_before", case["refs"]))
        return Versioned(PollerRecord(job_id, repo, dict(case["known_before"]), entries), 1) if entries else None

    @property
    def known(self) -> dict[str, str]:
        """The state after the poll."""
        written = self.controller.poller
        return dict(written.record.known if written else self._case["known_before"])

    @property
    def log(self) -> list[str]:
        """The first line of each message in the debug log, without the message that ends every invocation."""
        stamped = [line for line in self.controller.log_text.splitlines() if line.startswith("[")]
        lines = [line.partition("] ")[2] for line in stamped]
        return [line for line in lines if not line.startswith("Invocation finished ")]

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """The emitted triggers in the form of the vectors."""
        return [
            {
                "id": item.id,
                "ref": item.payload["ref"],
                "revision": item.payload["revision"],
                "created": format_rfc3339(item.created),
            }
            for item in self.controller.result().outgoing_triggers
        ]


@pytest.mark.parametrize("case", cases("github_log"))
def test_vector_github_log(case: Case) -> None:
    """The poll sends the vector's requests and no other, in their order."""
    poll, expected = _Poll(case), case["expected"]
    assert (poll.outcome, poll.triggers, poll.known) == (
        expected["outcome"],
        expected["triggers"],
        expected["known_after"],
    )
    assert poll.log == expected["log"]
    assert poll.github.expected == []
