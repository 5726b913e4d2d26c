"""Configs in GitHub repositories: the requests, and the outcome of every kind of failure."""

import base64
from typing import Any

import pytest

from emulator.clock import SteppedClock
from luci_scheduler.adapters.github_source import GitHubSource
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import ConfigFile
from tests.scripted_github import Exchange, ScriptedGitHub

REPO = RepoUrl("github.com", "example-org/configs")
ROOT = "GET /repos/example-org/configs"
PATH = "infra/luci scheduler.cfg"
HEAD = f"{ROOT}/commits/heads/main?per_page=1"
TIP = "c" * 40
COMMITS = f"{ROOT}/commits?sha={TIP}&path=infra%2Fluci+scheduler.cfg&per_page=1"
TEXT = 'job {\n  id: "café"\n}\n'
SHA = "a" * 40
CONTENTS = f"{ROOT}/contents/infra/luci%20scheduler.cfg?ref={SHA}"


def tip(etag: str = "1") -> Exchange:
    """Return the head of the branch."""
    return Exchange(HEAD, 200, {"sha": TIP, "parents": [], "commit": {}}, {"ETag": etag})


def listed(sha: str = SHA) -> Exchange:
    """Return the last commit that changed the file."""
    return Exchange(COMMITS, 200, [{"sha": sha, "parents": [], "commit": {}}])


def content(text: str = TEXT, **members: Any) -> Exchange:
    """Return the file, in lines of base64 as GitHub writes them."""
    encoded = base64.encodebytes(text.encode()).decode()
    return Exchange(CONTENTS, 200, {"encoding": "base64", "content": encoded, "sha": "b" * 40, **members})


def read(*exchanges: Exchange, active: str = "") -> tuple[ScriptedGitHub, list[ConfigFile]]:
    """Read the source once, at the head of the branch."""
    github = ScriptedGitHub(tip(), *exchanges)
    return github, source(github).configs(lambda _: active)


def source(github: ScriptedGitHub, ref: str = "refs/heads/main") -> GitHubSource:
    """Return a source."""
    return GitHubSource("widget", REPO, ref, PATH, github.api(SteppedClock(Instant(0))))


def test_a_file() -> None:
    """The revision is the last commit that touched the file, with its page. The text is as committed."""
    _, files = read(listed(), content())
    page = f"https://github.com/example-org/configs/blob/{SHA}/infra/luci%20scheduler.cfg"
    assert files == [ConfigFile("widget", TEXT.encode(), SHA, page)]


def test_an_unchanged_config_is_one_conditional_request() -> None:
    """It costs nothing of the limit. The file is read again only if the caller wants that."""
    github = ScriptedGitHub(tip(), listed(), content(), Exchange(HEAD, 304), Exchange(HEAD, 304), content())
    one = source(github)
    assert len(one.configs(lambda _: "")) == 1
    assert one.configs(lambda _: SHA) == []
    assert [file.revision for file in one.configs(lambda _: "")] == [SHA]
    assert [item["headers"].get("If-None-Match") for item in github.sent] == [None, None, None, "1", "1", None]


def test_github_does_not_say_forever_that_nothing_has_changed() -> None:
    """If that is wrong, a changed config is late and not lost."""
    github = ScriptedGitHub(tip(), listed(), *[Exchange(HEAD, 304)] * 100, tip(), listed("d" * 40), Exchange(HEAD, 304))
    one = source(github)
    found = [one.configs(lambda _: SHA) for _ in range(101)]
    assert found == [[]] * 101
    assert [one.configs(lambda _: "d" * 40) for _ in range(2)] == [[], []]


def test_a_changed_branch_with_an_unchanged_config() -> None:
    """The new head is noted, and the next request is conditional again."""
    github = ScriptedGitHub(tip(), listed(), tip("2"), listed(), Exchange(HEAD, 304))
    one = source(github)
    assert [one.configs(lambda _: SHA) for _ in range(3)] == [[], [], []]
    assert [item["headers"].get("If-None-Match") for item in github.sent] == [None, None, "1", None, "2"]


@pytest.mark.parametrize("answer", [Exchange(HEAD, 304), Exchange(HEAD, 200, b"null")])
def test_an_answer_without_a_head_is_not_an_unchanged_one(answer: Exchange) -> None:
    """No revision is known yet, and an empty one would count as active: the config would never be read."""
    (file,) = source(ScriptedGitHub(answer)).configs(lambda _: "")
    assert "INTERNAL: the answer holds a commit without its hash" in file.error


def test_an_active_revision_is_not_read() -> None:
    """The first sync of a process does not read it either."""
    github, files = read(listed(), active=SHA)
    assert files == []
    assert len(github.sent) == 2


def test_a_large_file_comes_from_its_object() -> None:
    """GitHub leaves out the content of a file above a megabyte."""
    blob = Exchange(f"{ROOT}/git/blobs/{'b' * 40}", 200, content().body)
    _, (file,) = read(listed(), content("", encoding="none", content=""), blob)
    assert file.text == TEXT.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"status": "removed", "filename": PATH},
        {"status": "renamed", "previous_filename": PATH, "filename": "elsewhere.cfg"},
    ],
)
def test_a_removed_file_defines_no_jobs(change: dict[str, Any]) -> None:
    """The original reads it the same way. The change may be on a later page."""
    link = {"Link": '<https://api.github.com/repositories/7/x?page=2>; rel="next"'}
    first = Exchange(
        f"{ROOT}/commits/{SHA}?per_page=100", 200, {"files": [{"filename": "other", "status": "added"}]}, link
    )
    second = Exchange("GET /repositories/7/x?page=2", 200, {"files": [change]})
    _, (file,) = read(listed(), Exchange(CONTENTS, 404, {"message": "Not Found"}), first, second)
    assert (file.text, file.revision, file.error) == (b"", SHA, "")


def test_an_endless_list_of_files_is_an_error() -> None:
    """A commit has at most 30 pages."""
    link = {"Link": '<https://api.github.com/x>; rel="next"'}
    page = {"files": [{"filename": "other", "status": "added"}]}
    first = Exchange(f"{ROOT}/commits/{SHA}?per_page=100", 200, page, link)
    gone = Exchange(CONTENTS, 404, {"message": "Not Found"})
    github, (file,) = read(listed(), gone, first, *[Exchange("GET /x", 200, page, link)] * 40)
    assert "the list of files does not end" in file.error
    assert len(github.sent) == 34


@pytest.mark.parametrize(
    "change",
    [
        {"status": "modified", "filename": PATH},
        {"status": "copied", "previous_filename": PATH, "filename": "elsewhere.cfg"},
        {"status": "renamed", "previous_filename": "elsewhere.cfg", "filename": PATH},
        {"status": "removed", "filename": "elsewhere.cfg"},
    ],
)
def test_a_missing_file_alone_disables_nothing(change: dict[str, Any]) -> None:
    """A new commit may not be visible on every replica yet."""
    detail = Exchange(f"{ROOT}/commits/{SHA}?per_page=100", 200, {"files": [change]})
    _, (file,) = read(listed(), Exchange(CONTENTS, 404, {"message": "Not Found"}), detail)
    assert "NOT_FOUND: HTTP 404: Not Found" in file.error


@pytest.mark.parametrize(
    ("exchanges", "reason"),
    [
        ([Exchange(COMMITS, 200, [])], "no commit has changed the file; check the path"),
        ([Exchange(COMMITS, 200, {})], "INTERNAL: the answer is not a list of commits"),
        ([Exchange(COMMITS, 404, {"message": "Not Found"})], "NOT_FOUND: HTTP 404: Not Found"),
        ([Exchange(COMMITS, 409, {"message": "Git Repository is empty."})], "HTTP 409: Git Repository is empty."),
        ([Exchange(COMMITS, 403, {"message": "rate limit"})], "RESOURCE_EXHAUSTED"),
        ([listed(), Exchange(CONTENTS, 502, {})], "UNAVAILABLE: HTTP 502"),
        ([listed(), content(encoding="utf-8")], "the answer holds no file"),
        ([listed(), content(content="!!!!")], "base64"),
        ([listed(), Exchange(CONTENTS, 200, [])], "the answer holds no file"),
    ],
)
def test_a_config_that_cannot_be_read(exchanges: list[Exchange], reason: str) -> None:
    """The active config stays, and the error names the file and the reason."""
    _, (file,) = read(*exchanges)
    assert (file.text, file.revision) == ("", "")
    assert file.error.startswith(f"{PATH} of https://github.com/example-org/configs (refs/heads/main) cannot be read: ")
    assert reason in file.error
