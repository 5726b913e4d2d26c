"""Pages of other sites against the servers of a local cloud in memory: every server refuses them."""

import json
import re
from collections.abc import Iterator

import pytest
import requests

from emulator.banner import addresses
from emulator.clock import AdjustableClock
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.sample import make_sample
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from tests.listening import http_status, listening_ports

FOREIGN = (
    "Host: evil.example",
    "Host: {own}\r\nOrigin: https://evil.example",
    "Host: {own}\r\nOrigin: null",
    "Host: {own}\r\nSec-Fetch-Site: cross-site",
    "Host: {own}\r\nSec-Fetch-Site: same-site",
)
LINES = ("GET / HTTP/1.1", "POST / HTTP/1.1", "PUT /x HTTP/1.1", "OPTIONS / HTTP/1.1")
SERVERS = 9
"""The start page, four functions, Buildbucket, Gitiles, Cloud Tasks and its keys."""


@pytest.fixture(name="others", scope="module")
def _others() -> set[int]:
    """The ports of servers that run before the local cloud starts, for other tests."""
    return listening_ports()


@pytest.fixture(name="cloud", scope="module")
def _cloud(others: set[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    folder = tmp_path_factory.mktemp("cloud")
    make_sample(folder / "configs")
    options = Options(folder=folder, store="memory", clock=AdjustableClock(), sweep_seconds=0, sync_seconds=0)
    with start_local_cloud(options) as cloud:
        cloud.repository("https://sample.googlesource.com/engine")
        yield cloud


@pytest.fixture(name="page", scope="module")
def _page(cloud: LocalCloud) -> Iterator[StartPage]:
    with StartPage(cloud) as page:
        yield page


@pytest.fixture(name="ports", scope="module")
def _ports(cloud: LocalCloud, page: StartPage, others: set[int]) -> set[int]:
    """Every port that the local cloud listens on, found by its sockets, and every address that it prints."""
    printed = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", addresses(cloud, page.url))}
    return printed | (listening_ports() - others)


def test_every_server_refuses_every_page_of_another_site(cloud: LocalCloud, ports: set[int]) -> None:
    """The servers are found by their sockets, so new ones are included, except gRPC, which no page can speak."""
    found = {port: http_status(port, f"Host: 127.0.0.1:{port}") for port in ports}
    grpc = int(cloud.cloud_tasks.grpc_address.rpartition(":")[2])
    assert [port for port, status in found.items() if status is None] == [grpc]
    assert len(found) >= SERVERS
    assert 403 not in found.values()
    answers = {
        (port, headers, line): http_status(port, headers.format(own=f"127.0.0.1:{port}"), line)
        for port in found.keys() - {grpc}
        for headers in FOREIGN
        for line in LINES
    }
    assert {key: status for key, status in answers.items() if status != 403} == {}


def test_a_link_on_another_site_opens_the_pages(cloud: LocalCloud, page: StartPage) -> None:
    """It only reads, and its site does not see the answer."""
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for url in (cloud.console_url, page.url, f"{cloud.gitiles.url}/h/sample.googlesource.com/"):
        assert requests.get(url, headers=link, timeout=10).status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
def test_no_build_is_started_read_or_canceled_and_no_commit_announced(
    cloud: LocalCloud, headers: dict[str, str]
) -> None:
    """A page sends text/plain without a preflight, and JSON under a name that leads to this machine."""
    builder = {"project": "sample", "bucket": "ci", "builder": "Linux Tests"}
    v1, v2 = f"{cloud.buildbucket.url}/_ah/api/buildbucket/v1", f"{cloud.buildbucket.url}/prpc/buildbucket.v2.Builds"
    data = {"repo": "https://sample.googlesource.com/engine", "ref": "refs/heads/main", "revision": "c" * 40}
    calls = [
        ("POST", f"{v2}/ScheduleBuild", {"requestId": "x", "builder": builder}),
        ("PUT", f"{v1}/builds", {"bucket": "luci.sample.ci", "parameters_json": '{"builder_name": "Linux Tests"}'}),
        ("POST", f"{v1}/builds/cancel", {"build_ids": ["1"]}),
        ("GET", f"{v1}/search", {}),
        ("POST", cloud.functions["on_gitiles_commit"].url, {"message": {"data": data}}),
        ("POST", f"{cloud.gitiles.url}/control/settings", {"strict_auth": True}),
    ]
    cloud.buildbucket.clear_requests()
    for content_type in ("text/plain", "application/json"):
        for method, url, body in calls:
            sent = {**headers, "Content-Type": content_type}
            answer = requests.request(method, url, data=json.dumps(body), headers=sent, timeout=10)
            assert answer.status_code == 403
            assert "local cloud" in answer.text
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]
    assert cloud.buildbucket.requests == []
    assert list(cloud.buildbucket.builds.newest_first()) == []


def test_no_page_of_another_site_frames_or_embeds_an_answer(cloud: LocalCloud, page: StartPage) -> None:
    """Neither pages nor errors nor JSON; browsers keep no page."""
    gitiles = f"{cloud.gitiles.url}/h/sample.googlesource.com/"
    pages = [f"{cloud.console_url}/", f"{page.url}/", gitiles, f"{cloud.buildbucket.url}/nothing"]
    for url in (*pages, f"{cloud.buildbucket.url}/auth/api/v1/server/info", cloud.cloud_tasks.certs_url):
        headers = requests.get(url, timeout=10).headers
        assert headers["X-Frame-Options"] == "DENY", url
        assert headers["X-Content-Type-Options"] == "nosniff", url
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", url
    for url in pages:
        headers = requests.get(url, timeout=10).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], url
        assert "no-store" in headers["Cache-Control"], url
