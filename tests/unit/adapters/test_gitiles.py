"""The Gitiles client, against recorded answers and the local Gitiles server, over loopback."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.exceptions import TransportError
from structlog.testing import capture_logs

from emulator.gitiles import GitilesServer, Person, Repository
from emulator.gitiles.faults import GitilesFault
from emulator.gitiles.testing import commit_history
from luci_scheduler.adapters import gitiles
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls, parse_time
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.core.instants import SECOND, parse_rfc3339
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.core.untrusted import MAX_VALUES
from luci_scheduler.ports import GitilesError
from tests.unit.adapters.dripping import HEAD, dripping

SAMPLES = Path(__file__).parents[2] / "samples"
HOST = "dawn.googlesource.com"
TINT = RepoUrl(HOST, "tint")
NEW, OLD = "7b1c0f8a2b0e4c46b9e6a0cf55d0b6a1c9f27e3d", "9f14d5c0be0dd1e5f2a85ea2b3aa2b0f5b1c6a77"
MONDAY = 1_773_756_297 * SECOND
ERRORS = {
    400: ("INVALID_ARGUMENT", False),
    401: ("UNAUTHENTICATED", False),
    403: ("PERMISSION_DENIED", False),
    404: ("NOT_FOUND", False),
    429: ("RESOURCE_EXHAUSTED", True),
    503: ("UNAVAILABLE", True),
}


class Recorded:
    """An HTTP server that gives one answer to every request and keeps the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.paths: list[str] = []
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorded.paths.append(self.path)
                self.send_response(recorded.status)
                for name, value in {**recorded.headers, "Content-Length": str(len(recorded.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(recorded.body)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, name: str) -> None:
        """Give a recorded answer from now on."""
        if name.endswith(".txt"):
            self.body = (SAMPLES / name).read_bytes()
            return
        response = json.loads((SAMPLES / name).read_text(encoding="utf-8"))["response"]
        self.status, self.headers, self.body = response["status"], response["headers"], response["body"].encode()

    def stop(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """A server of recorded answers."""
    server = Recorded()
    yield server
    server.stop()


def client(url: str, *, authenticated: bool = False, deadline: int = 5 * SECOND) -> GitilesClient:
    """Return a client for which ``url`` is the address of the host."""
    opened = sessions(authenticated=False)
    return GitilesClient(host_urls({HOST: url}), opened, deadline, authenticated=authenticated, clock=SystemClock())


def refusal(call: Callable[[], Any]) -> GitilesError:
    """Return the error of a call."""
    with pytest.raises(GitilesError) as raised:
        call()
    return raised.value


def test_a_recorded_log(recorded: Recorded) -> None:
    """The request is the original's. Commits have their committer's time and, if requested, their paths."""
    recorded.answer("gitiles-log-range-tree-diff.body.txt")
    page = client(recorded.url, authenticated=True).log(TINT, NEW, exclude=OLD, limit=50, diffs=True)
    assert recorded.paths == [f"/a/tint/+log/{OLD}..{NEW}?format=JSON&n=50&name-status=1"]
    assert [commit.id for commit in page.commits] == [NEW, OLD]
    assert page.commits[0].committed == parse_rfc3339("2026-03-17T14:04:57Z")
    assert page.next == ""
    assert page.commits[0].diff == (
        ("src/writer/msl/generator_impl.cc", "src/writer/msl/generator_impl.cc"),
        ("", "src/writer/msl/fold_constants.cc"),
        ("src/writer/msl/old.cc", ""),
        ("docs/old-name.md", "docs/new-name.md"),
    )


def test_recorded_pages(recorded: Recorded) -> None:
    """A page names the beginning of the next one. An empty log is valid."""
    recorded.answer("gitiles-log-page-1.body.txt")
    asked = client(recorded.url)
    page = asked.log(RepoUrl(HOST, "a/b"), NEW, limit=1)
    assert ([commit.id for commit in page.commits], page.next) == ([NEW], OLD)
    recorded.answer("gitiles-log-page-2.body.txt")
    page = asked.log(TINT, NEW, limit=1, start=OLD)
    assert ([commit.id for commit in page.commits], page.next) == ([OLD], "")
    assert recorded.paths == [f"/a%2Fb/+log/{NEW}?format=JSON&n=1", f"/tint/+log/{NEW}?format=JSON&n=1&s={OLD}"]
    recorded.answer("gitiles-log-empty.body.txt")
    assert asked.log(TINT, NEW, limit=1).commits == ()
    recorded.answer("gitiles-log-merge-commit-tree-diff.body.txt")
    (merge,) = asked.log(TINT, NEW, limit=1, diffs=True).commits
    assert (merge.diff, merge.committed) == ((), parse_rfc3339("2026-03-18T09:00:00+01:00"))


@pytest.mark.parametrize(
    ("sample", "prefix", "refs"),
    [
        ("heads", "refs/heads", ["refs/heads/chromium/4400", "refs/heads/main", "refs/heads/release-2026.03"]),
        ("tags", "refs/tags", ["refs/tags/v1.0", "refs/tags/v1.1-light"]),
        ("exact", "refs/heads/main", ["refs/heads/main"]),
        ("none", "refs/heads", []),
    ],
)
def test_recorded_refs(recorded: Recorded, sample: str, prefix: str, refs: list[str]) -> None:
    """Names are completed. An annotated tag is its own object, not the commit that it names."""
    recorded.answer(f"gitiles-refs-{sample}.body.txt")
    found = client(recorded.url).refs(TINT, prefix)
    assert list(found) == refs
    assert recorded.paths == [f"/tint/+{prefix.replace('/', '%2F')}?format=JSON"]
    tag_object = {"refs/tags/v1.0": "f0f705ab066fbe063e0fa7be229ae035d1d97c2c"} if sample == "tags" else {}
    assert {ref: found[ref] for ref in found if ref == "refs/tags/v1.0"} == tag_object


def test_entries_without_a_hash_are_left_out(recorded: Recorded) -> None:
    """Such entries exist."""
    recorded.body = b')]}\'\n{"main": {"value": "1"}, "x": {}, "y": null, "z": {"value": ""}}'
    assert client(recorded.url).refs(TINT, "refs/heads") == {"refs/heads/main": "1"}


@pytest.mark.parametrize("status", ERRORS)
def test_recorded_errors(recorded: Recorded, status: int) -> None:
    """Each status has its code. The body's first line is kept, a page's is not."""
    recorded.answer(f"gitiles-error-{status}.http.json")
    error = refusal(lambda: client(recorded.url).log(TINT, NEW, limit=1))
    assert (error.code, error.transient) == ERRORS[status]
    assert str(error).startswith(f"{error.code}: HTTP {status}: ")
    assert ("an HTML page" in str(error)) is (status == 400)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("status", "code"), [(302, "INTERNAL"), (418, "INTERNAL"), (500, "INTERNAL"), (502, "UNAVAILABLE")]
)
def test_other_statuses(recorded: Recorded, status: int, code: str) -> None:
    """A redirect is not followed, because the token is for this host."""
    recorded.status, recorded.headers = status, {"Location": f"{recorded.url}/elsewhere"}
    assert refusal(lambda: client(recorded.url).refs(TINT, "refs/heads")).code == code
    assert len(recorded.paths) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"log": []}',
        b")]}'\nno JSON",
        b")]}'\n[]",
        b")]}'\n{}",
        b')]}\'\n{"log": [{}]}',
        b')]}\'\n{"log": [{"commit": "main", "committer": {"time": "Tue Mar 17 14:04:57 2026"}}]}',
        b")]}'\n" + b"[" * 100_000,
    ],
)
def test_broken_answers(recorded: Recorded, body: bytes) -> None:
    """An answer that is not a log is INTERNAL, and may be a log the next time."""
    recorded.body = body
    error = refusal(lambda: client(recorded.url).log(TINT, NEW, limit=1))
    assert (error.code, error.transient) == ("INTERNAL", True)


def test_an_answer_is_unpacked_only_up_to_the_limit(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body may unpack to a huge one."""
    monkeypatch.setattr(gitiles, "MAX_BODY_BYTES", 1 << 20)
    recorded.headers = {"Content-Encoding": "gzip"}
    recorded.body = gzip.compress(b")]}'\n" + b" " * (4 << 20) + b"{}")
    error = refusal(lambda: client(recorded.url).refs(TINT, "refs/heads"))
    assert (error.code, error.transient) == ("INTERNAL", False)
    assert "more than 1048576 bytes" in str(error)


def test_the_values_of_an_answer_are_counted_before_it_is_parsed(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen megabytes of small objects would take more memory than a function has. A retry would not help."""
    monkeypatch.setattr(gitiles, "read_answer", lambda *_, **__: pytest.fail("nothing may be parsed"))
    recorded.body = b")]}'\n{" + b",".join(b'"a":{}' for _ in range(MAX_VALUES // 2 + 1)) + b"}"
    error = refusal(lambda: client(recorded.url).refs(TINT, "refs/heads"))
    assert (error.code, error.transient) == ("INTERNAL", False)
    assert f"more than {MAX_VALUES} values" in str(error)


def test_forbidden_hosts() -> None:
    """The token goes only to Google's hosts, and to the hosts in a setting."""
    url = host_urls({"local.example": "http://127.0.0.1:1/"})
    assert url("local.example") == "http://127.0.0.1:1"
    assert url("dawn.googlesource.com") == "https://dawn.googlesource.com"
    for host in (
        "example.com",
        "googlesource.com",
        "xgooglesource.com",
        "a.googlesource.com.evil",
        "u@a.googlesource.com",
    ):
        assert url(host) is None, host
    error = refusal(lambda: client("http://127.0.0.1:1").refs(RepoUrl("example.com", "r"), "refs/heads"))
    assert (error.code, error.transient) == ("INVALID_ARGUMENT", False)


def test_one_address_for_every_host() -> None:
    """A local cloud serves each Gitiles host itself, unless a setting names it; other hosts stay forbidden."""
    url = host_urls({"*": "http://127.0.0.1:1/h/", "own.googlesource.com": "http://127.0.0.1:2/"})
    assert url("dawn.googlesource.com") == "http://127.0.0.1:1/h/dawn.googlesource.com"
    assert url("own.googlesource.com") == "http://127.0.0.1:2"
    assert [url(host) for host in ("example.com", "u@a.googlesource.com", "a.googlesource.com/../x")] == [None] * 3


def test_no_server_listens() -> None:
    """Without an HTTP answer, the code is UNKNOWN."""
    error = refusal(lambda: client("http://127.0.0.1:1").refs(TINT, "refs/heads"))
    assert (error.code, error.transient) == ("UNKNOWN", True)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Tue Mar 17 13:58:02 2026", "2026-03-17T13:58:02Z"),
        ("Tue Mar  3 13:58:02 2026", "2026-03-03T13:58:02Z"),
        ("Tue Mar 03 13:58:02 2026", "2026-03-03T13:58:02Z"),
        ("Wed Mar 18 09:00:00 2026 +0100", "2026-03-18T08:00:00Z"),
        ("Wed Mar 18 09:00:00 2026 -0330", "2026-03-18T12:30:00Z"),
        ("Thu Jan 01 00:00:00 1970", "1970-01-01T00:00:00Z"),
    ],
)
def test_times_are_read_with_and_without_a_zone(text: str, time: str) -> None:
    """Times have a zone or none. Days may be padded with a blank."""
    assert parse_time(text) == parse_rfc3339(time)


@pytest.mark.parametrize("text", ["", "Tue Mar 17 13:58 2026", "Tue Mär 17 13:58:02 2026", "Tue Feb 30 13:58:02 2026"])
def test_texts_that_are_not_times(text: str) -> None:
    """A text that is not a time is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


class TestOnRealRepositories:
    """Against the local Gitiles server."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[GitilesServer]:
        """A server."""
        server = GitilesServer(tmp_path)
        server.start()
        yield server
        server.stop()

    def test_pages_of_a_nested_repository(self, server: GitilesServer, tmp_path: Path) -> None:
        """Pages join without a gap. A range ends at the right commit."""
        repository = Repository.create(tmp_path / HOST / "infra" / "luci")
        history = commit_history(repository, 7)
        asked, repo = client(server.url_of(HOST)), RepoUrl(HOST, "infra/luci")
        found: list[str] = []
        start = ""
        while True:
            page = asked.log(repo, history[0], exclude=history[-1], limit=2, start=start)
            found += [commit.id for commit in page.commits]
            start = page.next
            if not start:
                break
        assert found == history[:-1]
        assert asked.refs(repo, "refs/heads") == {"refs/heads/main": history[0]}
        assert {record.path for record in server.requests} == {
            f"/infra/luci/+log/{history[-1]}..{history[0]}",
            "/infra/luci/+refs/heads",
        }

    @pytest.mark.parametrize("zones", [False, True])
    def test_times_in_zones(self, server: GitilesServer, tmp_path: Path, *, zones: bool) -> None:
        """A commit's time is the same instant in both formats."""
        server.zones = zones
        repository = Repository.create(tmp_path / HOST / "tint")
        sha = repository.commit("x", {"a": "1"}, committer=Person(offset=-210), at=MONDAY)
        (commit,) = client(server.url_of(HOST)).log(TINT, sha, limit=1, diffs=True).commits
        assert (commit.committed, commit.diff) == (MONDAY, (("", "a"),))

    @pytest.mark.parametrize(
        ("effect", "codes"),
        [("cut", {"UNKNOWN"}), ("cut_body", {"INTERNAL", "UNKNOWN"}), ("slow", {"DEADLINE_EXCEEDED"})],
    )
    def test_a_failed_call_may_succeed_later(
        self, server: GitilesServer, tmp_path: Path, effect: Any, codes: set[str]
    ) -> None:
        """Every failed call may succeed the next time."""
        sha = commit_history(Repository.create(tmp_path / HOST / "tint"), 1)[0]
        server.faults.add(GitilesFault(effect, seconds=5))
        asked = client(server.url_of(HOST), deadline=SECOND // 5 if effect == "slow" else 5 * SECOND)
        error = refusal(lambda: asked.log(TINT, sha, limit=1))
        assert error.code in codes
        assert error.transient
        assert asked.log(TINT, sha, limit=1).commits[0].id == sha

    def test_expressions(self, server: GitilesServer, tmp_path: Path) -> None:
        """The host resolves names, steps and short hashes; the names of files and folders are not revisions."""
        repository = Repository.create(tmp_path / HOST / "tint")
        newest, middle, oldest = commit_history(repository, 3)
        repository.commit("Docs\n", {"docs/a.md": "a"}, "docs/x")
        repository.tag("v1", middle, "Version 1")
        asked = client(server.url_of(HOST))
        expected = {"main": newest, "HEAD": newest, "refs/heads/main": newest, "HEAD~2": oldest, "main^^": oldest}
        expected |= {"v1": middle, "v1~1": oldest, newest[:8]: newest, "main^0": newest, middle: middle}
        assert {text: asked.resolve(TINT, text) for text in expected} == expected
        assert asked.resolve(TINT, "docs/x") == repository.resolve("docs/x")
        for text in ("nope", "main~3", "main/file", "docs/x/docs", "docs", "0" * 40):
            assert refusal(lambda text=text: asked.resolve(TINT, text)).code in {"NOT_FOUND", "INVALID_ARGUMENT"}
        assert refusal(lambda: asked.resolve(RepoUrl(HOST, "none"), "main")).code == "NOT_FOUND"


def test_an_answer_without_a_commit(recorded: Recorded) -> None:
    """A folder, an empty object or a strange hash is no commit."""
    for body in ('{"id": "1", "entries": []}', "{}", '{"commit": "main"}', '{"commit": 7}'):
        recorded.body = f")]}}'\n{body}".encode()
        error = refusal(lambda: client(recorded.url).resolve(TINT, "main"))
        assert (error.code, error.transient) == ("NOT_FOUND", False)


def test_a_commit_has_its_own_path(recorded: Recorded) -> None:
    """The whole expression is one part of the path."""
    recorded.body = f')]}}\'\n{{"commit": "{NEW}"}}'.encode()
    assert client(recorded.url, authenticated=True).resolve(RepoUrl(HOST, "a/b"), "wip/x~2^") == NEW
    assert recorded.paths == ["/a/a%2Fb/+/wip%2Fx~2%5E?format=JSON"]


def test_an_answer_that_arrives_byte_by_byte() -> None:
    """The deadline is for the whole answer, not for each piece of it."""
    with dripping(HEAD) as url:
        error = refusal(lambda: client(url, deadline=SECOND // 4).refs(TINT, "refs/heads"))
    assert (error.code, error.transient) == ("DEADLINE_EXCEEDED", True)


def test_a_missing_token_is_a_failure_like_any_other() -> None:
    """The token may be there the next time. The library's text stays out of the error."""

    class NoToken(requests.Session):
        def request(self, *_: Any, **__: Any) -> requests.Response:
            raise TransportError("what the metadata server said: secret")

    asked = GitilesClient(
        host_urls({HOST: "http://127.0.0.1:1"}), NoToken, 5 * SECOND, authenticated=True, clock=SystemClock()
    )
    error = refusal(lambda: asked.refs(TINT, "refs/heads"))
    assert (str(error), error.transient) == ("UNKNOWN: no answer: TransportError", True)


def log_of(*entries: Any) -> bytes:
    """Return a log in Gitiles' format."""
    return b")]}'\n" + json.dumps({"log": list(entries)}).encode()


TIME = "Tue Mar 17 14:04:57 2026"


def test_invalid_utf8_is_replaced(recorded: Recorded) -> None:
    """As in Go. Names and messages are not even used."""
    recorded.body = log_of({"commit": NEW, "author": {"name": "M?ller"}, "committer": {"time": TIME}}).replace(
        b"?", b"\xfc"
    )
    (commit,) = client(recorded.url).log(TINT, NEW, limit=1).commits
    assert commit.id == NEW


@pytest.mark.parametrize(
    ("committer", "changes", "committed", "diff"),
    [
        ({"time": "yesterday"}, [], 0, ()),
        ({"time": 7}, [], 0, ()),
        ({"time": "Tue Mar 17 14:04:57 0000"}, [], 0, ()),
        ({"time": "Tue Mar 17 14:04:57 1969"}, [], 0, ()),
        ({"time": "Tue Mar 17 14:04:57 2300"}, [], 0, ()),
        (None, [], 0, ()),
        ({"time": TIME}, {"old_path": "a"}, MONDAY, ()),
        ({"time": TIME}, ["a", {"new_path": "b"}], MONDAY, (("", "b"),)),
    ],
)
def test_an_unreadable_part_does_not_hide_a_commit(
    recorded: Recorded, committer: Any, changes: Any, committed: int, diff: Any
) -> None:
    """The commit is returned without that part, followed by later commits."""
    older = {"commit": OLD, "committer": {"time": TIME}}
    recorded.body = log_of({"commit": NEW, "committer": committer, "tree_diff": changes}, older)
    with capture_logs() as lines:
        newest, oldest = client(recorded.url).log(TINT, NEW, limit=2, diffs=True).commits
    assert (newest.id, newest.diff, oldest.id) == (NEW, diff, OLD)
    assert (newest.committed == 0) is (committed == 0)
    assert [(line["event"], line["revision"]) for line in lines] == [("commit_unreadable", NEW)]


def test_a_commit_without_a_hash_is_never_left_out(recorded: Recorded) -> None:
    """The poll fails with a clear error, because continuing would lose a commit."""
    recorded.body = log_of({"committer": {"time": TIME}}, {"commit": OLD, "committer": {"time": TIME}})
    error = refusal(lambda: client(recorded.url).log(TINT, NEW, limit=2))
    assert (str(error), error.transient) == (
        "INTERNAL: the answer is not a log: it holds a commit without a hash",
        True,
    )


def test_an_error_for_a_quota_names_its_pause(recorded: Recorded) -> None:
    """The pause is in seconds, with an upper bound."""
    recorded.status, recorded.headers = 429, {"Retry-After": "7"}
    error = refusal(lambda: client(recorded.url).refs(TINT, "refs/heads"))
    assert (error.transient, error.throttled, error.retry_after) == (True, True, 7 * SECOND)
    recorded.headers = {"Retry-After": "1000000"}
    assert refusal(lambda: client(recorded.url).refs(TINT, "refs/heads")).retry_after == 600 * SECOND


def test_the_text_of_a_server_is_one_line_without_secrets(recorded: Recorded) -> None:
    """Control characters and tokens in an error's text are escaped or redacted."""
    recorded.status, recorded.body = 403, b"no \x1b[31m \xe2\x80\xae Bearer abcdefgh"
    error = refusal(lambda: client(recorded.url).refs(TINT, "refs/heads"))
    assert str(error) == "PERMISSION_DENIED: HTTP 403: no \\x1b[31m \\u202e Bearer [redacted]"


def test_refs_that_git_does_not_know_are_left_out(recorded: Recorded) -> None:
    """Control characters would forge lines of a poll's log. Other entries stay."""
    refs = {"main": {"value": NEW}, "a\nb": {"value": NEW}, "c": {"value": "x\x1b"}, "d": 7, "\u200fe": {"value": OLD}}
    recorded.body = b")]}'\n" + json.dumps(refs).encode()
    assert client(recorded.url).refs(TINT, "refs/heads") == {"refs/heads/main": NEW, "refs/heads/\u200fe": OLD}


def test_authors_and_subjects(recorded: Recorded) -> None:
    """They are foreign text: one line, without control characters and secrets, and cut."""
    recorded.answer("gitiles-log-range-tree-diff.body.txt")
    newest = client(recorded.url).log(TINT, NEW, limit=2).commits[0]
    assert (newest.author, newest.subject) == ("Ben Example", "Fold constants in MSL writer")
    texts: dict[str, Any] = {
        "log": [{"commit": NEW, "author": {"name": "A\u202eda\n"}, "message": "\n Bearer abcdefghijk\x1b[1m\nB"}]
    }
    recorded.body = b")]}'\n" + json.dumps(texts).encode()
    (hostile,) = client(recorded.url).log(TINT, NEW, limit=1).commits
    assert (hostile.author, hostile.subject) == ("A\\u202eda", "Bearer [redacted]\\x1b[1m")
    long, odd = "x" * 5000, {"commit": NEW, "author": "Ada", "message": 7}
    texts = {"log": [{"commit": NEW, "author": {"name": long}, "message": long}, odd, {"commit": NEW}]}
    recorded.body = b")]}'\n" + json.dumps(texts).encode()
    cut, *others = client(recorded.url).log(TINT, NEW, limit=3).commits
    assert (cut.author, cut.subject) == ("x" * 99 + "…", "x" * 199 + "…")
    assert [(item.author, item.subject) for item in others] == [("", ""), ("", "")]
