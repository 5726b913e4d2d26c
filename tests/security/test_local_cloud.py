"""The servers of the local cloud, as a page of another site reaches them: no answer, no change, no program."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from werkzeug.exceptions import RequestEntityTooLarge

from emulator.buildbucket import BuildbucketServer
from emulator.buildbucket.testing import MemoryPublisher
from emulator.clock import SteppedClock
from emulator.gitiles import GitilesServer, Repository, smart_http
from luci_scheduler.core.instants import Instant

HOST = "h.googlesource.com"


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(name="gitiles", scope="module")
def _gitiles(root: Path) -> Iterator[GitilesServer]:
    repository = Repository.create(root / HOST / "repo")
    repository.commit("<script>alert(1)</script>", {"<img src=x onerror=alert(1)>": "<script>alert(1)</script>"})
    server = GitilesServer(root)
    server.around.watched = lambda: {f"https://{HOST}/fresh"}
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="buildbucket", scope="module")
def _buildbucket() -> Iterator[BuildbucketServer]:
    server = BuildbucketServer(SteppedClock(Instant(0)), MemoryPublisher(), life_cycle="manual")
    server.start()
    yield server
    server.stop()


FOREIGN: Mapping[str, Mapping[str, str]] = {
    "a name that leads here": {"Host": "evil.example:{port}"},
    "a name like ours": {"Host": "127.0.0.1.evil.example:{port}"},
    "another address of this machine": {"Host": "127.0.0.2:{port}"},
    "two names": {"Host": "127.0.0.1:{port}, evil.example"},
    "a page of another site": {"Origin": "https://evil.example"},
    "a page of another port": {"Origin": "http://127.0.0.1:1"},
    "a sandboxed page": {"Origin": "null"},
    "a picture of another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a page of a neighbor": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    "a frame of another site": {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "iframe",
    },
}
JSON = {"Content-Type": "application/json"}
PUSH = f"/{HOST}/fresh"


def _requests(port: str) -> list[tuple[str, str, bytes]]:
    """Return method, path and body of requests that read or change something."""
    gitiles = [
        ("GET", f"/{HOST}/repo/+log/main?format=JSON", b""),
        ("GET", f"/{HOST}/repo/+/main", b""),
        ("GET", f"/{HOST}/repo/info/refs?service=git-upload-pack", b""),
        ("GET", f"{PUSH}/info/refs?service=git-receive-pack", b""),
        ("POST", f"{PUSH}/git-receive-pack", b"0000"),
        ("POST", f"/{HOST}/repo/git-upload-pack", b"0000"),
        ("POST", "/control/settings", b'{"strict_auth":true}'),
        ("GET", "/control/requests", b""),
    ]
    build = {"builder": {"project": "p", "bucket": "b", "builder": "x"}, "requestId": "1"}
    buildbucket = [
        ("GET", "/", b""),
        ("GET", "/control/builds", b""),
        ("POST", "/control/plans", b'{"builder":"*","plan":{"manual":true}}'),
        ("POST", "/prpc/buildbucket.v2.Builds/ScheduleBuild", json.dumps(build).encode()),
        ("PUT", "/_ah/api/buildbucket/v1/builds", b"{}"),
        ("POST", "/_ah/api/buildbucket/v1/builds/cancel", b"{}"),
    ]
    return gitiles if port == "gitiles" else buildbucket


def _send(server: str, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server, timeout=20)
    try:
        skips_host = "Host" in headers
        connection.putrequest(method, path, skip_host=skips_host)
        for name, value in {**JSON, "Accept": "application/json", **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


@pytest.mark.parametrize("server", ["gitiles", "buildbucket"])
def test_no_page_of_another_site_reads_or_changes_anything(
    server: str, gitiles: GitilesServer, buildbucket: BuildbucketServer
) -> None:
    """Control endpoints, APIs, pages and git's own protocol answer 403, and do not even log the request."""
    running = gitiles if server == "gitiles" else buildbucket
    before = len(running.requests)
    port = running.host.rpartition(":")[2]
    for name, headers in FOREIGN.items():
        for method, path, body in _requests(server):
            sent = {key: value.replace("{port}", port) for key, value in headers.items()}
            answer = _send(running.host, method, path, body, sent)
            assert (answer.status, b"local cloud" in answer.body) == (403, True), (name, path)  # type: ignore[attr-defined]
            assert "Access-Control-Allow-Origin" not in answer.headers, (name, path)
    assert len(running.requests) == before
    assert not running.strict_auth


def test_programs_without_a_browsers_headers_are_served(gitiles: GitilesServer, buildbucket: BuildbucketServer) -> None:
    """The control of the test above; no answer allows pages of other sites to read it."""
    for server, running in (("gitiles", gitiles), ("buildbucket", buildbucket)):
        for method, path, body in _requests(server):
            if "strict_auth" in str(body) or path.startswith(PUSH):
                continue
            answer = _send(running.host, method, path, body, {})
            assert answer.status != 403, path
            assert "Access-Control-Allow-Origin" not in answer.headers, path


@pytest.mark.parametrize("path", [f"/{HOST}/repo/+/main", f"/{HOST}/repo", "/", f"/{HOST}/repo/+log/main"])
def test_a_repositorys_page_runs_nothing(gitiles: GitilesServer, path: str) -> None:
    """Its texts come from commits. They are escaped, and the headers forbid scripts, frames and other hosts."""
    answer = _send(gitiles.host, "GET", path, b"", {"Accept": "text/html"})
    page = answer.body.decode()  # type: ignore[attr-defined]
    assert answer.status == 200
    assert "<script" not in page
    assert "<img" not in page
    policy = {part.strip() for part in answer.headers["Content-Security-Policy"].split(";")}
    assert {"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= policy
    assert not [part for part in policy if part.startswith("script-src")]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


TRAVERSALS = (
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", f"/{HOST}/../../x/info/refs",
    f"/{HOST}/%2e%2e%2f%2e%2e%2fx/info/refs", f"/h/..%2f/{HOST}/repo", f"/{HOST}/.git/config",
    f"/{HOST}/repo/.git/HEAD",    f"/{HOST}/repo/objects/info/packs", f"/{HOST}/repo/HEAD", f"/{HOST}/repo/config",
    f"/{HOST}/repo/+/main/..%2f..%2fconfig?format=TEXT", f"/{HOST}/repo/+/--output=%2ftmp%2fx?format=JSON",
    f"/{HOST}/repo/+log/--output=%2ftmp%2fx?format=JSON", f"/{HOST}/repo/+log/main?format=JSON&author=--output=x",
    f"/{HOST}/repo/+log/main%0aX-Injected:1?format=JSON", f"/{HOST}/repo%0d%0aX-Injected:1/info/refs",
)  # fmt: skip


def test_no_address_leaves_the_repositories(gitiles: GitilesServer, tmp_path: Path) -> None:
    """No file of the machine or of a repository's settings is shown, and no option reaches git."""
    for path in TRAVERSALS:
        for query in ("", "?service=git-receive-pack"):
            answer = _send(gitiles.host, "GET", path + ("" if "?" in path else query), b"", {})
            body = answer.body  # type: ignore[attr-defined]
            assert answer.status in (200, 400, 403, 404), (path, answer.status)
            assert answer.status != 200 or b'"log"' in body, (path, body[:200])
            assert b"root:" not in body, path
            assert b"bare =" not in body, path
            assert "X-Injected" not in answer.headers, path
    assert list(tmp_path.iterdir()) == []


BODIES = (b"", b"0000", b"00", b"zzzz", b"0" * 100_000, b"ffff" + b"x" * 10, b"\x1f\x8b" + b"x" * 50, b"0009done\n0000")


@pytest.mark.parametrize("service", ["git-receive-pack", "git-upload-pack"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_bodies_that_git_cannot_read(gitiles: GitilesServer, service: str, encoding: str) -> None:
    """Git refuses them or answers with an error of its protocol; no ref changes, and the server stays up."""
    url = f"/{HOST}/repo"
    before = _send(gitiles.host, "GET", f"{url}/+refs?format=JSON", b"", {}).body  # type: ignore[attr-defined]
    headers = {"Content-Type": f"application/x-{service}-request", "Git-Protocol": "version=2:\x7f/../../x"}
    for body in BODIES:
        sent = {**headers, "Content-Encoding": encoding} if encoding else headers
        assert _send(gitiles.host, "POST", f"{url}/{service}", body, sent).status in (200, 400, 403, 500)
    after = _send(gitiles.host, "GET", f"{url}/+refs?format=JSON", b"", {})
    assert (after.status, after.body) == (200, before)  # type: ignore[attr-defined]


def test_no_program_of_a_repository_makes_a_page(gitiles: GitilesServer, root: Path, tmp_path: Path) -> None:
    """A clone of foreign work may name programs that print differences."""
    proof = tmp_path / "proof"
    repository = Repository.create(root / HOST / "foreign")
    repository.commit("x", {"file": "1\n"})
    with (repository.path / "config").open("a") as config:
        config.write(f'[diff "x"]\n\ttextconv = "touch {proof};"\n\tcommand = "touch {proof};"\n')
    (repository.path / "info").mkdir(exist_ok=True)
    (repository.path / "info/attributes").write_text("* diff=x\n")
    for path in ("+/main", "+log/main", "+/main/file"):
        assert _send(gitiles.host, "GET", f"/{HOST}/foreign/{path}", b"", {"Accept": "text/html"}).status == 200
    assert not proof.exists()


def test_a_push_keeps_no_more_than_its_limit() -> None:
    """The rest of a body is read, so that git sees the answer, and is not written to the disk."""
    body, kept = io.BytesIO(b"x" * 150_000), io.BytesIO()
    with pytest.raises(RequestEntityTooLarge):
        smart_http._copy(SimpleNamespace(stream=body), kept, 100_000)  # type: ignore[arg-type]
    assert (body.tell(), kept.tell() <= 100_000) == (150_000, True)
    endless, kept = io.BytesIO(b"x" * 1_000_000), io.BytesIO()
    with pytest.raises(RequestEntityTooLarge):
        smart_http._copy(SimpleNamespace(stream=endless), kept, 100_000)  # type: ignore[arg-type]
    assert endless.tell() < 400_000
