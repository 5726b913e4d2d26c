"""Requests of the functions reach the configured server only: no redirect, proxy or password takes them elsewhere."""

from __future__ import annotations

import pytest

from luci_scheduler.cloud_ports import make_identify
from luci_scheduler.core.fetch_target import BadTargetError, parse_target
from tests.answering import Answer, answering
from tests.outside_calls import OUTSIDE_CALLS, OutsideCall
from tests.unit.engine.world import World, world_settings

_WITHOUT_TOKEN = ("Keys that sign tokens", "url_fetch, without timeout_sec")
"""Public keys need no token. `test_fetch` tests the redirects of fetched pages."""
_OF_A_LIBRARY = ("Token of the service account, for a call of 60 s",)
KEYS = [call for call in OUTSIDE_CALLS if call.name == _WITHOUT_TOKEN[0]]
CALLS = [call for call in OUTSIDE_CALLS if not call.is_grpc and call.name not in (*_WITHOUT_TOKEN, *_OF_A_LIBRARY)]


def test_all_calls_with_a_token_are_here() -> None:
    """A new call is tested without further work."""
    assert len(CALLS) == 16


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
@pytest.mark.parametrize("status", [302, 307])
def test_no_call_follows_a_redirect(call: OutsideCall, status: int) -> None:
    """Not with the method GET, and not with the same method and body."""
    with (
        answering(Answer(200, b")]}'\n{}", {"X-Prpc-Grpc-Code": "0"})) as elsewhere,
        answering(Answer(status, b"", {"Location": f"{elsewhere.url}/stolen"})) as server,
    ):
        with pytest.raises(call.errors):
            call.make(server.url.removeprefix("http://"), 5.0)()
        assert server.paths
        assert elsewhere.paths == []


def test_the_query_about_an_access_token_follows_no_redirect() -> None:
    """With the settings of a deployment. A server that gets the query gets the token, and could vouch for it."""
    good = b'{"aud":"c","scope":"https://www.googleapis.com/auth/userinfo.email","email":"a@b.c"}'
    with (
        answering(Answer(200, good)) as elsewhere,
        answering(Answer(302, b"", {"Location": f"{elsewhere.url}/stolen"})) as server,
    ):
        settings = world_settings(local=True, tokeninfo_url=f"{server.url}/tokeninfo", console_oauth_clients=("c",))
        identify = make_identify(settings, World().clock)
        with pytest.raises(Exception, match="could not be queried"):
            identify({"Authorization": "Bearer ya29.good"})
        assert (len(server.paths), elsewhere.paths) == (1, [])


@pytest.mark.parametrize("call", [*CALLS, *KEYS], ids=lambda call: call.name)
def test_no_proxy_of_the_environment_sees_a_request(call: OutsideCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see the service account's token in a request that is not encrypted."""
    with answering(Answer(500)) as server, answering(Answer(200, b")]}'\n{}")) as proxy:
        address = server.url.removeprefix("http://")
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(call.errors):
            call.make(address, 5.0)()
        assert server.paths
        assert proxy.paths == []


def test_a_password_in_an_address_is_refused_by_name() -> None:
    """The text says so, and repeats nothing of it. Without this rule the host would be called invalid."""
    for url in ("https://user@example.com/", "https://user:canary@example.com/", "https://a@127.0.0.1/"):
        with pytest.raises(BadTargetError, match="holds a user name or a password") as raised:
            parse_target(url)
        assert "canary" not in str(raised.value)
