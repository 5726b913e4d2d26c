"""Commit statuses on GitHub: the request, and how each answer is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emulator.clock import SteppedClock
from emulator.memory.store import MemoryStore
from luci_scheduler import cloud_ports
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import AppCredentials, TokenCredentials
from luci_scheduler.adapters.github_statuses import GitHubStatuses
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.commit_status import CommitStatus, State
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import GitilesError
from luci_scheduler.settings_reader import SettingsError, read_settings
from tests.answering import Answer, Answering, answering
from tests.pushes import SAMPLES
from tests.unit.engine.world import world_settings

_SAMPLE = json.loads((SAMPLES / "commit-status.http.json").read_text(encoding="utf-8"))
_PAGE = _SAMPLE["request"]["body"]["target_url"]
_STATUS = CommitStatus(
    "https://github.com/Example-Org/Widget.git",
    "d710f453fb111e7bdd7a5e94d1b8a4e01b967451",
    State.PENDING,
    "scheduler/widget/ci",
    "Running",
)


def _statuses(server: Answering) -> GitHubStatuses:
    hosts = CommitHosts({"github.com": ConfiguredHost(HostKind.GITHUB, server.url, credentials=True)})
    clock = SteppedClock(Instant(1_773_755_890 * SECOND))
    api = GitHubApi(hosts, sessions(authenticated=False), TokenCredentials("ghs_example"), clock)
    return GitHubStatuses(hosts, api)


def test_a_report_is_the_request_of_the_sample() -> None:
    """Path and body; the sample's answer is a success."""
    asked: list[Any] = []
    with answering() as server:

        def answer(path: str, body: Any) -> Answer:
            asked.append((path, body))
            return Answer(_SAMPLE["response"]["status"], json.dumps(_SAMPLE["response"]["body"]).encode())

        server.otherwise = answer
        _statuses(server).report(_STATUS, _PAGE)
    assert asked == [(_SAMPLE["request"]["url"].removeprefix("https://api.github.com"), _SAMPLE["request"]["body"])]


@pytest.mark.parametrize(
    ("answer", "transient", "code"),
    [
        (Answer(401, b'{"message": "Bad credentials"}'), False, "UNAUTHENTICATED"),
        (Answer(403, b'{"message": "Resource not accessible by integration"}'), False, "PERMISSION_DENIED"),
        (Answer(403, b"{}", {"X-RateLimit-Remaining": "0"}), True, "RESOURCE_EXHAUSTED"),
        (Answer(404, b'{"message": "Not Found"}'), False, "NOT_FOUND"),
        (Answer(422, b'{"message": "No commit found for SHA: d710"}'), False, "NOT_FOUND"),
        (Answer(422, b'{"message": "Validation Failed"}'), False, "INVALID_ARGUMENT"),
        (Answer(429, b"{}"), True, "RESOURCE_EXHAUSTED"),
        (Answer(502, b"<html>"), True, "UNAVAILABLE"),
        (Answer(301, b"", {"Location": "/repositories/1/statuses/x"}), False, "NOT_FOUND"),
    ],
)
def test_an_answer_decides_whether_a_status_is_tried_again(answer: Answer, transient: bool, code: str) -> None:
    """A repository that was renamed gets no status under its old name: a POST follows no redirect."""
    with answering(answer) as server, pytest.raises(GitilesError) as raised:
        _statuses(server).report(_STATUS, _PAGE)
    assert (raised.value.transient, raised.value.code) == (transient, code)
    assert "ghs_example" not in str(raised.value)


def test_a_status_of_a_host_that_the_settings_lost_is_refused() -> None:
    """A queue would repeat any other error for a week."""
    with answering() as server, pytest.raises(GitilesError, match="INVALID_ARGUMENT: ") as raised:
        _statuses(server).report(replace(_STATUS, repo="https://git.example.com/a/b"), _PAGE)
    assert (raised.value.transient, server.paths) == (False, [])


def test_the_port_of_a_deployment_exists_by_option() -> None:
    """Statuses and polls share one client, so that they share its limits."""
    assert cloud_ports.cloud_ports(world_settings(local=True), store=MemoryStore()).statuses is None
    ports: Any = cloud_ports.cloud_ports(world_settings(local=True, github_statuses=True), store=MemoryStore())
    assert isinstance(ports.statuses, GitHubStatuses)
    assert ports.statuses._api is ports.gitiles._github._api


def test_tokens_may_write_statuses_by_option() -> None:
    """Without the option, an App's tokens can only read."""
    app = {"github_app_id": "1", "github_installation_id": "2", "github_private_key": "k"}
    for option, expected in ((False, {"contents": "read"}), (True, {"contents": "read", "statuses": "write"})):
        credentials = cloud_ports._github_credentials(
            world_settings(github_statuses=option, **app), SteppedClock(Instant(0))
        )
        assert isinstance(credentials, AppCredentials)
        assert credentials._permissions == expected


def test_statuses_need_credentials() -> None:
    required = {
        "SCHEDULER_PROJECT": "p", "SCHEDULER_TASK_URL": "https://t", "SCHEDULER_TASK_ACCOUNT": "a@p",
        "SCHEDULER_TOKEN_SECRETS": "a key of twenty bytes", "SCHEDULER_GITHUB_STATUSES": "true",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="SCHEDULER_GITHUB_STATUSES: needs SCHEDULER_GITHUB_TOKEN or a GitHub App"):
        read_settings(required)
    assert read_settings({**required, "SCHEDULER_GITHUB_TOKEN": "t"}).github_statuses
    assert read_settings({**required, "SCHEDULER_LOCAL": "true"}).github_statuses
