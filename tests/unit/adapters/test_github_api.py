"""The client of GitHub's REST API: errors, limits, redirects, tokens, one request at a time."""

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from structlog.testing import capture_logs

from emulator.clock import SteppedClock
from luci_scheduler.adapters import github_api, gitiles
from luci_scheduler.adapters.github_api import EmptyRepositoryError, GitHubError
from luci_scheduler.adapters.github_credentials import TokenCredentials
from luci_scheduler.budget import limited
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND, Instant, parse_rfc3339
from luci_scheduler.ports import GitilesError
from tests.scripted_github import Exchange, ScriptedGitHub
from tests.waiting import until

SAMPLES = Path(__file__).parents[2] / "samples" / "github"
NOW = parse_rfc3339("2026-03-17T13:58:02Z")
RESET = 1_773_759_600 * SECOND
PATH = "/repos/o/r"
GET = f"GET {PATH}"
LIMIT = "rate limit"


def sample(name: str) -> dict[str, Any]:
    """Return a sample of an exchange."""
    document: dict[str, Any] = json.loads((SAMPLES / f"{name}.http.json").read_text(encoding="utf-8"))
    return document


def ask(*exchanges: Exchange, clock: SteppedClock | None = None, token: str = "") -> tuple[ScriptedGitHub, Any]:
    """Send the first expected request; return the server, and the answer or the error."""
    github = ScriptedGitHub(*exchanges)
    api = github.api(clock or SteppedClock(NOW), TokenCredentials(token) if token else None)
    try:
        return github, api.get("github.com", exchanges[0].request.removeprefix("GET "))
    except GitilesError as error:
        return github, error


@pytest.mark.parametrize(
    ("name", "code", "transient", "text"),
    [
        ("error-bad-credentials", "UNAUTHENTICATED", False, "HTTP 401: Bad credentials"),
        ("error-forbidden", "PERMISSION_DENIED", False, "(needs the permission contents=read)"),
        ("error-not-found", "NOT_FOUND", False, "HTTP 404: Not Found"),
        ("error-legal", "PERMISSION_DENIED", False, "HTTP 451: Repository access blocked"),
        ("error-server-502", "UNAVAILABLE", True, "HTTP 502: Server Error"),
        ("error-html-503", "UNAVAILABLE", True, "HTTP 503: an HTML page"),
        ("error-primary-rate-limit", "RESOURCE_EXHAUSTED", True, "API rate limit exceeded for installation ID 4711."),
        ("error-secondary-rate-limit", "RESOURCE_EXHAUSTED", True, "You have exceeded a secondary rate limit."),
        ("error-429", "RESOURCE_EXHAUSTED", True, "HTTP 429: You have exceeded a secondary rate limit."),
        ("commit-unknown", "NOT_FOUND", False, "HTTP 422: No commit found for SHA"),
        ("empty-repository", "NOT_FOUND", False, "HTTP 409: Git Repository is empty."),
        ("compare-base-gone", "NOT_FOUND", False, "HTTP 404: Not Found"),
        ("compare-no-common-ancestor", "NOT_FOUND", False, "HTTP 404: No common ancestor between"),
    ],
)
def test_errors_of_the_samples(name: str, code: str, text: str, *, transient: bool) -> None:
    """Each has GitHub's own words, the code that callers decide by, and whether a repetition may help."""
    _, error = ask(Exchange.of_sample(sample(name)))
    assert (error.code, error.transient) == (code, transient)
    assert text in str(error)


@pytest.mark.parametrize(
    ("status", "message", "code", "transient"),
    [
        (400, "Problems parsing JSON", "INVALID_ARGUMENT", False),
        (403, "Sorry. Your account was suspended.", "PERMISSION_DENIED", False),
        (403, "You have exceeded a secondary RATE LIMIT", "RESOURCE_EXHAUSTED", True),
        (405, "Method not allowed", "INTERNAL", True),
        (409, "Merge conflict", "ABORTED", False),
        (410, "Gone", "NOT_FOUND", False),
        (422, "Validation Failed", "INVALID_ARGUMENT", False),
        (500, "Server Error", "UNAVAILABLE", True),
        (504, "", "UNAVAILABLE", True),
        (599, "", "INTERNAL", True),
    ],
)
def test_errors_by_status(status: int, message: str, code: str, *, transient: bool) -> None:
    """These statuses have no sample. A conflict that is no empty repository is about the request."""
    _, error = ask(Exchange(GET, status, {"message": message}))
    assert (error.code, error.transient, isinstance(error, EmptyRepositoryError)) == (code, transient, False)
    assert str(error) == f"{code}: HTTP {status}: {message}".rstrip(": ")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(RESET // SECOND)}, RESET - NOW),
        ({"Retry-After": "90"}, 90 * SECOND),
        ({"Retry-After": "30", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(RESET // SECOND)}, RESET - NOW),
        ({"Retry-After": "30", "X-RateLimit-Remaining": "12", "X-RateLimit-Reset": "9"}, 30 * SECOND),
        ({}, MINUTE),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12"}, MINUTE),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, 2 * HOUR),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 30}, MINUTE),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, MINUTE),
        ({"Retry-After": "999999"}, 2 * HOUR),
    ],
)
def test_a_host_is_not_asked_before_the_time_of_its_limits(headers: Mapping[str, str], wait: int) -> None:
    """Until then, calls fail at once and show the time. A time that makes no sense counts as a minute or two hours."""
    clock = SteppedClock(NOW)
    github = ScriptedGitHub(Exchange(GET, 403, {"message": LIMIT}, headers))
    api = github.api(clock)
    with pytest.raises(GitHubError) as first:
        api.get("github.com", PATH)
    clock.move_to(Instant(NOW + wait - 1))
    with pytest.raises(
        GitilesError, match=r"RESOURCE_EXHAUSTED: GitHub's limit of requests is used up until 2026-"
    ) as later:
        api.get("github.com", PATH)
    assert (first.value.throttled, later.value.throttled, later.value.transient) == (True, True, True)
    assert (first.value.retry_after, later.value.retry_after) == (min(wait, 10 * MINUTE), 1)
    assert len(github.sent) == 1
    clock.move_to(Instant(NOW + wait))
    github.expect([Exchange(GET, 200, {})])
    assert api.get("github.com", PATH).status == 200


def test_refusals_without_a_time_double_the_wait() -> None:
    """The longest wait is 32 minutes. Any other answer starts again."""
    clock, waits = SteppedClock(NOW), []
    github = ScriptedGitHub()
    api = github.api(clock)
    for status in (*[429] * 7, 404, 429, 429, 200, 429):
        github.expect([Exchange(GET, status, {"message": LIMIT})])
        with nullcontext() if status == 200 else pytest.raises(GitHubError):
            api.get("github.com", PATH)
        wait = max(0, api._states["github.com"].closed_until - clock.now())
        waits.append(wait // MINUTE)
        clock.move_to(Instant(clock.now() + wait))
    assert waits == [1, 2, 4, 8, 16, 32, 32, 0, 1, 2, 0, 1]


def test_each_host_has_its_own_limit_and_credentials() -> None:
    """The token goes to one host alone."""
    hosts = CommitHosts(
        {
            "github.com": ConfiguredHost(HostKind.GITHUB, "https://api.github.com"),
            "git.example.com": ConfiguredHost(HostKind.GITHUB, "https://git.example.com/api/v3", credentials=True),
        }
    )
    github = ScriptedGitHub(Exchange(GET, 429, {}), Exchange("GET /api/v3/repos/o/r", 200, {}))
    api = github.api(SteppedClock(NOW), TokenCredentials("secret-token"), hosts)
    with pytest.raises(GitHubError):
        api.get("github.com", PATH)
    assert api.get("git.example.com", PATH).status == 200
    assert [item["headers"].get("Authorization") for item in github.sent] == [None, "Bearer secret-token"]
    with pytest.raises(GitilesError, match=r"INVALID_ARGUMENT: other\.example is not a configured commit host"):
        api.get("other.example", PATH)


def test_the_headers_of_a_request() -> None:
    """GitHub refuses requests without a user agent, and a version keeps the answers' form."""
    github, answer = ask(Exchange(GET, 200, [1], {"ETag": 'W/"1"'}), token="t-1")
    assert github.sent[0]["headers"] == {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "serverless-luci-scheduler",
        "Authorization": "Bearer t-1",
    }
    assert (answer.document, answer.etag, answer.next) == ([1], 'W/"1"', "")


def test_a_condition_that_holds() -> None:
    """The ETag is sent back, and the answer has no body."""
    github = ScriptedGitHub(Exchange.of_sample(sample("matching-refs-not-modified")))
    path = "/repos/example-org/widget/git/matching-refs/heads"
    answer = github.api(SteppedClock(NOW)).get("github.com", path, etag='W/"6f1d0c2b"')
    assert (answer.status, answer.document, answer.etag) == (304, None, 'W/"6f1d0c2b"')
    assert github.sent[0]["headers"]["If-None-Match"] == 'W/"6f1d0c2b"'


@pytest.mark.parametrize("etag", ["", '"a"\r\n "b"', '"\u2026"', f'"{"x" * 600}"'])
def test_an_etag_that_no_header_can_carry_is_not_sent(etag: str) -> None:
    """Otherwise each later request of the process would fail."""
    github = ScriptedGitHub(Exchange(GET, 200, []))
    assert github.api(SteppedClock(NOW)).get("github.com", PATH, etag=etag).status == 200
    assert "If-None-Match" not in github.sent[0]["headers"]


def test_a_post_sends_json_and_follows_no_redirect() -> None:
    """A commit status is such a request."""
    record = sample("commit-status")
    github = ScriptedGitHub(Exchange.of_sample(record), Exchange("POST /x", 307, None, {"Location": "/y"}))
    api = github.api(SteppedClock(NOW))
    path = record["request"]["url"].removeprefix("https://api.github.com")
    answer = api.post("github.com", path, record["request"]["body"])
    assert (answer.status, answer.document) == (201, record["response"]["body"])
    assert github.sent[0]["body"] == record["request"]["body"]
    with pytest.raises(GitilesError, match="NOT_FOUND: it has moved to"):
        api.post("github.com", "/x", {})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_on_the_same_host_are_followed(status: int) -> None:
    """Each request has the same headers. The fourth redirect is an error."""
    steps = [Exchange(f"GET {path}", status, {}, {"Location": target}) for path, target in (("/a", "/b"), ("/b", "/c"))]
    github, answer = ask(
        *steps,
        Exchange("GET /c", status, {}, {"Location": "https://api.github.com/d?x=1"}),
        Exchange("GET /d?x=1", 200, 7),
        token="t",
    )
    assert answer.document == 7
    assert {item["headers"]["Authorization"] for item in github.sent} == {"Bearer t"}
    loop = [Exchange(f"GET {path}", 301, {}, {"Location": "/a"}) for path in ("/a", "/a", "/a", "/a")]
    github, error = ask(*loop)
    assert (error.code, error.transient, len(github.sent)) == ("NOT_FOUND", False, 4)
    assert "it has moved more than 3 times" in str(error)


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/x?token=1", "http://api.github.com/x", "https://api.github.com:444/x", "//evil.example"],
)
def test_a_redirect_to_another_host_is_not_followed(target: str) -> None:
    """The token must not leave its host."""
    github, error = ask(Exchange(GET, 301, {}, {"Location": target}), token="t")
    assert (error.code, error.transient, len(github.sent)) == ("NOT_FOUND", False, 1)
    assert "it has moved to " in str(error)
    assert "token=1" not in str(error)


def test_a_renamed_repository_is_reported_once_an_hour() -> None:
    """The line has both names, because webhooks come under the new one. A temporary redirect says nothing about it."""
    clock = SteppedClock(NOW)
    record = sample("redirect-renamed")
    path = record["request"]["url"].removeprefix("https://api.github.com")
    moved = Exchange.of_sample(record)
    url = "https://api.github.com/repos/other-org/tool/git/refs/heads/main"
    refs = Exchange("GET /repositories/710001/git/matching-refs/heads", 200, [{"url": url}])
    unchanged = Exchange("GET /repositories/710001/git/matching-refs/heads", 304)
    github = ScriptedGitHub(moved, refs, moved, refs, moved, unchanged)
    api = github.api(clock)
    with capture_logs() as logs:
        for _ in range(2):
            api.get("github.com", path)
        clock.move_to(Instant(NOW + HOUR))
        api.get("github.com", path)
    warning = (
        "repository_moved",
        "https://github.com/example-org/gadget",
        "https://api.github.com/repos/other-org/tool",
    )
    assert [(entry["event"], entry["repo"], entry["moved_to"]) for entry in logs] == [warning] * 2
    fresh = ScriptedGitHub(moved, replace(unchanged, status=200, body=[])).api(clock)
    with capture_logs() as logs:
        fresh.get("github.com", path)
    assert [entry["moved_to"].partition("/git/")[0] for entry in logs] == ["https://api.github.com/repositories/710001"]
    github.expect([Exchange(GET, 302, {}, {"Location": "/y"}), Exchange("GET /y", 200, {})])
    with capture_logs() as logs:
        api.get("github.com", PATH)
    assert logs == []


def test_warnings_about_renamed_repositories_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process forgets them all and warns again, rather than remember any number."""
    monkeypatch.setattr(github_api, "_MOST_MOVED", 2)
    names = ["a", "b", "c"]
    steps = [
        step
        for name in names
        for step in (Exchange(f"GET /repos/o/{name}", 301, {}, {"Location": "/x"}), Exchange("GET /x", 200, {}))
    ]
    api = ScriptedGitHub(*steps).api(SteppedClock(NOW))
    for name in names:
        api.get("github.com", f"/repos/o/{name}")
    assert list(api._moved) == ["https://github.com/o/c"]


def test_the_next_page_of_a_list() -> None:
    """Its address is GitHub's own, on the same host."""
    link = '<https://api.github.com/repositories/7/x?page=2>; rel="next", <https://api.github.com/y>; rel="last"'
    github, answer = ask(Exchange(GET, 200, [], {"Link": link}))
    assert answer.next == "https://api.github.com/repositories/7/x?page=2"
    api = github.api(SteppedClock(NOW))
    github.expect([Exchange("GET /repositories/7/x?page=2", 200, [2])])
    assert api.get("github.com", answer.next).document == [2]
    with pytest.raises(
        GitilesError, match="INTERNAL: the address of the list's next page is on another host"
    ) as raised:
        api.get("github.com", "https://evil.example/x")
    assert raised.value.transient


@pytest.mark.parametrize(
    ("body", "transient", "text"),
    [
        (b"<html>", True, "the answer is not JSON"),
        (b'{"a": ', True, "the answer is not JSON"),
        (b"", True, "the answer is not JSON"),
        (b"[" * 200 + b"]" * 200, True, "nested"),
        (b"[" + b"0," * 600_000 + b"0]", False, "too large"),
    ],
)
def test_unreadable_answers(body: bytes, text: str, *, transient: bool) -> None:
    """An answer that is too large stays so."""
    _, error = ask(Exchange(GET, 200, body))
    assert (error.code, error.transient) == ("INTERNAL", transient)
    assert text in str(error)


def test_the_size_of_an_answer_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of Gitiles: `tests/budgets/test_memory.py` shows that such an answer fits into a function."""
    assert github_api.MAX_BODY_BYTES == gitiles.MAX_BODY_BYTES == 16 << 20
    monkeypatch.setattr(github_api, "MAX_BODY_BYTES", 10)
    _, error = ask(Exchange(GET, 200, "a longer text"))
    assert (error.code, error.transient) == ("INTERNAL", False)


@pytest.mark.parametrize("body", [b"\xff", b"[]", b'{"message": 7}', b"x" * 100_000, b'{"message": "a\\u001b[0m\\nb"}'])
def test_an_error_with_any_body(body: bytes) -> None:
    """It is one short line without control characters."""
    _, error = ask(Exchange(GET, 404, body))
    assert error.code == "NOT_FOUND"
    assert str(error).isprintable()
    assert len(str(error)) < 100


def test_a_token_is_in_no_error_and_no_repr() -> None:
    """The server may repeat it, even in the form of a header."""
    token = "form-of-tomorrow"
    github, error = ask(Exchange(GET, 403, {"message": f"Authorization: Bearer {token} is bad, {token}"}), token=token)
    assert token not in f"{error} {error!r} {error.args}"
    assert token not in repr(TokenCredentials(token))
    assert token in github.sent[0]["headers"]["Authorization"]


@pytest.mark.parametrize("token", ["odd-token\n", "odd-token\r\nX-Other: 1", "odd-tok\u2026en", "odd-token\x00"])
def test_a_token_that_no_header_can_carry_is_not_sent(token: str) -> None:
    """The library's error would quote it."""
    github, error = ask(Exchange(GET), token=token)
    assert (error.code, error.transient, github.sent) == ("UNAUTHENTICATED", False, [])
    assert "odd" not in f"{error!r} {error.__cause__!r}"


@pytest.mark.parametrize("kind", [requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL])
def test_a_text_of_the_library_is_not_quoted(kind: type[Exception]) -> None:
    """It may hold a header with a token."""
    github = ScriptedGitHub(Exchange(GET))
    github.on_request = Mock(side_effect=kind("bad value: 'Bearer form-of-tomorrow'"))
    with pytest.raises(GitilesError, match=f"^UNKNOWN: no answer: {kind.__name__}$") as raised:
        github.api(SteppedClock(NOW)).get("github.com", PATH)
    assert raised.value.transient


class _Renewing:
    """Credentials that have a list of tokens."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.refused: list[str] = []

    def token(self, _: Any) -> str:
        """Return the present token."""
        return self.tokens[0]

    def renew(self, refused: str) -> bool:
        """Take the next token, if there is one."""
        self.refused.append(refused)
        del self.tokens[: len(self.tokens) > 1]
        return True


def test_a_refused_token_is_renewed_once() -> None:
    """A second refusal is the answer."""
    unauthorized = Exchange(GET, 401, {"message": "Bad credentials"})
    renewing = _Renewing("one", "two", "three")
    github = ScriptedGitHub(unauthorized, Exchange(GET, 200, {}))
    api = github.api(SteppedClock(NOW), renewing)
    assert api.get("github.com", PATH).status == 200
    github.expect([unauthorized, unauthorized])
    with pytest.raises(GitilesError) as raised:
        api.get("github.com", PATH)
    assert raised.value.code == "UNAUTHENTICATED"
    assert renewing.refused == ["one", "two"]
    assert [item["headers"]["Authorization"][7:] for item in github.sent] == ["one", "two", "two", "three"]


def test_requests_to_a_host_go_one_after_another() -> None:
    """Requests of eight threads never overlap."""
    running, most = 0, 0

    def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        started.wait(0.01)
        running -= 1

    started = threading.Event()
    github = ScriptedGitHub(*[Exchange(GET, 200, {})] * 8)
    github.on_request = count
    api = github.api(SteppedClock(NOW))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: api.get("github.com", PATH), range(8)))
    assert most == 1


def _blocked(github: ScriptedGitHub) -> tuple[Callable[[], object], threading.Event]:
    """Let the first request wait; return the wait for its start, and the event that ends it."""
    entered, end = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        end.wait(60)

    github.on_request = block
    return lambda: until(entered.is_set), end


def test_the_wait_for_other_requests_counts() -> None:
    """A call ends at its deadline even if it was never sent."""
    github = ScriptedGitHub(Exchange(GET, 200, {}))
    api = github.api(SteppedClock(NOW), deadline=SECOND // 20)
    wait_for_start, end = _blocked(github)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.get, "github.com", PATH)
        wait_for_start()
        with pytest.raises(
            GitilesError, match="DEADLINE_EXCEEDED: the requests before this one took too long"
        ) as raised:
            api.get("github.com", PATH)
        end.set()
        assert first.result(60).status == 200
    assert raised.value.transient
    assert len(github.sent) == 1


def test_without_time_nothing_is_sent() -> None:
    """The delivery's budget bounds each call."""
    github = ScriptedGitHub()
    with limited(-1.0), pytest.raises(TransientError):
        github.api(SteppedClock(NOW)).get("github.com", PATH)
    assert github.sent == []
