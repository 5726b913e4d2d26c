"""The quota of a GitHub host: answers with a quota, and answers without."""

from __future__ import annotations

import json

import pytest

from emulator.clock import SteppedClock
from luci_scheduler.adapters.github_api import GitHubApi
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.adapters.github_quotas import GitHubQuotas
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import GitilesError, HostQuota
from tests.answering import Answer, Answering, answering

_CORE = {"limit": 5000, "used": 20, "remaining": 4980, "reset": 1_773_759_490}


def _quotas(server: Answering) -> GitHubQuotas:
    hosts = CommitHosts({"github.com": ConfiguredHost(HostKind.GITHUB, server.url, credentials=True)})
    clock = SteppedClock(Instant(1_773_755_890 * SECOND))
    return GitHubQuotas(GitHubApi(hosts, sessions(authenticated=False), TokenCredentials("ghs_example"), clock))


def test_the_quota_of_requests_is_read() -> None:
    """GitHub has several quotas; ``core`` is that of the calls that the scheduler makes."""
    body = json.dumps({"resources": {"core": _CORE, "search": {"limit": 30}}, "rate": _CORE}).encode()
    with answering() as server:
        server.otherwise = lambda path, _: Answer(200, body) if path == "/rate_limit" else Answer(500)
        assert _quotas(server).quota("github.com") == HostQuota(5000, 4980, Instant(_CORE["reset"] * SECOND))


def test_a_server_without_limits_has_no_quota() -> None:
    """GitHub Enterprise Server says so with 404."""
    with answering() as server:
        server.otherwise = lambda *_: Answer(404, b'{"message": "Rate limiting is not enabled."}')
        assert _quotas(server).quota("github.com") is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(401, b'{"message": "Bad credentials"}'), "UNAUTHENTICATED"),
        (Answer(503, b"{}"), "UNAVAILABLE"),
        (Answer(200, b'{"resources": {}}'), "INTERNAL"),
        (Answer(200, b'{"resources": {"core": {"limit": "many", "remaining": 1, "reset": 1}}}'), "INTERNAL"),
        (Answer(200, b"[]"), "INTERNAL"),
    ],
)
def test_an_answer_without_a_quota_is_an_error(answer: Answer, code: str) -> None:
    """Refused credentials have their own code, by which the command chooses its advice."""
    with answering() as server:
        server.otherwise = lambda *_: answer
        with pytest.raises(GitilesError) as caught:
            _quotas(server).quota("github.com")
    assert caught.value.code == code
