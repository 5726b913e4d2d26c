"""The server answers each recorded exchange of the API in the same shape, over a real repository."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from emulator.github import GitHubFault, GitHubServer
from emulator.gitiles.repository import Repository
from luci_scheduler.core.instants import HOUR, SECOND, parse_rfc3339
from tests.unit.emulator.github.support import NOW, OWNER, SAMPLES, WIDGET, World, get, read_sample, shape_differences

REPO = f"/repos/{WIDGET}"
REFS = f"{REPO}/git/matching-refs"
PAGE = "?per_page=100&page=1"
NO_COMMIT = "f" * 40


def _compare(world: World, base: str, head: str, query: str = PAGE) -> str:
    return f"{REPO}/compare/{world[base]}...{world[head]}{query}"


@dataclass(frozen=True)
class Exchange:
    """How a sample's request is sent to the server.

    Attributes:
        path: returns the path with the query.
        fault: a fault that causes the answer.
        skips: members whose presence depends on the content.
        before: prepares the server.
    """

    path: Callable[[World], str]
    fault: GitHubFault | None = None
    before: Callable[[GitHubServer, World], None] = field(default=lambda _server, _world: None)


def _fault(**fields: Any) -> Exchange:
    return Exchange(lambda _world: f"{REFS}/heads", GitHubFault(**fields))


def _compare_fault(**fields: Any) -> Exchange:
    return Exchange(lambda world: _compare(world, "c1", "c3"), GitHubFault(path="*/compare/*", **fields))


def _empty(_server: GitHubServer, world: World) -> None:
    Repository.create(world.root / "github.com" / OWNER / "empty")


def _renamed(server: GitHubServer, world: World) -> None:
    Repository.create(world.root / "github.com" / OWNER / "gadget")
    server.rename(f"{OWNER}/gadget", f"{OWNER}/gizmo")


EXCHANGES = {
    "matching-refs-heads": Exchange(lambda _world: f"{REFS}/heads"),
    "matching-refs-prefix": Exchange(lambda _world: f"{REFS}/heads/release"),
    "matching-refs-tags": Exchange(lambda _world: f"{REFS}/tags"),
    "matching-refs-none": Exchange(lambda _world: f"{REFS}/heads/none"),
    "empty-repository": Exchange(lambda _world: f"/repos/{OWNER}/empty/git/matching-refs/heads", None, _empty),
    "compare-ahead": Exchange(lambda world: _compare(world, "c1", "c3")),
    "compare-merge": Exchange(lambda world: _compare(world, "c1", "merge")),
    "compare-behind": Exchange(lambda world: _compare(world, "c3", "c1")),
    "compare-diverged": Exchange(lambda world: _compare(world, "c3", "x2")),
    "compare-identical": Exchange(lambda world: _compare(world, "c3", "c3")),
    "compare-base-gone": Exchange(lambda world: f"{REPO}/compare/{NO_COMMIT}...{world['c3']}{PAGE}"),
    "compare-no-common-ancestor": Exchange(lambda world: _compare(world, "alone", "c3")),
    "commit": Exchange(lambda world: f"{REPO}/commits/{world['c3']}{PAGE}"),
    "commit-merge": Exchange(lambda world: f"{REPO}/commits/{world['merge']}{PAGE}"),
    "commit-many-files": Exchange(lambda world: f"{REPO}/commits/{world['big']}{PAGE}"),
    "commit-unknown": Exchange(lambda _world: f"{REPO}/commits/{NO_COMMIT}?per_page=1&page=1"),
    "commits-list": Exchange(lambda world: f"{REPO}/commits?sha={world['c3']}&per_page=100&page=1"),
    "tag-annotated": Exchange(lambda world: f"{REPO}/git/tags/{world['tag']}"),
    "error-bad-credentials": _fault(effect="error", status=401),
    "error-primary-rate-limit": _fault(effect="rate_limit"),
    "error-secondary-rate-limit": _compare_fault(effect="secondary_limit", seconds=60),
    "error-429": _compare_fault(effect="secondary_limit", status=429),
    "error-forbidden": _fault(effect="error", status=403),
    "error-not-found": Exchange(lambda _world: f"/repos/{OWNER}/missing/git/matching-refs/heads"),
    "error-legal": _fault(effect="error", status=451),
    "error-server-502": _compare_fault(effect="error", status=502),
    "error-html-503": _fault(effect="html"),
    "redirect-renamed": Exchange(lambda _world: f"/repos/{OWNER}/gadget/git/matching-refs/heads", None, _renamed),
}
ELSEWHERE = {"matching-refs-not-modified", "compare-pages", "app-installation-token", "commit-status"}
"""Samples that have separate tests below."""

EXTRA = {"commit-many-files": {".stats"}, "commit": set()}
"""Members that an abridged sample lacks."""


def _headers_differ(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the headers of a sample that an answer lacks or that say something else; a host or a hash may differ."""
    exact = {
        "Retry-After",
        "Content-Type",
        "X-Accepted-GitHub-Permissions",
        "X-RateLimit-Resource",
        "X-RateLimit-Limit",
    }
    missing = [name for name in wanted if name not in found and name != "ETag"]
    return missing + [name for name in exact & wanted.keys() & found.keys() if wanted[name] != found[name]]


def _relations(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return relation and page of each link."""
    return re.findall(r"[?&]page=(\d+)>; rel=\"(\w+)\"", headers.get("Link", ""))


def test_each_exchange_of_the_api_has_a_case() -> None:
    """A new sample without a case would prove nothing."""
    names = {path.name.removesuffix(".http.json") for path in SAMPLES.glob("*.http.json")}
    assert {name for name in names if not name.startswith("webhook-")} == EXCHANGES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_answer_has_the_shape_of_the_sample(name: str, server: GitHubServer, world: World) -> None:
    """Status, headers, members and types are those of the sample."""
    case, wanted = EXCHANGES[name], read_sample(name)["response"]
    case.before(server, world)
    if case.fault:
        server.faults.add(case.fault)
    found = get(server, case.path(world))
    assert found.status_code == wanted["status"], found.text
    assert _headers_differ(wanted["headers"], found.headers) == []
    assert _relations(found.headers) == _relations(wanted["headers"])
    if isinstance(wanted["body"], str):
        assert found.text == wanted["body"]
        return
    differences = shape_differences(wanted["body"], found.json())
    assert [
        difference for difference in differences if difference.replace(": ", ".") not in EXTRA.get(name, set())
    ] == []
    if name.startswith(("error-", "empty", "redirect")) and name != "error-primary-rate-limit":
        assert found.json() | {"url": ""} == wanted["body"] | {"url": ""}


def test_a_used_up_quota_shows_no_remaining_request(server: GitHubServer) -> None:
    """The reset is in the future."""
    server.faults.add(GitHubFault("rate_limit"))
    found = get(server, f"{REFS}/heads")
    assert found.headers["X-RateLimit-Remaining"] == "0"
    assert found.headers["X-RateLimit-Used"] == found.headers["X-RateLimit-Limit"]
    assert int(found.headers["X-RateLimit-Reset"]) > NOW // SECOND
    assert "rate limit exceeded for user ID" in found.json()["message"]


def test_an_unchanged_list_of_refs_has_no_body(server: GitHubServer) -> None:
    """The sample's status and headers; the quota is not touched."""
    wanted = read_sample("matching-refs-not-modified")["response"]
    first = get(server, f"{REFS}/heads")
    found = get(server, f"{REFS}/heads", If_None_Match=first.headers["ETag"])
    assert (found.status_code, found.content) == (wanted["status"], b"")
    assert _headers_differ(wanted["headers"], found.headers) == []
    assert found.headers["ETag"] == first.headers["ETag"]
    assert found.headers["X-RateLimit-Remaining"] == first.headers["X-RateLimit-Remaining"]


def test_a_long_comparison_has_pages(server: GitHubServer, world: World) -> None:
    """The oldest commits come first, page 1 alone lists files, and the links name the pages."""
    paths = [f"{REPO}/compare/{world['c1']}...{world.long[-1]}?per_page=100&page={number}" for number in (1, 2)]
    pages = [get(server, path) for path in paths]
    for page, exchange in zip(pages, read_sample("compare-pages")["exchanges"], strict=True):
        assert page.status_code == exchange["response"]["status"]
        assert shape_differences(exchange["response"]["body"], page.json()) == []
        wanted = set(_relations(exchange["response"]["headers"]))
        assert wanted <= set(_relations(page.headers))
    assert [commit["sha"] for page in pages for commit in page.json()["commits"]] == world.long
    assert {page.json()["total_commits"] for page in pages} == {len(world.long)}
    assert [len(page.json()["files"]) for page in pages] == [1, 0]
    assert "/repositories/" in pages[0].headers["Link"]


def test_an_installation_gets_a_token(server: GitHubServer) -> None:
    """The token reads the repository; its rate limit has the installation's name."""
    sample = read_sample("app-installation-token")
    now = server.service.state.clock.now()
    claims = {"iat": now // SECOND - 60, "exp": now // SECOND + 540, "iss": sample["jwt"]["claims"]["iss"]}
    parts = [sample["jwt"]["header"], claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    found = requests.post(
        f"{server.url}/app/installations/4711/access_tokens",
        json=sample["request"]["body"],
        headers={"Authorization": f"Bearer {'.'.join(encoded)}.signature"},
        timeout=10,
    )
    assert found.status_code == sample["response"]["status"], found.text
    wanted = sample["response"]["body"]
    assert shape_differences({**wanted, "permissions": {}}, {**found.json(), "permissions": {}}) == []
    assert found.json()["permissions"] == {"contents": "read", "metadata": "read"}
    assert parse_rfc3339(found.json()["expires_at"]) == now // SECOND * SECOND + HOUR
    assert get(server, f"{REFS}/heads", token=found.json()["token"]).status_code == 200
    assert server.requests[-1].caller == "installation ID 4711"
    assert found.json()["token"] not in str(server.requests)


def test_a_status_is_kept(server: GitHubServer, world: World) -> None:
    """The request of the sample gets its answer."""
    sample = read_sample("commit-status")
    url = f"{server.url}{REPO}/statuses/{world['c3']}"
    headers = {"Authorization": "Bearer secret"}
    found = requests.post(url, json=sample["request"]["body"], headers=headers, timeout=10)
    wanted = sample["response"]
    assert found.status_code == wanted["status"]
    assert shape_differences(wanted["body"], found.json()) == []
    kept = {name: found.json()[name] for name in sample["request"]["body"]}
    assert kept == sample["request"]["body"]
    status = server.statuses.of(WIDGET, world["c3"])[0]
    assert (status.state, status.context, status.id) == ("pending", kept["context"], found.json()["id"])
