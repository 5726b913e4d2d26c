"""Redirects of a Buildbucket server: the request holds a token, so only the configured server gets it."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.clock import SteppedClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.http import sessions
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.ports import BuildbucketError
from tests.answering import Answer, answering

BODY = {"notify": {"userData": "the token"}}
GOOD = Answer(200, b"{}", {"X-Prpc-Grpc-Code": "0"})


def _client(url: str) -> BuildbucketClient:
    return BuildbucketClient(
        lambda _: url, sessions(authenticated=False), SteppedClock(Instant(100 * SECOND)), 5 * SECOND
    )


def _v1_put(client: BuildbucketClient) -> Any:
    return client.v1("host", "PUT", "builds", BODY)


def _v1_get(client: BuildbucketClient) -> Any:
    return client.v1("host", "GET", "builds/1")


def _v2(client: BuildbucketClient) -> Any:
    return client.v2("host", "ScheduleBuild", BODY)


@pytest.mark.parametrize("call", [_v1_put, _v1_get, _v2])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int, call: Any) -> None:
    """The second server, which would answer well, gets no request."""
    with (
        answering(GOOD) as elsewhere,
        answering(Answer(status, b"moved", {"Location": f"{elsewhere.url}/builds"})) as server,
        pytest.raises(BuildbucketError),
    ):
        call(_client(server.url))
    assert len(server.paths) == 1
    assert elsewhere.paths == []


@pytest.mark.parametrize("call", [_v1_put, _v1_get, _v2])
def test_the_second_server_gives_a_valid_answer(call: Any) -> None:
    """The control of the test above: called directly, that server gives a valid answer."""
    with answering(GOOD) as server:
        assert call(_client(server.url)) == {}
    assert len(server.paths) == 1
