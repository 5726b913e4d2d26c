"""Bounds of answers: the size of a document of keys, and the text of a server's error."""

from __future__ import annotations

import pytest

from emulator.clock import SteppedClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls
from luci_scheduler.adapters.http import fetch, sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.repo_url import parse_repo_url
from luci_scheduler.ports import BuildbucketError, GitilesError
from tests.answering import Answer, answering

KEYS_LIMIT = 1 << 20
HOST = "h.googlesource.com"
LONG = b"word " * 100_000


@pytest.mark.parametrize("size", [2, KEYS_LIMIT])
def test_keys_are_read_up_to_a_mebibyte(size: int) -> None:
    """Google's documents have some kilobytes."""
    with answering(Answer(200, b"{}".ljust(size))) as server:
        assert fetch(server.url) == b"{}".ljust(size)


def test_a_key_document_above_the_limit_is_an_error() -> None:
    """The known keys stay, and the call is retried: `OSError` means that the keys could not be fetched."""
    with (
        answering(Answer(200, b"{}".ljust(KEYS_LIMIT + 1))) as server,
        pytest.raises(OSError, match=f"more than {KEYS_LIMIT} bytes"),
    ):
        fetch(server.url)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_the_text_of_a_gitiles_error_is_cut(status: int) -> None:
    """The error goes into logs and markers, so it holds only the beginning of the server's text."""
    with answering(Answer(status, LONG, {"Content-Type": "text/plain"})) as server:
        urls = host_urls({HOST: server.url})
        client = GitilesClient(
            urls, sessions(authenticated=False), 5 * SECOND, authenticated=False, clock=SystemClock()
        )
        with pytest.raises(GitilesError, match="word word") as raised:
            client.log(parse_repo_url(f"https://{HOST}/r"), "a" * 40, limit=1)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_the_text_of_a_buildbucket_error_is_cut(protocol: str) -> None:
    """The error goes into the debug log: a long error must not push the rest of the log out."""
    with answering(Answer(500, LONG, {"X-Prpc-Grpc-Code": "13", "Content-Type": "text/plain"})) as server:
        client = BuildbucketClient(
            lambda _: server.url, sessions(authenticated=False), SteppedClock(Instant(SECOND)), 5 * SECOND
        )
        with pytest.raises(BuildbucketError, match="word word") as raised:
            client.v2("host", "GetBuild", {}) if protocol == "v2" else client.v1("host", "GET", "builds/1")
    assert len(str(raised.value)) < 4200
