"""Faults, quotas and the log of the GitHub server."""

from __future__ import annotations

import pytest
import requests

from emulator.clock import SteppedClock
from emulator.github import GitHubFault, GitHubServer
from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from tests.unit.emulator.github.support import OWNER, WIDGET, World, get

REPO = f"/repos/{WIDGET}"
REFS = f"{REPO}/git/matching-refs/heads"


def _control(server: GitHubServer, method: str, path: str, body: object = None) -> requests.Response:
    return requests.request(method, f"{server.url}/control/{path}", json=body, timeout=30)


def _remaining(found: requests.Response) -> int:
    return int(found.headers["X-RateLimit-Remaining"])


# Quotas ---------------------------------------------------------------------------------------------------------------


def test_the_quota_ends_and_comes_back(server: GitHubServer, clock: SteppedClock) -> None:
    """Nothing is answered before the reset; another token has another quota."""
    server.meter.limits.requests = 2
    found = [get(server, REFS) for _ in range(3)]
    assert [one.status_code for one in found] == [200, 200, 403]
    assert [_remaining(one) for one in found] == [1, 0, 0]
    assert "rate limit exceeded" in found[2].json()["message"]
    assert get(server, REFS, token="another").status_code == 200
    clock.reach(int(found[2].headers["X-RateLimit-Reset"]) * SECOND)
    assert _remaining(get(server, REFS)) == 1


def test_an_unchanged_answer_costs_nothing_with_a_token(server: GitHubServer) -> None:
    """Without a token it counts."""
    for token, cost in (("secret", 0), (None, 1)):
        first = get(server, REFS, token=token)
        second = get(server, REFS, token=token, If_None_Match=first.headers["ETag"])
        assert (second.status_code, _remaining(first) - _remaining(second)) == (304, cost)
    assert [request.is_counted for request in server.requests] == [True, False, True, True]


def test_a_changed_list_has_another_etag(server: GitHubServer, world: World) -> None:
    """The old one gets the whole list."""
    repository = Repository.create(world.root / "github.com" / OWNER / "moving")
    repository.commit("First", {"a": "1"})
    path = f"/repos/{OWNER}/moving/git/matching-refs/heads"
    first = get(server, path)
    repository.commit("Second", {"a": "2"})
    second = get(server, path, If_None_Match=first.headers["ETag"])
    assert second.status_code == 200
    assert second.json()[0]["object"]["sha"] != first.json()[0]["object"]["sha"]


def test_without_a_token_there_are_60_requests_an_hour(server: GitHubServer) -> None:
    """The header says so."""
    assert get(server, REFS, token=None).headers["X-RateLimit-Limit"] == "60"
    assert get(server, "/rate_limit", token=None).json()["resources"]["core"]["used"] == 1
    assert get(server, "/meta").json()["hooks"]


@pytest.mark.parametrize(
    ("limit", "value", "pause"), [("points", 10, MINUTE), ("writes_minute", 2, MINUTE), ("writes_hour", 2, HOUR)]
)
def test_bursts_have_secondary_limits(
    server: GitHubServer, world: World, clock: SteppedClock, limit: str, value: int, pause: int
) -> None:
    """A write has five points; after the pause the next one is taken."""
    setattr(server.meter.limits, limit, value)
    url = f"{server.url}{REPO}/statuses/{world['c1']}"

    def write() -> requests.Response:
        return requests.post(url, json={"state": "success"}, headers={"Authorization": "Bearer burst"}, timeout=30)

    found = [write() for _ in range(3)]
    assert [one.status_code for one in found] == [201, 201, 403]
    assert (found[2].headers["Retry-After"], _remaining(found[2]) > 0) == ("60", True)
    clock.advance(pause + SECOND)
    assert write().status_code == 201


# Faults ---------------------------------------------------------------------------------------------------------------


def test_a_fault_without_304(server: GitHubServer) -> None:
    """The whole list comes, and counts."""
    tag = get(server, REFS).headers["ETag"]
    server.faults.add(GitHubFault("no_304"))
    assert [get(server, REFS, If_None_Match=tag).status_code for _ in range(2)] == [200, 304]


def test_a_fault_affects_its_paths_as_often_as_it_says(server: GitHubServer, world: World) -> None:
    """Comparisons fail twice, refs never."""
    server.faults.add(GitHubFault("error", "*/compare/*", 2, 500))
    path = f"{REPO}/compare/{world['c1']}...{world['c3']}"
    assert [get(server, one).status_code for one in (path, REFS, path, path)] == [500, 200, 500, 200]


def test_connections_are_cut(server: GitHubServer) -> None:
    """Before the answer, or in its middle."""
    server.faults.add(GitHubFault("cut"))
    server.faults.add(GitHubFault("slow", times=2, seconds=0.001))
    with pytest.raises(requests.ConnectionError):
        get(server, REFS)
    server.faults.add(GitHubFault("cut_body"))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        get(server, REFS)
    assert [request.status for request in server.requests] == [0, 200]


def test_a_hidden_head_is_listed_but_not_found(server: GitHubServer, world: World) -> None:
    """It appears after the given number of requests."""
    server.faults.hide(world["c3"], times=2)
    assert world["c3"] in get(server, REFS).text
    compare, commit = f"{REPO}/compare/{world['c1']}...{world['c3']}", f"{REPO}/commits/{world['c3']}"
    assert [get(server, path).status_code for path in (compare, commit, compare, commit)] == [404, 422, 200, 200]
    server.faults.hide(world["c3"])
    server.faults.reveal(world["c3"])
    assert get(server, commit).status_code == 200


def test_refs_lag_behind_the_other_calls(server: GitHubServer, world: World) -> None:
    """The list shows the state of before, while the new commit is found already."""
    name = f"{OWNER}/lagging"
    repository = Repository.create(world.root / "github.com" / name)
    first = repository.commit("First", {"a": "1"})
    server.hold_refs(name, times=1)
    second = repository.commit("Second", {"a": "2"})
    assert get(server, f"/repos/{name}/commits/{second}").status_code == 200
    path = f"/repos/{name}/git/matching-refs/heads"
    assert [get(server, path).json()[0]["object"]["sha"] for _ in range(2)] == [first, second]
    with pytest.raises(ValueError, match="no repository"):
        server.hold_refs(f"{OWNER}/none")


# Control --------------------------------------------------------------------------------------------------------------


def test_other_processes_control_the_server(server: GitHubServer, world: World) -> None:
    """Faults, hidden commits, held refs, settings, quota, tokens and names."""
    posts = {
        "faults": {"effect": "html", "status": 502},
        "hidden": {"commit": world["c1"], "times": 1},
        "held": {"repository": WIDGET, "times": 1},
        "settings": {"requests": 3, "refs_per_page": 0, "strict_auth": False},
    }
    for path, body in posts.items():
        assert _control(server, "POST", path, body).status_code == 200, path
    assert _control(server, "GET", "faults").json()[0]["effect"] == "html"
    assert get(server, REFS).status_code == 502
    assert get(server, f"{REPO}/commits/{world['c1']}").status_code == 422
    quota = _control(server, "GET", "quota").json()
    assert (quota["used"], quota["requests"]) == (2, 3)
    assert _control(server, "GET", "requests").json()[0]["path"] == REFS
    for path in ("quota", "tokens", "requests", "faults", "deliveries", "webhook", "statuses"):
        assert _control(server, "DELETE", path).status_code == 200, path
    assert _control(server, "GET", "quota").json()["used"] == 0
    assert _control(server, "DELETE", "hidden", {"commit": world["c1"]}).status_code == 200
    assert _control(server, "GET", "status").json() == {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"effect": "none"}),
        ("faults", {}),
        ("settings", {"color": 1}),
        ("rename", {"repository": "a/b", "to": "c/d"}),
        ("held", {"repository": "a/b"}),
        ("commits", {"repository": "../x", "message": "m"}),
        ("commits", {"repository": "a/b/c", "message": "m"}),
        ("commits", {"repository": "a/.git", "message": "m"}),
        ("commits", {"repository": "a/b\nc", "message": "m"}),
        ("commits", {"repository": WIDGET, "message": "m", "files": {"a": 1}}),
        ("commits", {"repository": WIDGET, "message": "m", "branch": "a..b"}),
        ("refs", {"repository": WIDGET, "ref": "none", "revision": ""}),
        ("push", {"repository": "a/b", "ref": "refs/heads/x"}),
        ("push", {"repository": WIDGET, "ref": "refs/heads/x", "after": "no hash"}),
        ("redeliver", {"delivery": "none"}),
    ],
)
def test_a_wrong_control_call_is_400_and_changes_nothing(
    server: GitHubServer, world: World, path: str, body: object
) -> None:
    """The error is one line."""
    before = get(server, REFS).text
    found = _control(server, "POST", path, body)
    assert found.status_code == 400, found.text
    assert found.json()["error"]
    assert get(server, REFS).text == before
