"""Names of configs and events inside addresses and document paths: none leaves its place."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from luci_scheduler.adapters.documents.ids import document_id, plain_id
from luci_scheduler.adapters.gitiles import GitilesClient, host_urls
from luci_scheduler.adapters.http import sessions
from luci_scheduler.adapters.system import SystemClock
from luci_scheduler.config.validator import validate
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url
from luci_scheduler.ports import GitilesError
from tests.answering import Answer, answering

_RESERVED = re.compile(r"__.*__|\.\.?")  # Firestore's rules for names of documents
HOSTILE = (
    "a/b", "../a", "a/../../b", "..", ".", "__id__", "__", "/", "//", "%2F", "%2e%2e", "a b", "a?b#c", "\u2028",
    "a\nb", "\x00", "\u00e9", "x" * 2_000, "\u00e9" * 600, "jobs/other", "projects(default)", "\\..\\", "$where",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_stays_in_its_collection(name: str) -> None:
    """Its document ID is one part of a path, not reserved, within Firestore's limit, and leads back to the name."""
    made = document_id(name)
    assert "/" not in made
    assert not _RESERVED.fullmatch(made)
    assert made.isprintable()
    assert len(made.encode()) <= 1_500
    assert made.startswith("sha256-") or plain_id(made) == name


def test_different_names_have_different_documents() -> None:
    """Also names that look encoded."""
    made = [document_id(name) for name in HOSTILE]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_a_name_that_no_document_can_have_is_refused(name: str) -> None:
    """The error is permanent, so nothing is tried again."""
    with pytest.raises(PermanentError):
        document_id(name)


@pytest.mark.parametrize("project", ["a/../../b", "a?format=TEXT", "a#b", "a/+/main", "a%2f..", "a\r\nX: y", "é"])
def test_a_repositorys_name_is_one_part_of_an_address(project: str) -> None:
    """If a config or an event may name such a repository at all."""
    with answering(Answer(200, b")]}'\n{}")) as server:
        client = GitilesClient(
            lambda _: server.url, sessions(authenticated=False), 5 * SECOND, authenticated=False, clock=SystemClock()
        )
        client.refs(RepoUrl("h.googlesource.com", project), "refs/heads")
        (path,) = server.paths
    parts = path.partition("?")[0].split("/")
    assert [unquote(part) for part in parts[1:]] == [project, "+refs/heads"]


@pytest.mark.parametrize(
    "url",
    [
        "https://h.googlesource.com@evil.example/a",
        "https://h.googlesource.com:80/a",
        "https://h.googlesource.com/a?b",
        "https://h.googlesource.com/a\r\nX: y",
        "http://169.254.169.254/a",
        "file:///etc/passwd",
    ],
)
def test_an_address_of_a_repository_names_a_host_and_a_repository(url: str) -> None:
    """Either it is refused, or the client refuses its host without a request."""
    try:
        repo = parse_repo_url(url)
    except BadRepoUrlError:
        return
    client = GitilesClient(
        host_urls({}), sessions(authenticated=False), SECOND, authenticated=False, clock=SystemClock()
    )
    with pytest.raises(GitilesError, match="not an allowed host"):
        client.refs(repo, "refs/heads")


@pytest.mark.parametrize(
    "name", ["a/b", "..%2f", "a\\nb", "<b>", "a\\u2028", "$(id)", "`id`", "a:b", "a;b", "\\xc3\\xa9"]
)
def test_a_jobs_name_has_few_signs(name: str) -> None:
    """It becomes part of addresses, document IDs, log lines and tags."""
    result = validate(f'job {{ id: "{name}" noop {{}} }}'.encode(), project="proj")
    assert any("is not valid value for 'id' field" in str(problem) for problem in result.errors), result.problems
